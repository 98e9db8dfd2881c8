// SPDX-License-Identifier: Apache-2.0
//! What is mounted, out of proc_pid_mountinfo(5).

use super::{DiagnoseError, plain, read};
use std::path::Path;
use stele_proto::v1::Mount;

/// All mounts, in the order in which they were made.
pub(super) fn all(proc: &Path) -> Result<Vec<Mount>, DiagnoseError> {
    let text = read(proc.join("self/mountinfo"))?;
    Ok(text.lines().filter_map(parse).map(sized).collect())
}

/// `id parent major:minor root target options [tag…] - type source options`.
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let target = unescape(mount.next()?);
    let mut options: Vec<String> = mount.next()?.split(',').map(plain).collect();
    let mut file_system = file_system.splitn(3, ' ');
    let kind = plain(file_system.next()?);
    let source = unescape(file_system.next()?);
    for option in file_system.next()?.split(',').map(plain) {
        if !options.contains(&option) {
            options.push(option);
        }
    }
    Some(Mount { source: plain(&source), target, r#type: kind, options, size: 0, free: 0 })
}

/// Asks how much room there is.
fn sized(mount: Mount) -> Mount {
    let Ok(room) = rustix::fs::statvfs(mount.target.as_str()) else { return mount };
    Mount {
        size: room.f_blocks.saturating_mul(room.f_frsize),
        free: room.f_bavail.saturating_mul(room.f_frsize),
        target: plain(&mount.target),
        ..mount
    }
}

/// Spaces, tabs, ends of lines and backslashes are three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                whole.push(char::from(code));
                whole.push_str(rest);
            }
            _ => {
                whole.push('\\');
                whole.push_str(part);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let line =
            r"36 35 98:0 /mnt1 /a\040b rw,noatime master:1 - ext4 /dev/vda3 rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.source.as_str(), mount.target.as_str()), ("/dev/vda3", "/a b"));
        assert_eq!(mount.options, ["rw", "noatime", "errors=continue"]);
        assert_eq!(unescape(r"a\134b\c\9999"), r"a\b\c\9999");
        assert_eq!(parse("36 35 98:0"), None);
    }

    #[test]
    fn mounts_of_this_machine() {
        let mounts = all(Path::new("/proc")).unwrap();
        let root = mounts.iter().find(|mount| mount.target == "/").unwrap();
        assert!(root.size > root.free && root.free > 0, "{root:?}");
        assert!(mounts.iter().any(|mount| mount.target == "/proc" && mount.size == 0));
    }
}
