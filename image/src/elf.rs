// SPDX-License-Identifier: Apache-2.0
//! What an ELF file says about how it was built.

use anyhow::{Result, bail};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// A way in which a program defends itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardening {
    /// Loaded at a random address.
    Pie,
    /// What the loader has filled in is read-only afterwards, all of it.
    Relro,
    /// The stack is not executable.
    Nx,
}

impl Hardening {
    /// The word for it in the allow-list.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pie => "pie",
            Self::Relro => "relro",
            Self::Nx => "nx",
        }
    }

    /// What a program that has it is.
    #[must_use]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Pie => "position independent (PIE)",
            Self::Relro => "full RELRO (-z relro -z now)",
            Self::Nx => "without an executable stack (NX)",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Result<Self> {
        match [Self::Pie, Self::Relro, Self::Nx].into_iter().find(|one| one.name() == word) {
            Some(one) => Ok(one),
            None => bail!("{word:?} is none of pie, relro, nx"),
        }
    }
}

/// An ELF file.
#[derive(Debug)]
pub enum Elf {
    /// A program or a library.
    Program(Program),
    /// An object that is linked, not run: a kernel module.
    Object,
}

/// A program or a library.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Hardening that it lacks.
    pub lacks: Vec<Hardening>,
    /// The loader that it asks for; a static program and a library ask for none.
    pub loader: Option<String>,
    /// The libraries that it asks for.
    pub needed: Vec<String>,
}

/// Reads a file; `None` if it is no ELF file at all.
pub fn parse(data: &[u8]) -> Result<Option<Elf>> {
    if !data.starts_with(&elf::ELFMAG) {
        return Ok(None);
    }
    let file = ElfFile64::<Endianness>::parse(data)?;
    match file.elf_header().e_type(file.endian()) {
        elf::ET_REL => Ok(Some(Elf::Object)),
        elf::ET_EXEC => Ok(Some(Elf::Program(program(&file, data, false)?))),
        elf::ET_DYN => Ok(Some(Elf::Program(program(&file, data, true)?))),
        other => bail!("its type is {other:?}"),
    }
}

fn program(file: &ElfFile64<'_, Endianness>, data: &[u8], pie: bool) -> Result<Program> {
    let endian = file.endian();
    let mut program = Program::default();
    let (mut relro, mut nx) = (false, false);
    for segment in file.elf_program_headers() {
        match segment.p_type(endian) {
            elf::PT_GNU_RELRO => relro = true,
            elf::PT_GNU_STACK => nx = segment.p_flags(endian).0 & elf::PF_X.0 == 0,
            _ => {}
        }
        if let Some(path) = segment.interpreter(endian, data)? {
            program.loader = Some(String::from_utf8(path.to_vec())?);
        }
    }
    let (mut now, mut lazy) = (false, false);
    let table = file.elf_dynamic_table()?;
    for entry in table.iter() {
        match entry.tag {
            elf::DT_NEEDED => {
                program.needed.push(String::from_utf8(table.string(entry)?.to_vec())?);
            }
            elf::DT_BIND_NOW => now = true,
            elf::DT_FLAGS => now |= entry.val & elf::DF_BIND_NOW.0 != 0,
            elf::DT_FLAGS_1 => now |= entry.val & elf::DF_1_NOW.0 != 0,
            // Without a procedure linkage table there is nothing to be bound late.
            elf::DT_JMPREL => lazy = true,
            _ => {}
        }
    }
    let has =
        [(Hardening::Pie, pie), (Hardening::Relro, relro && (now || !lazy)), (Hardening::Nx, nx)];
    program.lacks = has.iter().filter(|(_, has)| !has).map(|(hardening, _)| *hardening).collect();
    Ok(program)
}
