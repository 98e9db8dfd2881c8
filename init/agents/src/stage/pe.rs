// SPDX-License-Identifier: Apache-2.0
//! Reads of a PE32+ image just what tells whether it is a UKI for this machine, from its first bytes.
//!
//! Every offset is checked against what is there, and every count against a small bound; nothing is trusted to be sane.
//! The format is Microsoft's "PE Format", the section names are the UAPI Group's UKI specification.

/// As much of the file as [`Image::parse`] may need.
pub const HEAD: usize = 64 * 1024;

const MAX_SECTIONS: usize = 64;
const SECTION_SIZE: usize = 40;
const DIRECTORY_SECURITY: usize = 4;

/// Sections without which the image would not start.
const REQUIRED: [&str; 4] = [".linux", ".initrd", ".cmdline", ".osrel"];

/// The machine that images must be for: the one this program was built for.
pub const MACHINE: Machine =
    if cfg!(target_arch = "aarch64") { Machine::AARCH64 } else { Machine::X86_64 };

/// A machine type of the PE format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(u16);

impl Machine {
    /// AMD64.
    pub const X86_64: Machine = Machine(0x8664);
    /// ARM64.
    pub const AARCH64: Machine = Machine(0xaa64);
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0x8664 => f.write_str("x86-64"),
            0xaa64 => f.write_str("aarch64"),
            0x014c => f.write_str("32-bit x86"),
            0x01c0 | 0x01c2 | 0x01c4 => f.write_str("32-bit ARM"),
            0x5064 => f.write_str("64-bit RISC-V"),
            0x6264 => f.write_str("64-bit LoongArch"),
            other => write!(f, "an unknown machine ({other:#06x})"),
        }
    }
}

/// Where a section is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// A section: its name, and all its bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its bytes, with those that only fill it up.
    pub extent: Extent,
}

impl Part {
    /// The first byte behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.extent.offset + self.extent.length
    }
}

/// A UKI for this machine, as far as its headers can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The section with the kernel.
    pub linux: Extent,
    /// The section with the initrd.
    pub initrd: Extent,
    /// The section with the release information.
    pub osrel: Extent,
    /// All sections, as the headers list them.
    pub sections: Vec<Part>,
    /// The size of the file, at least.
    pub size: u64,
}

/// Why a file is no UKI for this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Not a PE file.
    #[error("the file is not a UKI: it doesn't start like an EFI program")]
    NotPe,
    /// It ends inside its headers.
    #[error("the file is cut off: its headers say more than its {have} bytes hold")]
    Short {
        /// Bytes there are.
        have: u64,
    },
    /// For another processor.
    #[error("the image is for {image}, this machine is {machine}", machine = MACHINE)]
    OtherMachine {
        /// The machine in the header.
        image: Machine,
    },
    /// A field with a value that no UKI has.
    #[error("the file is not a UKI: its {field} is {value}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// A section is missing.
    #[error("the file is not a UKI: it has no section {0}")]
    Missing(&'static str),
    /// A section is there more than once.
    #[error("the image has more than one section {0}")]
    Twice(&'static str),
}

impl Image {
    /// Reads the headers: `head` is the start of the file, [`HEAD`] bytes of it or all there are.
    ///
    /// # Errors
    /// When this is not a UKI for this machine.
    pub fn parse(head: &[u8]) -> Result<Image, PeError> {
        let file = Bytes(head);
        if !head.starts_with(b"MZ") {
            return Err(PeError::NotPe);
        }
        let header = usize::try_from(file.u32(0x3c)?).unwrap_or(usize::MAX);
        if header > HEAD / 2 {
            return Err(PeError::NotPe);
        }
        if file.slice(header, 4)? != b"PE\0\0" {
            return Err(PeError::NotPe);
        }
        let coff = header + 4;
        let machine = Machine(file.u16(coff)?);
        if machine != MACHINE {
            return Err(PeError::OtherMachine { image: machine });
        }
        let sections = usize::from(file.u16(coff + 2)?);
        if sections == 0 || sections > MAX_SECTIONS {
            return Err(PeError::Field { field: "number of sections", value: sections as u64 });
        }
        let optional = coff + 20;
        let optional_size = usize::from(file.u16(coff + 16)?);
        let magic = file.u16(optional)?;
        if magic != 0x20b {
            return Err(PeError::Field { field: "optional header's magic", value: magic.into() });
        }
        let mut size = signature_end(file, optional, optional_size)?;
        let mut found: [Option<Extent>; REQUIRED.len()] = [None; REQUIRED.len()];
        let mut parts = Vec::new();
        for index in 0..sections {
            let section = Section::parse(file, optional + optional_size + index * SECTION_SIZE)?;
            size = size.max(section.extent.offset + section.extent.length);
            parts.push(section.part());
            for (name, found) in REQUIRED.into_iter().zip(&mut found) {
                if section.name == name.as_bytes() && found.replace(section.content()).is_some() {
                    return Err(PeError::Twice(name));
                }
            }
        }
        for (name, found) in REQUIRED.into_iter().zip(found) {
            if found.is_none_or(|extent| extent.length == 0) {
                return Err(PeError::Missing(name));
            }
        }
        let [Some(linux), Some(initrd), _, Some(osrel)] = found else {
            return Err(PeError::Missing(".osrel"));
        };
        Ok(Image { linux, initrd, osrel, sections: parts, size })
    }
}

/// Where the signature ends, which lies behind the last section; 0 if there is none.
fn signature_end(file: Bytes<'_>, optional: usize, optional_size: usize) -> Result<u64, PeError> {
    let count = file.u32(optional + 108)?;
    let entry = 112 + DIRECTORY_SECURITY * 8;
    if count <= DIRECTORY_SECURITY as u32 || optional_size < entry + 8 {
        return Ok(0);
    }
    Ok(u64::from(file.u32(optional + entry)?) + u64::from(file.u32(optional + entry + 4)?))
}

struct Section<'a> {
    name: &'a [u8],
    virtual_size: u64,
    extent: Extent,
}

impl<'a> Section<'a> {
    fn parse(file: Bytes<'a>, at: usize) -> Result<Section<'a>, PeError> {
        let name = file.slice(at, 8)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Ok(Section {
            name: name.split_at(end).0,
            virtual_size: file.u32(at + 8)?.into(),
            extent: Extent { offset: file.u32(at + 20)?.into(), length: file.u32(at + 16)?.into() },
        })
    }

    fn part(&self) -> Part {
        let name = self.name.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_graphic);
        Part { name: name.collect(), extent: self.extent }
    }

    /// The bytes that mean something: the file rounds sections up.
    fn content(&self) -> Extent {
        Extent { offset: self.extent.offset, length: self.extent.length.min(self.virtual_size) }
    }
}

#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn slice(self, at: usize, length: usize) -> Result<&'a [u8], PeError> {
        let end = at.checked_add(length).ok_or(PeError::Short { have: self.0.len() as u64 })?;
        self.0.get(at..end).ok_or(PeError::Short { have: self.0.len() as u64 })
    }

    fn u16(self, at: usize) -> Result<u16, PeError> {
        let bytes = self.slice(at, 2)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u16::from(*byte)))
    }

    fn u32(self, at: usize) -> Result<u32, PeError> {
        let bytes = self.slice(at, 4)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A UKI in miniature: the headers are real, the sections hold what they are given.
    pub(crate) fn uki(machine: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
        let headers = 0x400;
        let mut file = vec![0u8; headers];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x80u32.to_le_bytes());
        put(0x80, b"PE\0\0");
        put(0x84, &machine.to_le_bytes());
        put(0x86, &u16::try_from(sections.len()).unwrap().to_le_bytes());
        put(0x94, &240u16.to_le_bytes());
        put(0x98, &0x20bu16.to_le_bytes());
        put(0x98 + 108, &16u32.to_le_bytes());
        let mut offset = headers;
        for (index, (name, content)) in sections.iter().enumerate() {
            let at = 0x98 + 240 + index * SECTION_SIZE;
            let raw = content.len().next_multiple_of(512);
            put(at, name.as_bytes());
            put(at + 8, &u32::try_from(content.len()).unwrap().to_le_bytes());
            put(at + 16, &u32::try_from(raw).unwrap().to_le_bytes());
            put(at + 20, &u32::try_from(offset).unwrap().to_le_bytes());
            offset += raw;
        }
        for (_, content) in sections {
            file.extend_from_slice(content);
            file.resize(file.len().next_multiple_of(512), 0);
        }
        file
    }

    pub(crate) fn stele(version: &str) -> Vec<u8> {
        let osrel = format!("ID=stele\nIMAGE_ID=stele\nIMAGE_VERSION=\"{version}\"\n");
        let initrd = crate::stage::anatomy::tests::initrd();
        uki(
            MACHINE.0,
            &[
                (".osrel", osrel.as_bytes()),
                (".cmdline", b"quiet"),
                (".linux", &crate::stage::anatomy::tests::kernel()),
                (".initrd", &initrd),
            ],
        )
    }

    #[test]
    fn a_uki() {
        let file = stele("1.1.0");
        let image = Image::parse(&file[..HEAD]).unwrap();
        assert_eq!(image.osrel, Extent { offset: 0x400, length: 46 });
        assert_eq!(image.size, file.len() as u64);
    }

    #[test]
    fn other_files() {
        assert_eq!(Image::parse(b""), Err(PeError::NotPe));
        assert_eq!(Image::parse(b"\x7fELF and so on"), Err(PeError::NotPe));
        assert_eq!(Image::parse(b"MZ"), Err(PeError::Short { have: 2 }));
        let other =
            uki(if MACHINE == Machine::X86_64 { 0xaa64 } else { 0x8664 }, &[(".linux", b"x")]);
        assert!(Image::parse(&other).unwrap_err().to_string().starts_with("the image is for "));
        assert_eq!(
            Image::parse(&uki(MACHINE.0, &[(".text", b"x")])),
            Err(PeError::Missing(".linux"))
        );
        assert_eq!(
            Image::parse(&uki(MACHINE.0, &[(".linux", b"x"), (".linux", b"y")])),
            Err(PeError::Twice(".linux"))
        );
        let unnamed = uki(MACHINE.0, &[(".linux", b"x"), (".initrd", b"y"), (".cmdline", b"z")]);
        assert_eq!(Image::parse(&unnamed), Err(PeError::Missing(".osrel")));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Image::parse(&bytes);
        }

        #[test]
        fn no_damage_panics(at in 0..0x400usize, value in any::<u8>(), end in 0..0x600usize) {
            let mut file = stele("1");
            file[at] = value;
            let _ = Image::parse(&file[..HEAD]);
            let _ = Image::parse(&file[..end]);
        }
    }
}
