// SPDX-License-Identifier: Apache-2.0
//! Nodes: machines with an operator. Secrets, configurations and every call are made by the real client.

use crate::{
    api::{Credentials, Target},
    artefacts::Artefacts,
    ctl::Ctl,
    machine::Machine,
    scratch,
    vm::Vm,
};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a boot may take, on a host that does other things as well.
pub const BOOT: Duration = Duration::from_secs(180);

/// Pause between two questions to a node that does not answer yet.
const PAUSE: Duration = Duration::from_millis(200);

/// An operator: secrets, and a folder for what is made with them.
#[derive(Debug)]
pub struct Operator {
    program: PathBuf,
    secrets: PathBuf,
    dir: TempDir,
}

/// What `ctl gen config` made for one node.
#[derive(Clone, Debug)]
pub struct Files {
    /// The configuration of the machine.
    pub machine: PathBuf,
    /// The configuration of the client.
    pub client: PathBuf,
}

impl Operator {
    /// A new operator with a CA of their own.
    pub fn new(artefacts: &Artefacts) -> Result<Self> {
        let dir = scratch::folder("operator")?;
        let secrets = dir.path().join("secrets.yaml");
        let program = artefacts.ctl()?;
        let operator = Self { program, secrets, dir };
        operator.ctl().run(["gen", "secrets", "-o", &operator.secrets.to_string_lossy()])?;
        Ok(operator)
    }

    /// The client, without any context.
    #[must_use]
    pub fn ctl(&self) -> Ctl {
        Ctl::new(&self.program, self.dir.path())
    }

    /// The operator's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The operator's secrets.
    #[must_use]
    pub fn secrets(&self) -> &Path {
        &self.secrets
    }

    /// A configuration for the node `name`, whose API is at `endpoint`.
    pub fn files(&self, name: &str, endpoint: &str) -> Result<Files> {
        let dir = self.dir.path().join(name);
        let (secrets, out) = (self.secrets.to_string_lossy(), dir.to_string_lossy());
        self.ctl().run([
            "gen",
            "config",
            "--secrets",
            &secrets,
            "--hostname",
            name,
            "--endpoint",
            endpoint,
            "--force",
            "-o",
            &out,
        ])?;
        Ok(Files { machine: dir.join("machine.yaml"), client: dir.join("client.yaml") })
    }

    /// A client configuration for `node` with another role or lifetime.
    pub fn client(&self, node: &Node, name: &str, role: &str, lifetime: &str) -> Result<Ctl> {
        let home = self.dir.path().join(format!("{}-{name}", node.name));
        fs::create_dir_all(&home)?;
        let file = home.join("client.yaml");
        let (secrets, out) = (self.secrets.to_string_lossy(), file.to_string_lossy());
        node.ctl.run([
            "gen",
            "client",
            "--secrets",
            &secrets,
            "--name",
            name,
            "--role",
            role,
            "--lifetime",
            lifetime,
            "--force",
            "-o",
            &out,
        ])?;
        let ctl = node.ctl.at_home_in(&home);
        ctl.run(["config", "merge", &out])?;
        Ok(ctl)
    }
}

/// A machine, its configuration, and a client that knows it.
#[derive(Debug)]
pub struct Node {
    /// Its name: hostname, and the name in its certificate.
    pub name: String,
    /// The machine.
    pub vm: Vm,
    /// A client whose only context is this node.
    pub ctl: Ctl,
    /// What was made for it.
    pub files: Files,
}

impl Node {
    /// Starts `machine`, which nobody has configured; the configuration and the client are ready.
    pub fn start(
        operator: &Operator,
        name: &str,
        machine: Machine,
        scratch: TempDir,
    ) -> Result<Self> {
        Self::start_with(operator, name, machine, scratch, |machine, _| Ok(machine))
    }

    /// Starts `machine` with its configuration in fw_cfg.
    pub fn start_configured(
        operator: &Operator,
        name: &str,
        machine: Machine,
        scratch: TempDir,
    ) -> Result<Self> {
        Self::start_with(operator, name, machine, scratch, |machine, files| {
            Ok(machine.configured_by_fw_cfg(&files.machine))
        })
    }

    /// Starts `machine` as `finish` makes it, once its configuration is known.
    pub fn start_with(
        operator: &Operator,
        name: &str,
        machine: Machine,
        scratch: TempDir,
        finish: impl FnOnce(Machine, &Files) -> Result<Machine>,
    ) -> Result<Self> {
        let port = machine.api_port().context("The machine has no network")?;
        let files = operator.files(name, &format!("127.0.0.1:{port}"))?;
        let home = operator.dir().join(format!("{name}-home"));
        fs::create_dir_all(&home)?;
        let ctl = operator.ctl().at_home_in(&home);
        ctl.run(["config", "merge", &files.client.to_string_lossy()])?;
        let machine = finish(machine, &files)?;
        let vm = Vm::start_in(machine, scratch)?;
        Ok(Self { name: name.to_owned(), vm, ctl, files })
    }

    /// Starts `machine`, whose disk is a copy of another node's. It is that node for everyone; `label` is for its files here.
    pub fn resume(
        operator: &Operator,
        of: &Node,
        label: &str,
        machine: Machine,
        scratch: TempDir,
    ) -> Result<Self> {
        let port = machine.api_port().context("The machine has no network")?;
        let dir = operator.dir().join(label);
        let home = operator.dir().join(format!("{label}-home"));
        for dir in [&dir, &home] {
            fs::create_dir_all(dir).with_context(|| format!("Making {}", dir.display()))?;
        }
        let files = Files { machine: dir.join("machine.yaml"), client: dir.join("client.yaml") };
        fs::copy(&of.files.machine, &files.machine).context("Copying the configuration")?;
        let client = fs::read_to_string(&of.files.client).context("Reading the client's file")?;
        let (there, here) = (of.vm.api()?, format!("127.0.0.1:{port}"));
        fs::write(&files.client, client.replace(&there, &here))
            .context("Writing a client's file")?;
        let ctl = operator.ctl().at_home_in(&home);
        ctl.run(["config", "merge", "--force", &files.client.to_string_lossy()])?;
        let vm = Vm::start_in(machine, scratch)?;
        Ok(Self { name: of.name.clone(), vm, ctl, files })
    }

    /// The disk.
    pub fn disk(&mut self) -> Result<PathBuf> {
        let drive = self.vm.machine().drives.first().context("The machine has no disk")?;
        Ok(drive.path.clone())
    }

    /// The fingerprint on the console of a node in maintenance mode.
    pub fn fingerprint(&self) -> Result<String> {
        let line = self.vm.wait_for_line("SHA256:", BOOT)?;
        fingerprint(&line)
    }

    /// Gives it its configuration, as a person at the console would.
    pub fn apply(&self) -> Result<()> {
        let fingerprint = self.fingerprint()?;
        let file = self.files.machine.to_string_lossy();
        self.ctl
            .run(["apply-config", "--insecure", "--fingerprint", &fingerprint, "-f", &file])
            .map(drop)
    }

    /// Waits until it answers its client.
    pub fn wait_until_it_answers(&self) -> Result<()> {
        self.wait_until("it answers", BOOT, || Ok(self.ctl.output(["version"])?.status.success()))
    }

    /// Waits until `holds`; asks again and again, because nothing outside the node can be awaited.
    pub fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !holds()? {
            if Instant::now() >= deadline || !self.vm.is_on() {
                let off =
                    self.vm.wait_until_off(Duration::ZERO).map(|why| format!("It is off: {why}. "));
                let last = self.ctl.output(["version"])?;
                bail!(
                    "Waited until {what}, in vain. {}ctl version: {}Console:\n{}",
                    off.unwrap_or_default(),
                    String::from_utf8_lossy(&last.stderr),
                    self.vm.console().tail(30)
                );
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The identifier of the boot it is in.
    pub fn boot_id(&self) -> Result<String> {
        let version = self.ctl.json(["version"])?;
        crate::json::text(&version, "boot_id").context("The answer to version has no boot_id")
    }

    /// Waits until it answers from another boot than `boot_id`.
    pub fn wait_for_another_boot(&self, boot_id: &str) -> Result<()> {
        self.wait_until("another boot answers", BOOT, || {
            Ok(self.boot_id().is_ok_and(|now| now != boot_id))
        })
    }

    /// Where its API is, for clients that are not ctl.
    pub fn target(&self) -> Result<Target> {
        Ok(Target { address: self.vm.api()?, name: self.name.clone() })
    }

    /// What its client shows.
    pub fn credentials(&self) -> Result<Credentials> {
        Credentials::read(&self.files.client)
    }
}

/// The fingerprint in a line of the console.
pub fn fingerprint(line: &str) -> Result<String> {
    let word =
        line.split_whitespace().find_map(|word| word.find("SHA256:").and_then(|at| word.get(at..)));
    word.map(|word| word.trim_end_matches(['.', ',', ')']).to_owned())
        .context("No fingerprint in the line")
}
