// SPDX-License-Identifier: Apache-2.0
//! Whether an image could start at all: what firmware, boot loader, kernel and PID 1 will look for is where they look.
//!
//! ```text
//! PE headers ─ sections whole ─ .osrel ─ .linux: a kernel ─ .initrd: a cpio ─ /init ─ /rootfs.sqsh: a superblock
//! ```
//!
//! The first thing that is wrong on this way is why the image can't start, and is named.

use std::io;

use crate::stage::cpio::{self, CpioError};
use crate::stage::osrel::{self, OsrelError, Release};
use crate::stage::pe::{self, Extent, Image, PeError};
use crate::stage::source::Source;

/// `struct setup_header`, Documentation/arch/x86/boot.rst.
const BOOT_FLAG: u64 = 0x1fe;
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const KERNEL_HEAD: usize = 0x206;
/// The superblock of squashfs 4.0, fs/squashfs/squashfs_fs.h.
const SUPERBLOCK: usize = 96;

/// An image that could start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anatomy {
    /// What it says of itself.
    pub release: Release,
    /// Where its root file system is in the file.
    pub rootfs: Extent,
}

/// Why an image can't start.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// Many, but all the same.
    #[error("the file holds nothing but zeros, {0} of them")]
    Zeros(u64),
    /// Not an image for this machine.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// A section ends behind the end of the file.
    #[error(
        "the file is cut off: its section {section} ends at byte {end}, and the file has {size} bytes"
    )]
    CutOff {
        /// The section's name.
        section: String,
        /// Where it should end.
        end: u64,
        /// How many bytes there are.
        size: u64,
    },
    /// Not an image of ours.
    #[error(transparent)]
    Osrel(#[from] OsrelError),
    /// No kernel.
    #[error("its section .linux holds no kernel for this machine: {0}")]
    Kernel(&'static str),
    /// A kernel with its end missing.
    #[error("its kernel is cut off: it has {size} bytes by its header, and the section {length}")]
    KernelCutOff {
        /// By its header.
        size: u64,
        /// In the section.
        length: u64,
    },
    /// The initrd can't be unpacked.
    #[error(transparent)]
    Initrd(#[from] CpioError),
    /// What is started, or what is mounted.
    #[error("its initrd holds no /{0}")]
    Missing(&'static str),
    /// /init is there, and is no program.
    #[error("the /init in its initrd is no program: it doesn't start like an ELF file")]
    NoProgram,
    /// The root file system.
    #[error("the superblock of its root file system is damaged: {0}")]
    Superblock(&'static str),
    /// The file could not be read.
    #[error("reading the image")]
    Read(#[source] io::Error),
}

/// Looks at an image from end to end.
///
/// # Errors
/// When it can't start.
pub fn examine(source: &impl Source) -> Result<Anatomy, Damage> {
    let size = source.length().map_err(Damage::Read)?;
    let head = read(source, 0, size.min(pe::HEAD as u64))?;
    if head.iter().all(|byte| *byte == 0) {
        return Err(nothing(source, size)?);
    }
    let image = Image::parse(&head)?;
    let beyond = image.sections.iter().find(|section| section.end() > size);
    if let Some(section) = beyond {
        return Err(Damage::CutOff { section: section.name.clone(), end: section.end(), size });
    }
    if image.size > size {
        return Err(Damage::CutOff { section: "of signatures".into(), end: image.size, size });
    }
    let release =
        osrel::release(&read(source, image.osrel.offset, image.osrel.length.min(osrel::MAX))?)?;
    kernel(source, image.linux)?;
    let entries = cpio::entries(source, image.initrd)?;
    let find = |name: &'static str| {
        let found = entries.iter().rfind(|entry| entry.name == name && entry.regular);
        found.map(|entry| entry.content).ok_or(Damage::Missing(name))
    };
    let init = find("init")?;
    if read(source, init.offset, init.length.min(4))? != b"\x7fELF" {
        return Err(Damage::NoProgram);
    }
    let rootfs = find("rootfs.sqsh")?;
    superblock(source, rootfs)?;
    Ok(Anatomy { release, rootfs })
}

fn read(source: &impl Source, offset: u64, length: u64) -> Result<Vec<u8>, Damage> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    source.fill(offset, &mut bytes).map_err(Damage::Read)?;
    Ok(bytes)
}

/// Why a file that starts with zeros is none.
fn nothing(source: &impl Source, size: u64) -> Result<Damage, Damage> {
    if size == 0 {
        return Ok(Damage::Empty);
    }
    let mut at = 0;
    while at < size {
        let block = read(source, at, (size - at).min(pe::HEAD as u64))?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(PeError::NotPe.into());
        }
        at += block.len() as u64;
    }
    Ok(Damage::Zeros(size))
}

fn kernel(source: &impl Source, linux: Extent) -> Result<(), Damage> {
    if cfg!(target_arch = "x86_64") { bz_image(source, linux) } else { arm_image(source, linux) }
}

/// A bzImage: the boot flag, the magic number, and as many bytes as its header says.
fn bz_image(source: &impl Source, linux: Extent) -> Result<(), Damage> {
    if linux.length < KERNEL_HEAD as u64 {
        return Err(Damage::Kernel("it is too short"));
    }
    let head = read(source, linux.offset, KERNEL_HEAD as u64)?;
    let flag = head.get(BOOT_FLAG as usize..).unwrap_or_default();
    if !flag.starts_with(&[0x55, 0xaa]) {
        return Err(Damage::Kernel("the boot flag is missing"));
    }
    if !flag.ends_with(b"HdrS") {
        return Err(Damage::Kernel("the magic number HdrS is missing"));
    }
    let setup = match head.get(SETUP_SECTS) {
        None | Some(0) => 4,
        Some(sectors) => u64::from(*sectors),
    };
    let paragraphs = head.get(SYSSIZE..).and_then(|rest| rest.first_chunk::<4>());
    let system = u64::from(u32::from_le_bytes(*paragraphs.unwrap_or(&[0; 4]))) * 16;
    let size = (setup + 1) * 512 + system;
    // The size is in units of 16 bytes, rounded up.
    if size > linux.length + 15 {
        return Err(Damage::KernelCutOff { size, length: linux.length });
    }
    Ok(())
}

/// An `Image`, Documentation/arch/arm64/booting.rst, or one that unpacks itself, drivers/firmware/efi/libstub/zboot-header.S.
fn arm_image(source: &impl Source, linux: Extent) -> Result<(), Damage> {
    let head = read(source, linux.offset, linux.length.min(64))?;
    let plain = head.get(56..60) == Some(b"ARM\x64");
    let packed = head.starts_with(b"MZ") && head.get(4..8) == Some(b"zimg");
    if plain || packed { Ok(()) } else { Err(Damage::Kernel("its magic number is missing")) }
}

fn superblock(source: &impl Source, rootfs: Extent) -> Result<(), Damage> {
    if rootfs.length < SUPERBLOCK as u64 {
        return Err(Damage::Superblock("it is too short"));
    }
    let block = read(source, rootfs.offset, SUPERBLOCK as u64)?;
    let u16_at = |at: usize| {
        block
            .get(at..)
            .and_then(|rest| rest.first_chunk::<2>())
            .map_or(0, |bytes| u16::from_le_bytes(*bytes))
    };
    let u64_at = |at: usize| {
        block
            .get(at..)
            .and_then(|rest| rest.first_chunk::<8>())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    if !block.starts_with(b"hsqs") {
        return Err(Damage::Superblock("the magic number hsqs is missing"));
    }
    if (u16_at(28), u16_at(30)) != (4, 0) {
        return Err(Damage::Superblock("it is of another version than 4.0"));
    }
    if !(12..=20).contains(&u16_at(22)) {
        return Err(Damage::Superblock("its block size makes no sense"));
    }
    let used = u64_at(40);
    if used > rootfs.length || used < SUPERBLOCK as u64 {
        return Err(Damage::Superblock("its size is not that of the file"));
    }
    // The tables of ids, inodes and folders are always there; the others may be none at all.
    if [48, 64, 72].iter().any(|at| !(SUPERBLOCK as u64..used).contains(&u64_at(*at))) {
        return Err(Damage::Superblock("a table lies outside the file system"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
