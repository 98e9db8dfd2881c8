// SPDX-License-Identifier: Apache-2.0
//! Drives with a configuration on them, as the tools of platforms make them: known by the label of their file system.

use super::{SourceError, read};
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};
use stele_kernel::mount::{self, Forbid};

const MOUNT: &str = "/run/stele/seed";
/// A kind of drive.
struct Known {
    /// What it is called among the sources.
    name: &'static str,
    /// The label, in any case; all of it, or its beginning.
    label: Label,
    /// Where the user-data may be: in the first of these files with any for this system.
    user_data: &'static [&'static str],
    /// The file that says what the platform knows of the machine, and its form, as the configure agent calls it.
    about: (&'static str, &'static str),
    /// The file that describes the network, and its form.
    network: Option<(&'static str, &'static str)>,
}

enum Label {
    Is(&'static str),
    Begins(&'static str),
}

impl Label {
    fn fits(&self, label: &str) -> bool {
        match self {
            Label::Is(wanted) => label.eq_ignore_ascii_case(wanted),
            Label::Begins(wanted) => {
                label.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted))
            }
        }
    }
}

const KNOWN: [Known; 5] = [
    // NoCloud, as cloud-init has it.
    Known {
        name: "cidata",
        label: Label::Is("cidata"),
        user_data: &["user-data", "vendor-data"],
        about: ("meta-data", "nocloud"),
        network: Some(("network-config", "nocloud")),
    },
    // The config drive of OpenStack and of those who took it over, CloudStack's among them.
    Known {
        name: "config-2",
        label: Label::Is("config-2"),
        user_data: &["openstack/latest/user_data", "cloudstack/userdata/user_data.txt"],
        about: ("openstack/latest/meta_data.json", "openstack"),
        network: Some(("openstack/latest/network_data.json", "openstack")),
    },
    // OpenNebula.
    Known {
        name: "context",
        label: Label::Is("CONTEXT"),
        user_data: &["context.sh"],
        about: ("context.sh", "opennebula"),
        network: Some(("context.sh", "opennebula")),
    },
    // Azure: named after the release of what made it.
    Known {
        name: "azure",
        label: Label::Begins("rd_rdfe"),
        user_data: &["CustomData.bin", "ovf-env.xml"],
        about: ("ovf-env.xml", "ovf"),
        network: None,
    },
    // The ISO transport of OVF environments.
    Known {
        name: "ovf",
        label: Label::Is("OVF ENV"),
        user_data: &["ovf-env.xml"],
        about: ("ovf-env.xml", "ovf"),
        network: Some(("ovf-env.xml", "ovf")),
    },
];

/// What was found on the first drive with a label.
#[derive(Debug)]
pub(super) struct Drive {
    pub(super) label: &'static str,
    /// Its files of user-data. Nothing if there is no such drive.
    pub(super) user_data: Option<Result<Vec<Vec<u8>>, SourceError>>,
    pub(super) about: Option<About>,
    pub(super) network: Option<About>,
}

/// What a platform knows of the machine, in one of the forms that the configure agent reads.
#[derive(Debug)]
pub(super) struct About {
    pub(super) form: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// A drive for each label.
pub(super) fn read_all() -> Vec<Drive> {
    let labels = labels();
    let drives = KNOWN.iter().map(|known| {
        let label = known.name;
        let found = labels.iter().find(|(_, _, label)| known.label.fits(label));
        match found.map(|(device, fstype, _)| read_drive(Path::new(device), fstype, known)) {
            None => Drive { label, user_data: None, about: None, network: None },
            Some(Err(error)) => {
                Drive { label, user_data: Some(Err(error)), about: None, network: None }
            }
            Some(Ok(Contents { user_data, about, network })) => {
                Drive { label, user_data: Some(user_data), about, network }
            }
        }
    });
    drives.collect()
}

/// Block devices with a file system of a kind that such drives have: device, kind, label.
fn labels() -> Vec<(String, &'static str, String)> {
    let Ok(folder) = fs::read_dir("/sys/class/block") else { return Vec::new() };
    let mut devices: Vec<String> =
        folder.flatten().map(|entry| format!("/dev/{}", entry.file_name().display())).collect();
    devices.sort();
    let labelled = devices.into_iter().filter_map(|device| {
        let (fstype, label) = label(Path::new(&device))?;
        Some((device, fstype, label))
    });
    labelled.collect()
}

struct Contents {
    user_data: Result<Vec<Vec<u8>>, SourceError>,
    about: Option<About>,
    network: Option<About>,
}

fn read_drive(device: &Path, fstype: &str, known: &Known) -> Result<Contents, SourceError> {
    let failed = |source| SourceError::Mount { device: device.to_owned(), source };
    fs::create_dir_all(MOUNT).map_err(failed)?;
    mount::mount(&device.to_string_lossy(), Path::new(MOUNT), fstype, Forbid::READ_ONLY, "")
        .map_err(failed)?;
    let files = known.user_data.iter().map(|file| read(&Path::new(MOUNT).join(file)));
    let there = files.filter(|read| match read {
        Err(SourceError::Read { source, .. }) => source.kind() != io::ErrorKind::NotFound,
        _ => true,
    });
    let user_data = there.collect::<Result<Vec<_>, _>>().and_then(|read| {
        let files = known.user_data.join(" or ");
        let none = SourceError::NoFile { device: device.to_owned(), files };
        if read.is_empty() { Err(none) } else { Ok(read) }
    });
    // A drive need not know anything of the machine.
    let beside = |(file, form): (&str, &'static str)| {
        read(&Path::new(MOUNT).join(file)).ok().map(|bytes| About { form, bytes })
    };
    let (about, network) = (beside(known.about), known.network.and_then(beside));
    if let Err(error) = mount::unmount(Path::new(MOUNT), true) {
        tracing::warn!(error = %error, "unmounting a drive with a configuration failed");
    }
    Ok(Contents { user_data, about, network })
}

/// The file system on a device, and its label.
fn label(device: &Path) -> Option<(&'static str, String)> {
    let mut file = File::open(device).ok()?;
    // ISO 9660: the volume identifier of the primary descriptor (ECMA-119, 8.4). FAT32 and FAT16: BS_VolLab, checked
    // by BS_FilSysType behind it.
    for (at, length, fstype, magic_at, magic) in [
        (0x8028, 32, "iso9660", 0x8001, &b"CD001"[..]),
        (0x47, 11, "vfat", 0x52, b"FAT32"),
        (0x2b, 11, "vfat", 0x36, b"FAT1"),
    ] {
        if read_at(&mut file, magic_at, magic.len()).is_some_and(|found| found == magic) {
            let label = read_at(&mut file, at, length)?;
            return Some((fstype, String::from_utf8_lossy(&label).trim().to_owned()));
        }
    }
    Some(("udf", udf_label(&mut file)?))
}

/// The name of a UDF volume on an optical disc: the identifier in the logical volume descriptor (ECMA-167, 3/10.6), to
/// which the anchor in sector 256 leads (3/10.2).
fn udf_label(file: &mut File) -> Option<String> {
    const SECTOR: u64 = 2048;
    const LOGICAL_VOLUME: [u8; 2] = [6, 0];
    let anchor = read_at(file, 256 * SECTOR, 24)?;
    let number = |at: usize| Some(u32::from_le_bytes(*anchor.get(at..)?.first_chunk()?));
    if !anchor.starts_with(&[2, 0]) {
        return None;
    }
    let (length, first) = (u64::from(number(16)?), u64::from(number(20)?));
    for sector in first..first.saturating_add((length / SECTOR).min(64)) {
        let descriptor = read_at(file, sector.checked_mul(SECTOR)?, 212)?;
        if descriptor.starts_with(&LOGICAL_VOLUME) {
            // A dstring (1/7.2.12): the width of a character, the characters, and at the end how long it is.
            let name = descriptor.get(84..212)?;
            let (width, length) = (name.first()?, usize::from(*name.last()?));
            let name = name.get(1..length).filter(|_| *width == 8)?;
            return Some(String::from_utf8_lossy(name).trim().to_owned());
        }
    }
    None
}

fn read_at(file: &mut File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::process::Command;

    #[test]
    fn labels_in_any_case() {
        let named = |label: &str| KNOWN.iter().find(|known| known.label.fits(label));
        let name = |label: &str| named(label).map(|known| known.name);
        assert_eq!(name("CIDATA"), Some("cidata"));
        assert_eq!(name("rd_rdfe_stable.161212-1209"), Some("azure"));
        assert_eq!(name("OVF ENV"), Some("ovf"));
        assert_eq!(name("cidata2"), None);
        assert_eq!(name(""), None);
    }

    #[test]
    fn the_label_of_what_mkudffs_made() {
        let folder = fixture::folder("udf");
        let file = folder.join("drive");
        File::create(&file).unwrap().set_len(8 << 20).unwrap();
        let made = Command::new("mkudffs")
            .args(["--media-type=dvd", "--blocksize=2048", "--label=rd_rdfe_stable.161212-1209"])
            .arg(&file)
            .output();
        assert!(made.unwrap().status.success());
        let found = label(&file);
        assert_eq!(found, Some(("udf", "rd_rdfe_stable.161212-1209".to_owned())));
        fs::write(&file, [0; 1 << 20]).unwrap();
        assert_eq!(label(&file), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
