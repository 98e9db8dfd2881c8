// SPDX-License-Identifier: Apache-2.0
//! Assembles the UKI: systemd's stub with the kernel, the initramfs, the command line and the release as PE sections
//! (UAPI.5 Unified Kernel Image).
//!
//! The stub's own sections are laid out anew, without gaps and without its COFF symbols: what stands between sections is in no
//! digest of an Authenticode signature, so nothing may stand there.
//!
//! ```text
//! MZ │ PE header │ section table │ stub's sections │ .osrel .cmdline .uname .linux .initrd
//! ```

use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;
use std::path::Path;

const CODE: u32 = 0x6000_0020;
const DATA: u32 = 0x4000_0040;
const SECTION_HEADER: usize = 40;

/// The COFF machine of x86-64.
pub const X86_64: u16 = 0x8664;

/// The COFF machine of arm64.
pub const ARM64: u16 = 0xaa64;

/// What makes a UKI.
#[derive(Debug, Clone, Copy)]
pub struct Uki<'a> {
    /// systemd's `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// The content of `os-release`; the boot loader takes name and version from it.
    pub os_release: &'a str,
    /// The kernel command line.
    pub cmdline: &'a str,
    /// The kernel release, as `uname -r` has it.
    pub uname: &'a str,
    /// The kernel, a bzImage.
    pub kernel: &'a [u8],
    /// The initramfs.
    pub initramfs: &'a [u8],
}

impl Uki<'_> {
    /// The bytes of the `.efi` file.
    pub fn build(&self) -> Result<Vec<u8>> {
        let sections: [(&str, &[u8], u32); 5] = [
            (".osrel", self.os_release.as_bytes(), DATA),
            (".cmdline", self.cmdline.as_bytes(), DATA),
            (".uname", self.uname.as_bytes(), DATA),
            (".linux", self.kernel, CODE),
            (".initrd", self.initramfs, DATA),
        ];
        Stub::parse(self.stub).and_then(|stub| stub.append(&sections)).context("Assembling the UKI")
    }
}

/// Writes another machine into a UKI: how a test makes an image of a foreign architecture.
pub fn set_machine(uki: &mut [u8], machine: u16) -> Result<()> {
    let header = Stub::parse(uki)?.coff;
    write(uki, header, &machine.to_le_bytes())
}

/// Where the content of a section stands in a UKI.
pub fn section(uki: &[u8], name: &str) -> Result<Range<usize>> {
    let file = Stub::parse(uki)?;
    for index in 0..file.count {
        let header = file.table + SECTION_HEADER * index;
        let mut padded = [0; 8];
        write(&mut padded, 0, name.as_bytes())?;
        if array::<8>(uki, header)? == padded {
            let start = usize::try_from(u32_at(uki, header + 20)?)?;
            let length = usize::try_from(u32_at(uki, header + 8)?.min(u32_at(uki, header + 16)?))?;
            return Ok(start..start + length);
        }
    }
    bail!("there is no section {name}")
}

/// The version that a UKI says it has.
pub fn version(path: &Path) -> Result<String> {
    let read = || -> Result<String> {
        let uki = std::fs::read(path)?;
        let text = uki.get(section(&uki, ".osrel")?).context("it breaks off")?;
        let version = std::str::from_utf8(text)?
            .lines()
            .find_map(|line| line.strip_prefix("IMAGE_VERSION="))
            .context("its .osrel names no IMAGE_VERSION")?;
        Ok(version.to_owned())
    };
    read().with_context(|| format!("Reading the image {}", path.display()))
}

/// Where things are in the stub.
struct Stub<'a> {
    bytes: &'a [u8],
    coff: usize,
    optional: usize,
    table: usize,
    count: usize,
    headers: usize,
    section_alignment: u32,
    file_alignment: u32,
}

impl<'a> Stub<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let signature = usize::try_from(u32_at(bytes, 0x3c)?)?;
        ensure!(
            bytes.starts_with(b"MZ") && bytes.get(signature..signature + 4) == Some(b"PE\0\0"),
            "the stub is no PE file"
        );
        let coff = signature + 4;
        let optional = coff + 20;
        ensure!(u16_at(bytes, optional)? == 0x20b, "the stub is no PE32+ file");
        let (section_alignment, file_alignment) =
            (u32_at(bytes, optional + 32)?, u32_at(bytes, optional + 36)?);
        ensure!(
            section_alignment.is_power_of_two() && file_alignment.is_power_of_two(),
            "the stub's alignments are {section_alignment} and {file_alignment}"
        );
        Ok(Self {
            bytes,
            coff,
            optional,
            table: optional + usize::from(u16_at(bytes, coff + 16)?),
            count: usize::from(u16_at(bytes, coff + 2)?),
            headers: usize::try_from(u32_at(bytes, optional + 60)?)?,
            section_alignment,
            file_alignment,
        })
    }

    fn append(&self, sections: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
        let total = self.count + sections.len();
        ensure!(
            self.table + SECTION_HEADER * total <= self.headers,
            "the stub has no room for {} more section headers",
            sections.len()
        );
        let mut out =
            self.bytes.get(..self.headers).context("the stub ends within its headers")?.to_vec();
        out.resize(round_up(out.len(), self.file_alignment)?, 0);
        let mut end = 0;
        for index in 0..self.count {
            let header = self.table + SECTION_HEADER * index;
            let (virtual_size, address) =
                (u32_at(self.bytes, header + 8)?, u32_at(self.bytes, header + 12)?);
            let (size, offset) =
                (u32_at(self.bytes, header + 16)?, u32_at(self.bytes, header + 20)?);
            end = end.max(
                address.checked_add(virtual_size).context("a section of the stub wraps around")?,
            );
            if size == 0 {
                continue;
            }
            let (start, len) = (usize::try_from(offset)?, usize::try_from(size)?);
            let data =
                self.bytes.get(start..start + len).context("the stub ends within a section")?;
            let at = u32::try_from(out.len())?;
            write(&mut out, header + 20, &at.to_le_bytes())?;
            out.extend_from_slice(data);
            out.resize(round_up(out.len(), self.file_alignment)?, 0);
        }

        let mut initialized = u32_at(self.bytes, self.optional + 8)?;
        let mut address = u32::try_from(round_up(usize::try_from(end)?, self.section_alignment)?)?;
        for (index, (name, data, characteristics)) in sections.iter().enumerate() {
            let header = self.table + SECTION_HEADER * (self.count + index);
            let size = u32::try_from(data.len()).context("a section of 4 GiB or more")?;
            let at = u32::try_from(out.len())?;
            out.extend_from_slice(data);
            out.resize(round_up(out.len(), self.file_alignment)?, 0);
            let raw = u32::try_from(out.len())? - at;
            let mut padded = [0; 8];
            write(&mut padded, 0, name.as_bytes())?;
            write(&mut out, header, &[0; SECTION_HEADER])?;
            write(&mut out, header, &padded)?;
            for (offset, value) in
                [(8, size), (12, address), (16, raw), (20, at), (36, *characteristics)]
            {
                write(&mut out, header + offset, &value.to_le_bytes())?;
            }
            initialized = initialized.checked_add(raw).context("sections of 4 GiB or more")?;
            let next = address.checked_add(size).context("sections of 4 GiB or more")?;
            address = u32::try_from(round_up(usize::try_from(next)?, self.section_alignment)?)?;
        }

        write(&mut out, self.coff + 2, &u16::try_from(total)?.to_le_bytes())?;
        // The symbol table is gone: its place and its count. The time stamp is the stub's own, so it stays.
        write(&mut out, self.coff + 8, &[0; 8])?;
        for (offset, value) in [(8, initialized), (56, address), (64, 0)] {
            write(&mut out, self.optional + offset, &value.to_le_bytes())?;
        }
        Ok(out)
    }
}

fn round_up(value: usize, alignment: u32) -> Result<usize> {
    Ok(value.next_multiple_of(usize::try_from(alignment)?))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let slice = bytes.get(at..at + N).context("the stub ends within its headers")?;
    Ok(slice.try_into()?)
}

fn write(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<()> {
    bytes
        .get_mut(at..at + value.len())
        .context("the stub ends within its headers")?
        .copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSection};

    /// The smallest PE32+ file with one section, a gap before it and symbols after it.
    fn stub() -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[..2].copy_from_slice(b"MZ");
        write(&mut bytes, 0x3c, &0x80u32.to_le_bytes()).unwrap();
        write(&mut bytes, 0x80, b"PE\0\0").unwrap();
        let (coff, optional) = (0x84, 0x98);
        for (offset, value) in [(0, X86_64), (2, 1), (16, 112 + 16 * 8), (18, 0x22)] {
            write(&mut bytes, coff + offset, &value.to_le_bytes()).unwrap();
        }
        write(&mut bytes, coff + 8, &0x800u32.to_le_bytes()).unwrap();
        write(&mut bytes, optional, &0x20bu16.to_le_bytes()).unwrap();
        for (offset, value) in [(32, 0x1000u32), (36, 0x200), (56, 0x2000), (60, 0x400), (108, 16)]
        {
            write(&mut bytes, optional + offset, &value.to_le_bytes()).unwrap();
        }
        let header = optional + 112 + 16 * 8;
        write(&mut bytes, header, b".text\0\0\0").unwrap();
        for (offset, value) in [(8, 4u32), (12, 0x1000), (16, 0x200), (20, 0x600), (36, CODE)] {
            write(&mut bytes, header + offset, &value.to_le_bytes()).unwrap();
        }
        bytes.resize(0x600, 0xee);
        bytes.extend_from_slice(b"code");
        bytes.resize(0x800, 0);
        bytes.extend_from_slice(b"symbols");
        bytes
    }

    fn uki(stub: &[u8]) -> Result<Vec<u8>> {
        let kernel = vec![9; 5000];
        Uki {
            stub,
            os_release: "ID=stele\n",
            cmdline: "quiet",
            uname: "6.12",
            kernel: &kernel,
            initramfs: b"cpio",
        }
        .build()
    }

    #[test]
    fn sections_hold_what_they_should() {
        let built = uki(&stub()).unwrap();
        let file = object::File::parse(&built[..]).unwrap();
        let mut last = 0;
        for (name, start) in [
            (".text", &b"code"[..]),
            (".osrel", b"ID=stele"),
            (".cmdline", b"quiet"),
            (".uname", b"6.12"),
            (".linux", &[9; 16]),
            (".initrd", b"cpio"),
        ] {
            let section = file.section_by_name(name).unwrap();
            assert!(section.data().unwrap().starts_with(start), "{name}");
            assert!(section.address() > last && section.address() % 0x1000 == 0, "{name}");
            last = section.address();
        }
        assert_eq!(file.section_by_name(".linux").unwrap().size(), 5000);
    }

    #[test]
    fn nothing_stands_between_or_after_the_sections() {
        let built = uki(&stub()).unwrap();
        assert!(!built.windows(7).any(|window| window == b"symbols"));
        assert!(!built.contains(&0xee));
        assert_eq!(built.len(), 0x400 + 0x200 * 4 + 5120 + 0x200);
        assert_eq!(u32_at(&built, 0x84 + 8).unwrap(), 0);
    }

    #[test]
    fn broken_stubs_are_refused() {
        let whole = stub();
        for len in [0, 1, 0x40, 0x90, 0x3ff, 0x601] {
            assert!(uki(&whole[..len]).is_err(), "{len}");
        }
        assert!(uki(b"#!/bin/sh").is_err());
    }

    #[test]
    fn sections_are_found_again() {
        let built = uki(&stub()).unwrap();
        assert_eq!(&built[section(&built, ".osrel").unwrap()], b"ID=stele\n");
        assert_eq!(section(&built, ".linux").unwrap().len(), 5000);
        assert!(section(&built, ".dtb").is_err());
    }

    #[test]
    fn the_machine_can_be_another() {
        let mut built = uki(&stub()).unwrap();
        set_machine(&mut built, ARM64).unwrap();
        assert_eq!(u16_at(&built, 0x84).unwrap(), ARM64);
    }
}
