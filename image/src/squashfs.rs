// SPDX-License-Identifier: Apache-2.0
//! Packs the root into a squashfs.

use crate::tree::{Node, Tree};
use anyhow::{Context, Result};
use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};
use std::io::Cursor;

/// How hard a release is compressed: the image stays in memory for as long as the machine runs.
pub const RELEASE_LEVEL: u32 = 19;

/// 256 KiB: larger saves little and makes every cold page fault unpack more.
const BLOCK: u32 = 256 * 1024;

/// The squashfs of a tree. Everything belongs to root and is as old as `epoch`.
pub fn pack(tree: &Tree, level: u32, epoch: u32) -> Result<Vec<u8>> {
    let pack = || -> Result<Vec<u8>> {
        let mut writer = FilesystemWriter::default();
        writer.set_block_size(BLOCK);
        writer.set_time(epoch);
        writer.set_root_mode(0o755);
        writer.set_only_root_id();
        let options = CompressionOptions::Zstd(Zstd { compression_level: level });
        writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options))?);
        let header = |mode: u32| -> Result<NodeHeader> {
            Ok(NodeHeader::new(u16::try_from(mode)?, 0, 0, epoch))
        };
        for (path, node) in tree.iter() {
            match node {
                Node::Folder => writer.push_dir(path, header(0o755)?),
                Node::File { mode, data } => {
                    writer.push_file(Cursor::new(data.clone()), path, header(*mode)?)
                }
                Node::Link(target) => writer.push_symlink(target, path, header(0o777)?),
            }?;
        }
        let mut out = Cursor::new(Vec::new());
        writer.write(&mut out)?;
        Ok(out.into_inner())
    };
    pack().context("Packing the root into a squashfs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use backhand::{FilesystemReader, InnerNode};
    use std::io::Read;

    #[test]
    fn what_goes_in_comes_out_and_twice_the_same() {
        let mut tree = Tree::default();
        tree.folder("proc");
        tree.file("sbin/init", 0o755, vec![7; 600_000]);
        tree.file("etc/empty", 0o644, Vec::new());
        tree.link("lib", "usr/lib");
        let image = pack(&tree, 3, 1_700_000_000).unwrap();
        assert_eq!(image, pack(&tree, 3, 1_700_000_000).unwrap());

        let reader = FilesystemReader::from_reader(Cursor::new(image)).unwrap();
        let mut found = 0;
        for node in reader.files() {
            let path = node.fullpath.to_str().unwrap().trim_start_matches('/');
            match (&node.inner, tree.get(path)) {
                (InnerNode::File(file), Some(Node::File { mode, data })) => {
                    let mut bytes = Vec::new();
                    reader.file(file).reader().read_to_end(&mut bytes).unwrap();
                    assert_eq!(bytes, &data[..]);
                    assert_eq!(u32::from(node.header.permissions), *mode);
                    found += 1;
                }
                (InnerNode::Symlink(link), Some(Node::Link(target))) => {
                    assert_eq!(link.link.to_str(), Some(target.as_str()));
                    found += 1;
                }
                (InnerNode::Dir(_), _) => {}
                (other, _) => panic!("{path}: {other:?}"),
            }
        }
        assert_eq!(found, 3);
    }
}
