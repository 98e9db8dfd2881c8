// SPDX-License-Identifier: Apache-2.0
//! An image that the caller sends: the call's messages on one side, the work on the other.

use super::{WORDS, invalid, stage, staging::Source, tell};
use crate::{
    api::{Gone, Refusal, Requests, Responses},
    handlers::Answer,
    node::Node,
};
use bytes::Bytes;
use prost::Message as _;
use std::rc::Rc;
use stele_proto::v1::{PushHeader, PushRequest, push_request::Part};
use tokio::sync::mpsc;

/// Chunks of an upload that wait for the disk.
const CHUNKS: usize = 4;

/// Takes an upload and stages it.
pub(crate) async fn push(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let header = match requests.next().await?.map(PushRequest::decode) {
        Some(Ok(PushRequest { part: Some(Part::Header(header)) })) if header.sha256.len() == 32 => {
            header
        }
        _ => {
            return Ok(Err(invalid(
                "an upload starts with a header that has the image's size and its SHA-256, 32 bytes",
            )));
        }
    };
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let (told, words) = mpsc::channel(WORDS);
    let (node, source) = (Rc::clone(node), source(header, chunks));
    let work =
        tokio::task::spawn_local(async move { stage(&node, source, 0, &told).await.map(drop) });
    // Never cancelled in the middle of a frame, as it is not asked again after it has lost.
    let fed = {
        let feed = feed(requests, sender);
        let tell = tell(words, responses);
        tokio::pin!(feed, tell);
        tokio::select! {
            told = &mut tell => { told?; None }
            fed = &mut feed => match fed? {
                Ok(()) => { tell.await?; None }
                Err(refusal) => Some(refusal),
            }
        }
    };
    match (fed, work.await) {
        (Some(refusal), _) => Ok(Err(refusal)),
        (None, result) => Ok(result.unwrap_or_else(|error| Err(Refusal::internal(&error)))),
    }
}

fn source(header: PushHeader, chunks: mpsc::Receiver<Bytes>) -> Source {
    let PushHeader { size, sha256, signature } = header;
    Source::Caller { size, sha256: hex(&sha256), signature: base64(&signature), chunks }
}

/// Hands the caller's chunks on, until it sends no more or nobody takes them.
async fn feed(
    requests: &mut Requests,
    sender: mpsc::Sender<Bytes>,
) -> Result<Result<(), Refusal>, Gone> {
    while let Some(message) = requests.next().await? {
        let Ok(PushRequest { part: Some(Part::Chunk(chunk)) }) = PushRequest::decode(message)
        else {
            return Ok(Err(invalid("after its header an upload consists of chunks")));
        };
        if sender.send(chunk).await.is_err() {
            // stage has ended; why is in its answer, and what still comes is of no use.
            std::future::pending::<()>().await;
        }
    }
    Ok(Ok(()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The form in which stage takes signatures, that of `FILE.sig`.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, index| {
            bits << 8 | usize::from(group.get(index).copied().unwrap_or(0))
        });
        for place in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            text.push(char::from(if place > group.len() { b'=' } else { digit }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
