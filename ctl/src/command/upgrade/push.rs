// SPDX-License-Identifier: Apache-2.0
//! An image on its way to a node.

use super::{Told, bar::Bars, progress};
use crate::{
    app::{Misuse, Targets},
    client::Session,
    failure::Failure,
    node::Node,
};
use anyhow::{Result, bail};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use stele_proto::v1::{Progress, PushHeader, PushRequest, push_request::Part};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

/// What is shown meanwhile. How far it is, the node says: what has left here may still be on its way.
const UPLOADING: &str = "uploading";
const TRIED: &str = "Uploading the image";

/// Most bytes of one uploaded chunk.
const CHUNK: usize = 512 * 1024;
/// Chunks that wait for the network.
const CHUNKS: usize = 2;
/// Connections in a row that may bring the node nothing, and the pause before the first of them.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);

/// An image to upload, read once for all nodes.
#[derive(Clone, Debug)]
pub(super) struct Image {
    bytes: Bytes,
    sha256: [u8; 32],
    /// In DER.
    signature: Bytes,
}

impl Image {
    /// Reads a UKI, and its signature from beside it.
    pub(super) fn read(path: &Path) -> Result<Image> {
        let bytes = fs::read(path)
            .map_err(|error| Misuse(format!("Reading {}: {error}", path.display())))?;
        if !bytes.starts_with(b"MZ") {
            return Err(Misuse(format!(
                "{} is no UKI: it does not begin as an EFI program does. Is it stele.efi?",
                path.display()
            ))
            .into());
        }
        let sha256 = Sha256::digest(&bytes).into();
        let signature = read_signature(path)?;
        Ok(Image { bytes: Bytes::from(bytes), sha256, signature })
    }
}

fn read_signature(image: &Path) -> Result<Bytes> {
    let mut path = image.as_os_str().to_owned();
    path.push(".sig");
    let path = PathBuf::from(path);
    let hint = "nodes take signed images only; image sign --key KEY FILE signs one";
    let text = fs::read_to_string(&path)
        .map_err(|error| Misuse(format!("Reading {}: {error}; {hint}", path.display())))?;
    let der = stele_signature::read(&text)
        .map_err(|error| Misuse(format!("{}: {error}; {hint}", path.display())))?;
    Ok(Bytes::from(der))
}

/// Uploads an image, over as many connections as it takes; the slot that it is in.
pub(super) async fn push(
    targets: &Targets,
    session: Session,
    bars: &Bars,
    image: &Image,
    rate: u64,
) -> Result<String> {
    let node = session.node.clone();
    let mut upload = Upload { node: &node, bars, image, rate, told: Told::new(UPLOADING), at: 0 };
    let mut session = Some(session);
    let mut failed = 0;
    loop {
        let before = upload.at;
        let attempt = async {
            let session = match session.take() {
                Some(session) => session,
                None => targets.connect(&node).await?,
            };
            upload.attempt(&session).await
        };
        let failure = match attempt.await {
            Ok(()) => break,
            Err(failure) => failure,
        };
        failed = if upload.at > before { 1 } else { failed + 1 };
        if !is_passing(&failure) || failed > TRIES {
            return Err(failure.into());
        }
        bars.say(&node, &format!("uploading broke off, trying again: {}", failure.why));
        tokio::time::sleep(PAUSE * (1 << (failed - 1).min(4))).await;
    }
    if upload.told.slot.is_empty() {
        bail!(
            "The node took the image and did not say which slot it is in. ctl slots shows what there is"
        );
    }
    Ok(upload.told.slot)
}

/// Whether another connection may bring more.
fn is_passing(failure: &Failure) -> bool {
    failure.is_lost() || matches!(failure.code, Some(Code::Unavailable | Code::Aborted))
}

/// An upload under way.
struct Upload<'a> {
    node: &'a Node,
    bars: &'a Bars,
    image: &'a Image,
    rate: u64,
    told: Told,
    /// The byte that the node wanted last.
    at: u64,
}

impl Upload<'_> {
    async fn attempt(&mut self, session: &Session) -> Result<(), Failure> {
        let failed = |status| Failure::status(TRIED.to_owned(), &status);
        let (sender, requests) = mpsc::channel(CHUNKS);
        let header = PushHeader {
            size: self.image.bytes.len() as u64,
            sha256: self.image.sha256.to_vec(),
            signature: self.image.signature.clone().into(),
        };
        // There is room for it, and somebody to take it.
        let _taken = sender.send(PushRequest { part: Some(Part::Header(header)) }).await;
        let stream = session.upgrade().push(ReceiverStream::new(requests)).await;
        let mut stream: Streaming<Progress> = stream.map_err(failed)?.into_inner();
        let Some(first) = stream.message().await.map_err(failed)? else {
            return Err(Failure::new(TRIED, "the node ended the call without a word", None));
        };
        self.at = first.done;
        let from = usize::try_from(first.done).unwrap_or(usize::MAX);
        self.bars.begin(self.node, UPLOADING, first.total).at(self.node, first.done);
        let rest = self.image.bytes.get(from..).map(|_| self.image.bytes.slice(from..));
        let feed = feed(rest.unwrap_or_default(), self.rate, sender);
        let progress = progress(self.node, self.bars, TRIED, stream, &mut self.told);
        tokio::pin!(progress);
        tokio::select! {
            // What the node has said it has said; the rest is of no use to it.
            told = &mut progress => told,
            () = feed => progress.await,
        }
    }
}

/// Sends bytes no faster than wanted, until nobody takes them any more.
async fn feed(mut rest: Bytes, rate: u64, sender: mpsc::Sender<PushRequest>) {
    let start = Instant::now();
    let mut sent = 0u64;
    // A slow line gets smaller pieces, ten a second.
    let chunk = if rate == 0 {
        CHUNK
    } else {
        CHUNK.min(usize::try_from(rate / 10).unwrap_or(CHUNK)).max(1024)
    };
    while !rest.is_empty() {
        let piece = rest.split_to(chunk.min(rest.len()));
        sent += piece.len() as u64;
        if sender.send(PushRequest { part: Some(Part::Chunk(piece)) }).await.is_err() {
            return;
        }
        if let Some(due) = sent.saturating_mul(1000).checked_div(rate) {
            tokio::time::sleep_until(start + Duration::from_millis(due)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_needs_its_signature_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("stele.efi");
        fs::write(&image, b"MZ and so on").unwrap();
        let read = || Image::read(&image).unwrap_err().to_string();
        assert!(
            read().contains("stele.efi.sig") && read().contains("image sign --key"),
            "{}",
            read()
        );
        fs::write(folder.path().join("stele.efi.sig"), "no signature").unwrap();
        assert!(read().contains("this is not a"), "{}", read());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_flow_no_faster_than_wanted() {
        for (rate, seconds) in [(0, 0), (100_000, 10), (1_000_000, 1)] {
            let (sender, mut requests) = mpsc::channel(CHUNKS);
            let start = Instant::now();
            let fed = tokio::spawn(feed(Bytes::from(vec![7; 1_000_000]), rate, sender));
            let mut got = 0;
            while let Some(PushRequest { part: Some(Part::Chunk(chunk)) }) = requests.recv().await {
                got += chunk.len();
            }
            fed.await.unwrap();
            assert_eq!((got, start.elapsed().as_secs()), (1_000_000, seconds));
        }
    }
}
