// SPDX-License-Identifier: Apache-2.0
//! Images that must not cost a machine: each is a good one, taken apart and put together wrong.

use crate::variants::{BROKEN, uki_of};
use anyhow::{Context as _, Result};
use image::recipe::Parts;
use std::ops::Range;
use stele_layout::slot::TRIES;

/// How an image is brought onto a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By `ctl upgrade`, which has nothing against it.
    Upgrade,
    /// By hand, onto the ESP of a machine that is off: the API would refuse it, or give it more tries than needed.
    Hand,
}

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A file of no bytes.
    Empty,
    /// A file of zeros.
    Zeros,
    /// Half a kernel.
    TruncatedKernel,
    /// An initramfs that is none.
    CorruptInitrd,
    /// A root without its tables.
    CorruptSquashfs,
    /// No `/init`.
    NoInit,
    /// PID 1 panics.
    Panics,
    /// PID 1 ends.
    Exits,
    /// PID 1 hangs before there is an API.
    Hangs,
    /// PID 1 hangs when everything is up.
    Stuck,
    /// The API ends as soon as it is started.
    NoApi,
    /// The network card's driver can't be loaded.
    NoNetwork,
    /// Nothing is wrong with the image; a required check never passes on it.
    CheckFails,
    /// The same with one that passes now and then.
    CheckFlaps,
    /// It can't read the configuration.
    Configuration,
}

/// All of them.
pub const ALL: [Fault; 15] = [
    Fault::Empty,
    Fault::Zeros,
    Fault::TruncatedKernel,
    Fault::CorruptInitrd,
    Fault::CorruptSquashfs,
    Fault::NoInit,
    Fault::Panics,
    Fault::Exits,
    Fault::Hangs,
    Fault::Stuck,
    Fault::NoApi,
    Fault::NoNetwork,
    Fault::CheckFails,
    Fault::CheckFlaps,
    Fault::Configuration,
];

/// What the faulty images are made of.
#[derive(Debug)]
pub struct Material<'a> {
    /// An image whose PID 1 fails on request.
    pub willing: &'a Parts,
    /// One whose API does not stay up.
    pub no_api: &'a Parts,
    /// One without a driver for the network.
    pub no_network: &'a Parts,
}

impl Fault {
    /// What it is called, also as a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Empty => "empty",
            Fault::Zeros => "zeros",
            Fault::TruncatedKernel => "truncated-kernel",
            Fault::CorruptInitrd => "corrupt-initrd",
            Fault::CorruptSquashfs => "corrupt-squashfs",
            Fault::NoInit => "no-init",
            Fault::Panics => "panics",
            Fault::Exits => "exits",
            Fault::Hangs => "hangs",
            Fault::Stuck => "stuck",
            Fault::NoApi => "no-api",
            Fault::NoNetwork => "no-network",
            Fault::CheckFails => "check-fails",
            Fault::CheckFlaps => "check-flaps",
            Fault::Configuration => "configuration",
        }
    }

    /// How it gets onto a machine.
    #[must_use]
    pub const fn way(self) -> Way {
        match self {
            Fault::Empty
            | Fault::Zeros
            | Fault::TruncatedKernel
            | Fault::CorruptInitrd
            | Fault::CorruptSquashfs
            | Fault::NoInit
            | Fault::Hangs => Way::Hand,
            Fault::Panics
            | Fault::Exits
            | Fault::Stuck
            | Fault::NoApi
            | Fault::NoNetwork
            | Fault::CheckFails
            | Fault::CheckFlaps
            | Fault::Configuration => Way::Upgrade,
        }
    }

    /// How many tries it gets when it comes by hand. A hang before the configuration is read costs a minute and more.
    #[must_use]
    pub const fn tries(self) -> u32 {
        match self {
            Fault::Hangs => 1,
            _ => TRIES,
        }
    }

    /// The image, of version [`BROKEN`]; `None` where a good image is as bad as any.
    pub fn make(self, material: &Material<'_>) -> Result<Option<Vec<u8>>> {
        let Material { willing, no_api, no_network } = material;
        let told = |fault: &str| {
            let cmdline = format!("{} stele.fault={fault}", willing.manifest.cmdline);
            uki_of(willing, BROKEN, &cmdline, &willing.kernel.image, &willing.initramfs)
        };
        let around = |kernel: &[u8], initramfs: &[u8]| {
            uki_of(willing, BROKEN, &willing.manifest.cmdline, kernel, initramfs)
        };
        let kernel = &willing.kernel.image;
        let image = match self {
            Fault::Empty => Vec::new(),
            Fault::Zeros => vec![0; willing.uki.len()],
            Fault::TruncatedKernel => {
                around(kernel.get(..kernel.len() / 2).unwrap_or_default(), &willing.initramfs)?
            }
            Fault::CorruptInitrd => {
                let mut initramfs = willing.initramfs.clone();
                let half = initramfs.len() / 2;
                initramfs.get_mut(..half).context("An initramfs has a beginning")?.fill(0x5a);
                around(kernel, &initramfs)?
            }
            Fault::CorruptSquashfs => {
                let mut initramfs = willing.initramfs.clone();
                let root = find(&initramfs, &willing.rootfs)?;
                let tables = root.end - 64 * 1024..root.end;
                initramfs.get_mut(tables).context("A root has an end")?.fill(0x5a);
                around(kernel, &initramfs)?
            }
            Fault::NoInit => {
                let mut initramfs = willing.initramfs.clone();
                // The end of its header in the cpio: the length of the name, no checksum, the name.
                let header = find(&initramfs, b"0000000500000000init\0")?;
                *initramfs.get_mut(header.end - 2).context("A name has a last letter")? = b'x';
                around(kernel, &initramfs)?
            }
            Fault::Panics => told("panic")?,
            Fault::Exits => told("exit")?,
            Fault::Hangs => told("hang")?,
            Fault::Stuck => told("stuck")?,
            Fault::Configuration => told("configuration")?,
            Fault::NoApi => no_api.uki.clone(),
            Fault::NoNetwork => no_network.uki.clone(),
            Fault::CheckFails | Fault::CheckFlaps => return Ok(None),
        };
        Ok(Some(image))
    }
}

/// Where one row of bytes stands in another.
fn find(bytes: &[u8], needle: &[u8]) -> Result<Range<usize>> {
    let head = needle.get(..needle.len().min(96)).unwrap_or_default();
    let start = bytes.windows(head.len()).position(|window| window == head);
    let start = start.context("The image is made of other parts than expected")?;
    Ok(start..start + needle.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_fifteen_and_each_has_its_name() {
        let names: BTreeSet<&str> = ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), 15);
    }

    #[test]
    fn a_part_is_found_in_the_whole() {
        assert_eq!(find(b"..abc..", b"abc").unwrap(), 2..5);
        assert!(find(b"..abc..", b"abd").is_err());
    }
}
