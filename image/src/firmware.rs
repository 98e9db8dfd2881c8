// SPDX-License-Identifier: Apache-2.0
//! `image firmware`: UEFI for virtual machines, as the test harness runs it. No part of the image.

use crate::apt::Apt;
use crate::cache::{Cache, write_atomically};
use crate::deb;
use crate::lock::{Lock, Purpose};
use crate::progress::Progress;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::path::Path;

const FILES: [&str; 2] = ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"];

/// Writes the firmware and its empty variable store to a folder.
pub fn write(workspace: &Workspace, cache: &Cache, progress: &Progress, out: &Path) -> Result<()> {
    let lock = Lock::read(&workspace.lock())?;
    let packages = Apt::new()?.files(lock.of(Purpose::Firmware), cache, progress)?;
    std::fs::create_dir_all(out).with_context(|| format!("Making the folder {}", out.display()))?;
    for (package, file) in &packages {
        progress.step(format!("Unpacking {} {}", package.name, package.version));
        let files =
            deb::unpack(file, |path| FILES.iter().any(|name| path.ends_with(&format!("/{name}"))))?;
        for name in FILES {
            let found = files
                .iter()
                .find(|(path, _)| path.ends_with(&format!("/{name}")))
                .map(|(path, _)| path.to_owned());
            let data =
                found.and_then(|path| files.resolve(&path)).and_then(|path| files.data(&path));
            let data =
                data.with_context(|| format!("The package {} has no {name}", package.name))?;
            write_atomically(&out.join(name), data)?;
        }
    }
    Ok(())
}
