// SPDX-License-Identifier: Apache-2.0
//! Unpacks a `.deb`: an ar archive whose member `data.tar.*` is the files (deb(5)).

use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// The files of a package that `wanted` accepts.
pub fn unpack(deb: &Path, wanted: impl Fn(&str) -> bool) -> Result<Tree> {
    let open = || -> Result<Tree> {
        let mut archive = ar::Archive::new(BufReader::new(File::open(deb)?));
        while let Some(member) = archive.next_entry() {
            let member = member?;
            let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
            let Some(packing) = name.strip_prefix("data.tar") else { continue };
            return match packing {
                ".xz" => Tree::read_tar(xz(member), &wanted),
                ".zst" => Tree::read_tar(zstd::Decoder::new(member)?, &wanted),
                "" => Tree::read_tar(member, &wanted),
                other => bail!("its files are packed as {other}, which is none of .xz and .zst"),
            };
        }
        bail!("it has no data.tar member, so it is no Debian package");
    };
    open().with_context(|| format!("Unpacking {}", deb.display()))
}

/// Decompresses an xz stream.
pub fn xz(input: impl Read) -> impl Read {
    lzma_rust2::XzReader::new(BufReader::with_capacity(1 << 16, input), true)
}
