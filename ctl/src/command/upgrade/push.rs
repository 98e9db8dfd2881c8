// SPDX-License-Identifier: Apache-2.0
//! An image on its way to a node.

use super::{Told, bar::Bars, progress};
use crate::{app::Misuse, client::Session, failure::Failure};
use anyhow::{Result, bail};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{fs, path::Path};
use stele_proto::v1::{PushHeader, PushRequest, push_request::Part};

/// What is shown meanwhile. How far it is, the node says: what has left here may still be on its way.
const UPLOADING: &str = "uploading";

/// Most bytes of one uploaded chunk.
const CHUNK: usize = 512 * 1024;

/// An image to upload, read once for all nodes.
#[derive(Clone, Debug)]
pub(super) struct Image {
    bytes: Bytes,
    sha256: [u8; 32],
}

impl Image {
    /// Reads a UKI.
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
        Ok(Image { bytes: Bytes::from(bytes), sha256 })
    }
}

/// Uploads an image; the slot that it is in.
pub(super) async fn push(session: &Session, bars: &Bars, image: Image) -> Result<String> {
    let node = &session.node;
    bars.begin(node, UPLOADING, image.bytes.len() as u64);
    let header =
        Part::Header(PushHeader { size: image.bytes.len() as u64, sha256: image.sha256.to_vec() });
    let bytes = image.bytes.clone();
    let starts = (0..bytes.len()).step_by(CHUNK);
    let chunks =
        starts.map(move |start| Part::Chunk(bytes.slice(start..(start + CHUNK).min(bytes.len()))));
    let requests =
        std::iter::once(header).chain(chunks).map(|part| PushRequest { part: Some(part) });
    let tried = "Uploading the image";
    let stream = session
        .upgrade()
        .push(tokio_stream::iter(requests))
        .await
        .map_err(|status| Failure::status(tried.to_owned(), &status))?;
    let mut told = Told::new(UPLOADING);
    progress(node, bars, tried, stream.into_inner(), &mut told).await?;
    let slot = told.slot;
    if slot.is_empty() {
        bail!(
            "The node took the image and did not say which slot it is in. ctl slots shows what there is"
        );
    }
    Ok(slot)
}
