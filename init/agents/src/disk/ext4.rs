// SPDX-License-Identifier: Apache-2.0
//! What a partition holds, from its superblock; see the kernel's Documentation/filesystems/ext4/super.rst.

/// Where the superblock is.
pub const OFFSET: u64 = 1024;

/// How large it is.
pub const SIZE: usize = 1024;

const MAGIC: u16 = 0xef53;
const STATE_CLEAN: u16 = 1;
const STATE_ERRORS: u16 = 2;
const INCOMPAT_RECOVER: u32 = 4;
/// Where its checksum is, over all that is before.
pub(crate) const CHECKSUM: usize = 0x3fc;

/// What a partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file system of the ext family.
    Ext {
        /// Its label.
        label: String,
        /// True if it was left in order, and its superblock is what was written.
        clean: bool,
    },
    /// Nothing that is known here.
    Unknown,
}

/// Reads a superblock.
#[must_use]
pub fn parse(superblock: &[u8; SIZE]) -> Content {
    if u16_at(superblock, 0x38) != MAGIC {
        return Content::Unknown;
    }
    let label = superblock
        .iter()
        .skip(0x78)
        .take(16)
        .copied()
        .take_while(|byte| *byte != 0)
        .collect::<Vec<u8>>();
    let state = u16_at(superblock, 0x3a);
    let in_order = state & STATE_CLEAN != 0
        && state & STATE_ERRORS == 0
        && u32_at(superblock, 0x60) & INCOMPAT_RECOVER == 0;
    Content::Ext {
        label: String::from_utf8_lossy(&label).into_owned(),
        clean: in_order && intact(superblock),
    }
}

/// Does the superblock have the checksum it says? Those that our file systems are made with have one.
fn intact(superblock: &[u8; SIZE]) -> bool {
    let (bytes, _) = superblock.split_at(CHECKSUM);
    crc32c(bytes) == u32_at(superblock, CHECKSUM)
}

/// CRC-32C as ext4 uses it: without the final inversion.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82f6_3b78 }
        })
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.iter().skip(at).take(2).rev().fold(0, |value, byte| (value << 8) | u16::from(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).rev().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

/// What to do with a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Make a file system: nobody has used it yet.
    Format,
    /// It is in order.
    Use,
    /// Have it checked, and what can be repaired without a loss repaired.
    Check,
    /// Leave it alone, for this reason.
    Reject(String),
}

/// Decides what to do with a partition of ours.
#[must_use]
pub fn treat(label: &str, unused: bool, content: &Content) -> Treatment {
    match content {
        _ if unused => Treatment::Format,
        Content::Ext { label: found, .. } if found != label => Treatment::Reject(format!(
            "it holds a file system named {found:?}, which is not ours; it is left alone"
        )),
        Content::Ext { clean: true, .. } => Treatment::Use,
        Content::Ext { clean: false, .. } => Treatment::Check,
        Content::Unknown => Treatment::Reject(
            "it is corrupt and holds no file system any more; it is left alone".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_nobody_has_used_is_formatted() {
        let ours = |clean| Content::Ext { label: "STATE".into(), clean };
        assert_eq!(treat("STATE", true, &Content::Unknown), Treatment::Format);
        assert_eq!(treat("STATE", true, &ours(false)), Treatment::Format);
        assert_eq!(treat("STATE", false, &ours(true)), Treatment::Use);
        assert_eq!(treat("STATE", false, &ours(false)), Treatment::Check);
        assert!(matches!(treat("STATE", false, &Content::Unknown), Treatment::Reject(_)));
        assert!(matches!(treat("DATA", false, &ours(true)), Treatment::Reject(_)));
    }

    #[test]
    fn crc32c_of_the_standard() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), SIZE)) {
            let _ = parse(bytes.as_slice().try_into().unwrap());
        }
    }
}
