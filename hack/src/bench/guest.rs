// SPDX-License-Identifier: Apache-2.0
//! The images that are measured: ours, ours with the bare server beside it, and the floors.

use crate::{
    artefacts::Artefacts,
    build::Builder,
    machine::Machine,
    node::{Node, Operator},
    variants::{NEXT, bootable, recipe, uki_around},
};
use anyhow::{Context as _, Result};
use image::{
    disk::Disk,
    initramfs::Initramfs,
    programs,
    recipe::{Extra, Parts},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The port of the bare server.
pub(super) const ECHO_PORT: u16 = 50001;
/// Lines in the log that is read.
pub(super) const LINES: u32 = 4000;

/// Everything that is measured, and who operates it.
#[derive(Debug)]
pub(super) struct Guest {
    /// The image of this tree.
    pub(super) image: Artefacts,
    /// The same with the bare server, for direct boot.
    pub(super) with_echo: Artefacts,
    /// The kernel with an init that does nothing, for direct boot.
    floor: Artefacts,
    /// The same on a disk.
    floor_disk: PathBuf,
    /// The next version.
    pub(super) next: PathBuf,
    /// Who operates it.
    pub(super) operator: Operator,
    _scratch: TempDir,
}

impl Guest {
    /// Builds what is not there yet.
    pub(super) fn build(builder: &Builder, image: &Artefacts) -> Result<Self> {
        let scratch = crate::scratch::folder("bench")?;
        let dir = scratch.path();
        let built = builder
            .progress
            .suspend(|| programs::reproducible(&builder.workspace, &["hack"], &["hack/bench"]))?;
        let program = |name: &str| -> Result<Vec<u8>> {
            let path = built.get(name).with_context(|| format!("cargo made no {name}"))?;
            fs::read(path).with_context(|| format!("Reading {}", path.display()))
        };
        let version = env!("CARGO_PKG_VERSION");
        let parts = builder.parts(&recipe(builder, version, extra(program("echo")?)?)?)?;
        let with_echo = Artefacts::new(dir.join("echo"));
        bootable(&parts, with_echo.dir())?;
        let floor = Artefacts::new(dir.join("floor"));
        bootable(&parts, floor.dir())?;
        let initramfs =
            Initramfs { init: &program("floor")?, modules: &[], rootfs: None }.pack()?;
        fs::write(floor.dir().join("initramfs"), &initramfs)?;
        let floor_disk = dir.join("floor.raw");
        write_disk(&parts, version, &initramfs, &floor_disk)?;
        let next = dir.join("next.efi");
        fs::write(&next, builder.parts(&recipe(builder, NEXT, Vec::new())?)?.uki)?;
        builder.signer()?.sign_file(&next)?;
        let (image, operator) = (image.clone(), Operator::new(image)?);
        Ok(Self { image, with_echo, floor, floor_disk, next, operator, _scratch: scratch })
    }

    /// The floor without a disk.
    pub(super) fn floor(&self) -> Result<Machine> {
        Machine::live(&self.floor)
    }

    /// The floor on a disk, whose files are in `dir`.
    pub(super) fn floor_on_disk(&self, dir: &Path) -> Result<Machine> {
        let disk = dir.join("disk.raw");
        crate::machine::copy_sparse(&self.floor_disk, &disk)?;
        Machine::from_disk(&self.image, dir, disk)
    }

    /// A node without a disk, from these artefacts, that answers.
    pub(super) fn live(
        &self,
        artefacts: &Artefacts,
        name: &str,
        adjust: impl FnOnce(&mut Machine),
    ) -> Result<Node> {
        let mut machine = Machine::live(artefacts)?;
        adjust(&mut machine);
        let node = Node::start_configured(&self.operator, name, machine, scratch()?)?;
        node.wait_until_it_answers()?;
        Ok(node)
    }
}

/// A folder for one machine.
pub(super) fn scratch() -> Result<TempDir> {
    crate::scratch::folder("vm")
}

fn write_disk(parts: &Parts, version: &str, initramfs: &[u8], path: &Path) -> Result<()> {
    let uki = uki_around(parts, version, initramfs)?;
    let slots: [(String, &[u8]); 1] = [(format!("stele_{version}.efi"), &uki)];
    Disk { loader: &parts.loader, slots: &slots, epoch: parts.epoch }.write(path)
}

/// The bare server and the flood, as services.
fn extra(program: Vec<u8>) -> Result<Vec<Extra>> {
    let sandbox = json!({
        // The bare server shows the same certificate as apid: it reads the same identity.
        "uid": 201, "seccomp": "server", "memory_max": 128 << 20, "tasks_max": 16, "files_max": 2048,
    });
    let unit = |name: &str, arguments: &[&str]| -> Result<Extra> {
        let mut exec = vec!["/usr/lib/stele/echo"];
        exec.extend(arguments);
        let unit = json!({"description": "For measurements", "exec": exec, "sandbox": sandbox, "start": "boot"});
        let path = format!("usr/lib/stele/units/{name}.json");
        Ok(Extra { path, mode: 0o644, data: serde_json::to_vec_pretty(&unit)? })
    };
    Ok(vec![
        Extra { path: "usr/lib/stele/echo".into(), mode: 0o755, data: program },
        unit("echo", &[])?,
        unit("flood", &["flood", &LINES.to_string()])?,
    ])
}
