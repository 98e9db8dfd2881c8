// SPDX-License-Identifier: Apache-2.0
//! The initramfs: an uncompressed cpio (newc), because what is in it is compressed already and because yesterday's bytes
//! then stand unchanged in today's file.
//!
//! ```text
//! /init                  PID 1
//! /modules/NN-NAME.ko    loaded in name order
//! /rootfs.sqsh           the root
//! /dev /proc /sys /root  mount points
//! ```

use anyhow::{Context, Result};
use cpio::newc::{Builder, trailer};
use std::io::Write;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// What an initramfs holds.
#[derive(Debug, Clone, Copy)]
pub struct Initramfs<'a> {
    /// A static program.
    pub init: &'a [u8],
    /// Names without the number, and contents, in the order in which they must be loaded.
    pub modules: &'a [(String, Vec<u8>)],
    /// The squashfs; an initramfs for a measurement needs none.
    pub rootfs: Option<&'a [u8]>,
}

impl Initramfs<'_> {
    /// The cpio.
    pub fn pack(&self) -> Result<Vec<u8>> {
        let mut entries: Vec<(String, u32, &[u8])> = Vec::new();
        for folder in ["dev", "modules", "proc", "root", "sys"] {
            entries.push((folder.to_owned(), FOLDER | 0o755, &[]));
        }
        entries.push(("init".to_owned(), FILE | 0o755, self.init));
        for (number, (name, data)) in self.modules.iter().enumerate() {
            entries.push((format!("modules/{number:02}-{name}"), FILE | 0o644, data));
        }
        if let Some(rootfs) = self.rootfs {
            entries.push(("rootfs.sqsh".to_owned(), FILE | 0o444, rootfs));
        }

        let pack = || -> Result<Vec<u8>> {
            let mut out = Vec::new();
            for (inode, (name, mode, data)) in entries.iter().enumerate() {
                let builder =
                    Builder::new(name).ino(u32::try_from(inode)? + 1).mode(*mode).nlink(1).mtime(0);
                let mut writer = builder.write(&mut out, u32::try_from(data.len())?);
                writer.write_all(data)?;
                writer.finish()?;
            }
            trailer(&mut out)?;
            Ok(out)
        };
        pack().context("Packing the initramfs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;

    #[test]
    fn entries_come_in_order_and_whole() {
        let modules = [("loop.ko".to_owned(), vec![1, 2, 3]), ("squashfs.ko".to_owned(), vec![4])];
        let packed =
            Initramfs { init: b"static", modules: &modules, rootfs: Some(b"root") }.pack().unwrap();
        let mut names = Vec::new();
        let mut rest = &packed[..];
        loop {
            let reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(format!(
                "{} {:o} {}",
                reader.entry().name(),
                reader.entry().mode(),
                reader.entry().file_size()
            ));
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            names[5..],
            [
                "init 100755 6",
                "modules/00-loop.ko 100644 3",
                "modules/01-squashfs.ko 100644 1",
                "rootfs.sqsh 100444 4"
            ]
        );
    }
}
