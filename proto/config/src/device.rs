// SPDX-License-Identifier: Apache-2.0
//! What is behind an interface, whatever the interface is called.

use crate::value::Text;
use crate::{Mac, ModuleName};
use std::fmt;
use std::str::FromStr;

/// What is known of the device behind an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The hardware address that it was made with; where it tells none, the one that the interface has.
    pub mac: Option<Mac>,
    /// Where it is.
    pub path: Option<DevicePath>,
    /// Its driver.
    pub driver: Option<ModuleName>,
}

/// The place of a PCI device: domain, bus, device and function, as udev's `ID_PATH` has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevicePath(String);

/// Why a text is no path of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not pci- and the domain, bus, device and function of a PCI device in hexadecimal digits"
)]
pub struct DevicePathError;

impl DevicePath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DevicePath {
    type Err = DevicePathError;

    fn from_str(text: &str) -> Result<DevicePath, DevicePathError> {
        let text = text.to_ascii_lowercase();
        let hexadecimal = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let good = (|| {
            let (domain, rest) = text.strip_prefix("pci-")?.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let parts = [(domain, 4), (bus, 2), (device, 2), (function, 1)];
            Some(parts.into_iter().all(|(part, length)| hexadecimal(part, length)))
        })();
        if good == Some(true) { Ok(DevicePath(text)) } else { Err(DevicePathError) }
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for DevicePath {
    const WHAT: &'static str = "the place of a PCI device";
    const EXAMPLE: &'static str = "pci-0000:00:03.0";
    const PATTERN: &'static str =
        "^[pP][cC][iI]-[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\\.[0-9a-fA-F]$";
}

#[cfg(test)]
mod tests {
    use super::DevicePath;

    #[test]
    fn paths_of_pci_devices() {
        assert_eq!("pci-0000:3A:00.1".parse::<DevicePath>().unwrap().as_str(), "pci-0000:3a:00.1");
        for text in ["", "0000:00:03.0", "pci-0:00:03.0", "pci-0000:00:03", "pci-0000:00:0x.0"] {
            assert!(text.parse::<DevicePath>().is_err(), "{text}");
        }
    }
}
