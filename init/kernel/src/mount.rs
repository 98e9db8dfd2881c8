// SPDX-License-Identifier: Apache-2.0
//! Mounting, moving and leaving file systems; see mount(2), pivot_root(2), statfs(2).

use rustix::mount::{MountFlags, UnmountFlags};
use std::{ffi::CString, io, path::Path};

/// What a mount forbids, beside the file system's own options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forbid {
    /// No writing.
    pub write: bool,
    /// No program may be started from it.
    pub exec: bool,
    /// Set-user-id bits mean nothing on it.
    pub suid: bool,
    /// Device nodes mean nothing on it.
    pub dev: bool,
}

impl Forbid {
    /// No programs, no set-user-id, no devices: the strictest for what is written.
    pub const DATA: Forbid = Forbid { write: false, exec: true, suid: true, dev: true };
    /// [`Forbid::DATA`], and no writing.
    pub const READ_ONLY: Forbid = Forbid { write: true, ..Forbid::DATA };

    fn flags(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.write);
        flags.set(MountFlags::NOEXEC, self.exec);
        flags.set(MountFlags::NOSUID, self.suid);
        flags.set(MountFlags::NODEV, self.dev);
        flags
    }
}

/// Mounts `source` of type `fstype` on `target`.
pub fn mount(
    source: &str,
    target: &Path,
    fstype: &str,
    forbid: Forbid,
    options: &str,
) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(source, target, fstype, forbid.flags(), options.as_c_str())?)
}

/// Changes what an existing mount forbids.
pub fn remount(target: &Path, forbid: Forbid) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target, forbid.flags(), c"")?)
}

/// Moves a mount to another place.
pub fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_move(from, to)?)
}

/// Unmounts; with `lazily`, also while something still uses it.
pub fn unmount(target: &Path, lazily: bool) -> io::Result<()> {
    let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::NOFOLLOW };
    Ok(rustix::mount::unmount(target, flags)?)
}

/// Makes `new_root` the root of this process; what was mounted on `/` is covered by it. See the kernel's
/// Documentation/filesystems/ramfs-rootfs-initramfs.rst: the initramfs cannot be unmounted, so it is moved over.
pub fn switch_root(new_root: &Path) -> io::Result<()> {
    rustix::process::chdir(new_root)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// How full a file system is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its size.
    pub size: u64,
    /// What an unprivileged writer can still have of it.
    pub free: u64,
    /// The pieces that files are made of.
    pub unit: u64,
}

/// Asks how full the file system at `path` is.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Usage {
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        unit: stat.f_frsize.max(1),
    })
}

/// Writes everything that is dirty to the disks.
pub fn sync() {
    rustix::fs::sync();
}
