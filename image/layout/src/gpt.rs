// SPDX-License-Identifier: Apache-2.0
//! The partition table: which partitions a disk of ours has, how they are told apart, and how large they are.
//!
//! ```text
//! LBA 0   MBR │ GPT │ 1 MiB: ESP 512 MiB │ STATE 128 MiB │ DATA, the rest │ GPT backup
//! ```
//!
//! The image builder writes the ESP alone; the `disk` agent adds the others on the first boot. Sizes bind for years (a
//! partition is never resized under a running machine), so the ESP has room for several images of ten times today's size.

/// A GPT GUID as it stands on the disk: the first three groups are little-endian, the last two are not.
pub type Guid = [u8; 16];

/// The sector size all of our arithmetic uses.
pub const SECTOR: u64 = 512;

/// Every partition starts and ends on a multiple of this many sectors (1 MiB).
pub const ALIGNMENT_SECTORS: u64 = 2048;

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// What makes one of our partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The GPT name, which is also the name in the documentation.
    pub label: &'static str,
    /// The GPT type, by which the running system knows the partition.
    pub kind: Guid,
    /// The size in bytes; `None` takes what is left.
    pub size: Option<u64>,
}

impl Partition {
    /// The size in sectors; `None` takes what is left.
    #[must_use]
    pub const fn sectors(&self) -> Option<u64> {
        match self.size {
            Some(size) => Some(size / SECTOR),
            None => None,
        }
    }
}

/// The EFI system partition: the boot loader and the images.
pub const ESP: Partition = Partition {
    label: "ESP",
    kind: guid(0xc12a_7328, 0xf81f, 0x11d2, 0xba4b, 0x00a0_c93e_c93b),
    size: Some(512 * MIB),
};

/// Configuration generations, identity and boot records. The type is our own, so no other system mounts it.
pub const STATE: Partition = Partition {
    label: "STATE",
    kind: guid(0x5f1e_1e5a, 0x7a7e, 0x4c57, 0x9b0d, 0x57e1_e057_a7e1),
    size: Some(128 * MIB),
};

/// `/var`. The type is the one that the Discoverable Partitions Specification gives to variable data.
pub const DATA: Partition = Partition {
    label: "DATA",
    kind: guid(0x4d21_b016, 0xb534, 0x45c2, 0xa9fb, 0x5c16_e091_fd2d),
    size: None,
};

/// The partitions of a disk, in the order in which they stand on it.
pub const PARTITIONS: [Partition; 3] = [ESP, STATE, DATA];

/// The smallest disk that holds all of it: the tables, ESP, STATE and a DATA of 64 MiB.
pub const SMALLEST_DISK: u64 = (1 + 512 + 128 + 64 + 1) * MIB;

/// Rounds a sector number up to the alignment.
#[must_use]
pub const fn align_up(sector: u64) -> u64 {
    sector.div_ceil(ALIGNMENT_SECTORS) * ALIGNMENT_SECTORS
}

/// Rounds a sector number down to the alignment.
#[must_use]
pub const fn align_down(sector: u64) -> u64 {
    sector / ALIGNMENT_SECTORS * ALIGNMENT_SECTORS
}

/// Builds the on-disk form from the groups of the written one.
#[must_use]
pub const fn guid(a: u32, b: u16, c: u16, d: u16, e: u64) -> Guid {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let (d, e) = (d.to_be_bytes(), e.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], e[2], e[3], e[4], e[5], e[6], e[7]]
}

/// The written form, in lower case, as firmware variables and `/dev/disk/by-partuuid` have it.
#[must_use]
pub fn format(guid: &Guid) -> String {
    let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e0, e1, e2, e3, e4, e5] = guid;
    format!(
        "{a3:02x}{a2:02x}{a1:02x}{a0:02x}-{b1:02x}{b0:02x}-{c1:02x}{c0:02x}-{d0:02x}{d1:02x}-\
         {e0:02x}{e1:02x}{e2:02x}{e3:02x}{e4:02x}{e5:02x}"
    )
}

/// Reads the written form, in either case; `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<Guid> {
    let groups: Vec<&str> = text.split('-').collect();
    let [a, b, c, d, e] = groups.as_slice() else { return None };
    let right = [(a, 8), (b, 4), (c, 4), (d, 4), (e, 12)]
        .iter()
        .all(|(group, len)| group.len() == *len && group.bytes().all(|b| b.is_ascii_hexdigit()));
    if !right {
        return None;
    }
    Some(guid(
        u32::from_str_radix(a, 16).ok()?,
        u16::from_str_radix(b, 16).ok()?,
        u16::from_str_radix(c, 16).ok()?,
        u16::from_str_radix(d, 16).ok()?,
        u64::from_str_radix(e, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_esp_type_is_the_one_of_the_uefi_specification() {
        assert_eq!(format(&ESP.kind), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(ESP.kind[..4], [0x28, 0x73, 0x2a, 0xc1]);
    }

    #[test]
    fn the_data_type_is_the_discoverable_partitions_one_for_var() {
        assert_eq!(format(&DATA.kind), "4d21b016-b534-45c2-a9fb-5c16e091fd2d");
    }

    #[test]
    fn sizes_keep_the_alignment() {
        for partition in PARTITIONS {
            assert_eq!(partition.sectors().unwrap_or(0) % ALIGNMENT_SECTORS, 0);
        }
    }

    #[test]
    fn what_is_not_a_guid_is_refused() {
        for text in [
            "",
            "c12a7328",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_reads_what_format_writes(guid: [u8; 16]) {
            prop_assert_eq!(parse(&format(&guid)), Some(guid));
            prop_assert_eq!(parse(&format(&guid).to_uppercase()), Some(guid));
        }

        #[test]
        fn alignment_brackets_the_sector(sector in 0u64..1 << 40) {
            prop_assert!(align_down(sector) <= sector && sector <= align_up(sector));
            prop_assert!(align_up(sector) - align_down(sector) <= ALIGNMENT_SECTORS);
        }
    }
}
