// SPDX-License-Identifier: Apache-2.0
//! Stage one: from the initramfs to the real root.
//!
//! Mounts the kernel's own file systems, loads the few modules that the root needs, mounts the squashfs that lies in
//! the initramfs, forgets everything else in it, moves the mounts over and runs `/sbin/init` from the new root. Nothing
//! here waits for a device: the root is in memory.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use stele_kernel::{
    loopdev, modules,
    mount::{self, Forbid},
};

/// The root, in the initramfs.
pub(crate) const ROOT_IMAGE: &str = "/rootfs.sqsh";
const MODULES: &str = "/modules";
const NEW_ROOT: &str = "/root";
const INIT: &str = "/sbin/init";

/// Why stage one failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stage1Error {
    #[error("mounting {target}")]
    Mount { target: &'static str, source: io::Error },
    #[error("loading the module {}", file.display())]
    Module { file: PathBuf, source: io::Error },
    #[error("attaching the root image {ROOT_IMAGE} to a loop device")]
    Loop(#[source] io::Error),
    #[error("making {NEW_ROOT} the root")]
    Switch(#[source] io::Error),
    #[error("running {INIT} from the root image")]
    Exec(#[source] io::Error),
}

/// Runs stage one; returns only on failure.
pub(crate) fn run() -> Stage1Error {
    match switch() {
        Ok(()) => Stage1Error::Exec(Command::new(INIT).env_clear().exec()),
        Err(error) => error,
    }
}

fn switch() -> Result<(), Stage1Error> {
    let device_forbids = Forbid { exec: true, suid: true, ..Forbid::default() };
    for (target, fstype, forbid, options) in [
        ("/dev", "devtmpfs", device_forbids, "mode=0755"),
        ("/proc", "proc", Forbid::DATA, ""),
        ("/sys", "sysfs", Forbid::DATA, ""),
    ] {
        mount::mount(fstype, Path::new(target), fstype, forbid, options)
            .map_err(|source| Stage1Error::Mount { target, source })?;
    }
    // Only now are there a log and consoles to speak to.
    crate::report::install();
    for file in sorted(Path::new(MODULES)) {
        match modules::load(&file, "") {
            // Where there is no firmware to keep what a panicking kernel says, nothing does.
            Err(_no_firmware) if is_optional(&file) => {}
            loaded => loaded.map_err(|source| Stage1Error::Module { file, source })?,
        }
    }
    let image = fs::File::open(ROOT_IMAGE).map_err(Stage1Error::Loop)?;
    let (device, held) = loopdev::attach(&image).map_err(Stage1Error::Loop)?;
    let root_forbids = Forbid { write: true, suid: true, dev: true, exec: false };
    mount::mount(&device.to_string_lossy(), Path::new(NEW_ROOT), "squashfs", root_forbids, "")
        .map_err(|source| Stage1Error::Mount { target: NEW_ROOT, source })?;
    drop(held);
    forget_initramfs();
    for name in ["dev", "proc", "sys"] {
        mount::move_to(&Path::new("/").join(name), &Path::new(NEW_ROOT).join(name))
            .map_err(Stage1Error::Switch)?;
    }
    mount::switch_root(Path::new(NEW_ROOT)).map_err(Stage1Error::Switch)
}

/// What keeps the last words of a kernel that panics. It comes first, so that it hears of everything after it.
fn is_optional(module: &Path) -> bool {
    module.to_string_lossy().ends_with("-efi-pstore.ko")
}

/// Gives the memory of the initramfs back. The image's file may be unlinked too: the loop device holds it.
fn forget_initramfs() {
    for file in
        sorted(Path::new(MODULES)).chain([PathBuf::from("/init"), PathBuf::from(ROOT_IMAGE)])
    {
        // What can't be removed costs memory, nothing else.
        let _kept = fs::remove_file(file);
    }
}

fn sorted(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files.into_iter()
}
