// SPDX-License-Identifier: Apache-2.0
//! Firmware variables of the boot loader, through efivarfs; see the Boot Loader Interface
//! (<https://systemd.io/BOOT_LOADER_INTERFACE>) and the kernel's Documentation/filesystems/efivarfs.rst.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

/// Where efivarfs is mounted.
pub const DIRECTORY: &str = "/sys/firmware/efi/efivars";

/// The vendor of all variables of boot loaders.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Non-volatile, for boot services, at run time.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];

/// The vendor of the variables that the UEFI specification names.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Whether the firmware starts nothing that is not signed by someone it trusts.
#[must_use]
pub fn secure_boot() -> bool {
    let value = fs::read(Path::new(DIRECTORY).join(format!("SecureBoot-{GLOBAL}")));
    value.is_ok_and(|bytes| bytes.get(ATTRIBUTES.len()) == Some(&1))
}

/// The loader's variables, in one directory.
#[derive(Clone, Debug)]
pub struct LoaderVariables {
    directory: PathBuf,
}

impl LoaderVariables {
    /// Those of this machine's firmware.
    #[must_use]
    pub fn of_this_machine() -> LoaderVariables {
        LoaderVariables::at(Path::new(DIRECTORY))
    }

    /// Those in another directory of the same form.
    #[must_use]
    pub fn at(directory: &Path) -> LoaderVariables {
        LoaderVariables { directory: directory.to_owned() }
    }

    /// The text in a variable; nothing if there is no such variable, or no firmware that has any.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => decode(&bytes)
                .map(Some)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not text")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a variable to a text.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.path(name);
        make_mutable(&path)?;
        // One write: the kernel passes each on to the firmware as a whole.
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?
            .write_all(&encode(text))
    }

    /// Removes a variable, if it is there.
    pub fn clear(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        make_mutable(&path)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-{LOADER}"))
    }
}

/// The kernel makes variables immutable, so that nobody removes them by accident.
fn make_mutable(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let flags = match ioctl_getflags(&file) {
        Ok(flags) => flags,
        // Not efivarfs: a test's directory.
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if flags.contains(IFlags::IMMUTABLE) {
        ioctl_setflags(&file, flags.difference(IFlags::IMMUTABLE))?;
    }
    Ok(())
}

/// A variable's text: behind four bytes of attributes, UTF-16 up to the first NUL.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<String> {
    let (_attributes, value) = bytes.split_at_checked(ATTRIBUTES.len())?;
    let units = value
        .chunks_exact(2)
        .map(|pair| pair.iter().rev().fold(0, |unit, byte| (unit << 8) | u16::from(*byte)));
    char::decode_utf16(units.take_while(|unit| *unit != 0)).collect::<Result<String, _>>().ok()
}

/// What a variable with this text holds.
#[must_use]
pub fn encode(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    ATTRIBUTES.into_iter().chain(units.flat_map(u16::to_le_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_there_and_back() {
        assert_eq!(encode("ab"), [7, 0, 0, 0, b'a', 0, b'b', 0, 0, 0]);
        for text in ["", "stele_1.1.0.efi", r"\EFI\Linux\stele_1.1.0+2-1.efi", "\u{1f5ff}"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
        assert_eq!(decode(&[7, 0]), None);
        assert_eq!(decode(&[7, 0, 0, 0, 0, 0xd8]), None);
    }

    #[test]
    fn variables_come_and_go() {
        let directory = std::env::temp_dir().join(format!("stele-efivars-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let variables = LoaderVariables::at(&directory);
        assert_eq!(variables.read("LoaderEntryPreferred").unwrap(), None);
        variables.write("LoaderEntryPreferred", "stele_1.1.0.efi").unwrap();
        assert_eq!(
            variables.read("LoaderEntryPreferred").unwrap().as_deref(),
            Some("stele_1.1.0.efi")
        );
        variables.clear("LoaderEntryPreferred").unwrap();
        variables.clear("LoaderEntryPreferred").unwrap();
        assert_eq!(variables.read("LoaderEntryPreferred").unwrap(), None);
        fs::remove_dir_all(&directory).unwrap();
    }
}
