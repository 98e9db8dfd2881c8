// SPDX-License-Identifier: Apache-2.0
//! What a virtual machine is made of, as data, and as QEMU's arguments.

use crate::{accelerator::Accelerator, artefacts::Artefacts};
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// The port of the API inside the guest.
pub const API_PORT: u16 = 50000;

/// The fw_cfg file that a machine looks for its configuration in.
pub const FW_CFG_CONFIG: &str = "opt/stele/config";

/// How it starts.
#[derive(Clone, Debug)]
pub enum Boot {
    /// QEMU loads kernel and initramfs by itself; no firmware, no boot loader.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// The initramfs.
        initramfs: PathBuf,
        /// The kernel command line.
        cmdline: String,
    },
    /// UEFI firmware, boot loader, UKI. Both files belong to the machine alone.
    Firmware {
        /// The firmware, read-only.
        code: PathBuf,
        /// Its variables.
        variables: PathBuf,
    },
}

/// A drive on the virtio bus.
#[derive(Clone, Debug)]
pub struct Drive {
    /// A raw image.
    pub path: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
    /// Where each of its writes and flushes is written down (see [`crate::writes`]).
    pub log: Option<PathBuf>,
}

impl Drive {
    /// A drive that the guest may write to.
    #[must_use]
    pub fn writable(path: PathBuf) -> Self {
        Self { path, writable: true, log: None }
    }

    /// QEMU's arguments for it, as the drive of this number.
    fn arguments(&self, index: usize) -> [String; 2] {
        let readonly = if self.writable { "off" } else { "on" };
        match &self.log {
            None => [
                "-drive".into(),
                format!(
                    "if=none,id=drive{index},format=raw,cache=unsafe,discard=unmap,readonly={readonly},file={}",
                    escape(&self.path)
                ),
            ],
            Some(log) => {
                let file = |path: &Path| {
                    json!({
                        "driver": "file",
                        "filename": path,
                        "discard": "unmap",
                        "cache": {"no-flush": true},
                    })
                };
                let node = json!({
                    "driver": "blklogwrites",
                    "node-name": format!("drive{index}"),
                    "file": {"driver": "raw", "file": file(&self.path), "discard": "unmap"},
                    "log": file(log),
                    "log-append": true,
                    "log-super-update-interval": 1,
                    "discard": "unmap",
                });
                ["-blockdev".into(), node.to_string()]
            }
        }
    }
}

/// A port of the guest that this machine forwards to.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// On 127.0.0.1.
    pub host: u16,
    /// In the guest.
    pub guest: u16,
}

/// A virtual machine that does not run yet.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How it starts.
    pub boot: Boot,
    /// MiB of memory.
    pub memory: u32,
    /// Processors. One is fastest under TCG.
    pub processors: u32,
    /// Drives, in order: the first is the one the firmware boots.
    pub drives: Vec<Drive>,
    /// fw_cfg files: name and content.
    pub fw_cfg: Vec<(String, PathBuf)>,
    /// Ports forwarded from 127.0.0.1. Each network interface is one entry; none means no network.
    pub networks: Vec<Vec<Forward>>,
    /// Whether nothing leaves these networks: they give addresses, and no router or name server.
    pub restricted: bool,
    /// Whether it has a watchdog (an i6300ESB), which resets it.
    pub watchdog: bool,
    /// Anything else, as QEMU takes it.
    pub extra: Vec<String>,
}

impl Machine {
    /// A machine that boots the kernel directly and has no disk: it keeps nothing.
    pub fn live(artefacts: &Artefacts) -> Result<Self> {
        let boot = Boot::Direct {
            kernel: artefacts.kernel()?,
            initramfs: artefacts.initramfs()?,
            cmdline: artefacts.cmdline()?,
        };
        Self::new(boot)
    }

    /// A machine that boots its own copy, in `dir`, of the disk image, on a disk of `gib` GiB.
    pub fn installed(artefacts: &Artefacts, dir: &Path, gib: u64) -> Result<Self> {
        let disk = dir.join("disk.raw");
        copy_sparse(&artefacts.disk()?, &disk)?;
        grow(&disk, gib << 30)?;
        Self::from_disk(artefacts, dir, disk)
    }

    /// A machine that boots `disk`, with fresh firmware variables in `dir`.
    pub fn from_disk(artefacts: &Artefacts, dir: &Path, disk: PathBuf) -> Result<Self> {
        let firmware = artefacts.firmware()?;
        let variables = dir.join("variables.fd");
        fs::copy(&firmware.variables, &variables)
            .with_context(|| format!("Copying {}", firmware.variables.display()))?;
        let mut machine = Self::new(Boot::Firmware { code: firmware.code, variables })?;
        machine.drives.push(Drive::writable(disk));
        Ok(machine)
    }

    fn new(boot: Boot) -> Result<Self> {
        Ok(Self {
            boot,
            memory: 1024,
            processors: 1,
            drives: Vec::new(),
            fw_cfg: Vec::new(),
            networks: vec![vec![Forward { host: free_port()?, guest: API_PORT }]],
            restricted: false,
            watchdog: false,
            extra: Vec::new(),
        })
    }

    /// Words for the kernel command line. Through the firmware they take the way of the stub's SMBIOS string.
    #[must_use]
    pub fn append(mut self, words: &str) -> Self {
        match &mut self.boot {
            Boot::Direct { cmdline, .. } => {
                cmdline.push(' ');
                cmdline.push_str(words);
            }
            Boot::Firmware { .. } => {
                let words = words.replace(',', ",,");
                self.extra.push("-smbios".into());
                self.extra
                    .push(format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={words}"));
            }
        }
        self
    }

    /// A configuration, by fw_cfg.
    #[must_use]
    pub fn configured_by_fw_cfg(mut self, config: &Path) -> Self {
        self.fw_cfg.push((FW_CFG_CONFIG.into(), config.to_path_buf()));
        self
    }

    /// The first drive's writes and flushes, written down in `log` from now on. What is in it stays.
    pub fn with_log(mut self, log: &Path) -> Result<Self> {
        crate::writes::create(log)?;
        let drive = self.drives.first_mut().context("The machine has no drive")?;
        drive.log = Some(log.to_path_buf());
        Ok(self)
    }

    /// A watchdog.
    #[must_use]
    pub fn with_watchdog(mut self) -> Self {
        self.watchdog = true;
        self
    }

    /// QEMU's debugger stub, at a socket.
    #[must_use]
    pub fn with_debugger(mut self, socket: &Path) -> Self {
        let address = format!("unix:{},server=on,wait=off", escape(socket));
        self.extra.extend(["-gdb".to_owned(), address]);
        self
    }

    /// One more drive, read-only.
    #[must_use]
    pub fn with_drive(mut self, path: &Path) -> Self {
        self.drives.push(Drive { path: path.to_path_buf(), writable: false, log: None });
        self
    }

    /// Where this machine forwards the API from, on 127.0.0.1.
    #[must_use]
    pub fn api_port(&self) -> Option<u16> {
        self.networks
            .iter()
            .flatten()
            .find(|forward| forward.guest == API_PORT)
            .map(|forward| forward.host)
    }

    /// QEMU's arguments. The monitor connects to `qmp`, the console is appended to `console`.
    #[must_use]
    pub fn arguments(&self, accelerator: Accelerator, qmp: &Path, console: &Path) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
        add(&[
            "-nodefaults",
            "-no-user-config",
            "-machine",
            "q35",
            "-display",
            "none",
            "-no-reboot",
        ]);
        add(&accelerator.arguments());
        add(&["-m", &self.memory.to_string(), "-smp", &self.processors.to_string()]);
        add(&[
            "-chardev",
            &format!("socket,id=qmp,path={}", escape(qmp)),
            "-mon",
            "chardev=qmp,mode=control",
        ]);
        add(&["-chardev", &format!("file,id=console,append=on,path={}", escape(console))]);
        add(&["-serial", "chardev:console", "-device", "virtio-rng-pci"]);
        match &self.boot {
            Boot::Direct { kernel, initramfs, cmdline } => {
                add(&[
                    "-kernel",
                    &kernel.to_string_lossy(),
                    "-initrd",
                    &initramfs.to_string_lossy(),
                ]);
                add(&["-append", cmdline]);
            }
            Boot::Firmware { code, variables } => {
                add(&[
                    "-drive",
                    &format!("if=pflash,format=raw,unit=0,readonly=on,file={}", escape(code)),
                ]);
                add(&[
                    "-drive",
                    &format!("if=pflash,format=raw,unit=1,file={}", escape(variables)),
                ]);
            }
        }
        for (index, drive) in self.drives.iter().enumerate() {
            // A kernel that QEMU loads by itself has the first place already.
            let order = match &self.boot {
                Boot::Firmware { .. } => format!(",bootindex={index}"),
                Boot::Direct { .. } => String::new(),
            };
            let [option, value] = drive.arguments(index);
            add(&[&option, &value]);
            // A merged write has as many pieces as a system call takes, and the log one more.
            let merging = if drive.log.is_some() { ",request-merging=off" } else { "" };
            add(&["-device", &format!("virtio-blk-pci,drive=drive{index}{order}{merging}")]);
        }
        for (index, forwards) in self.networks.iter().enumerate() {
            let forwards: String = forwards
                .iter()
                .map(|forward| {
                    format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest)
                })
                .collect();
            let restricted = if self.restricted { ",restrict=on" } else { "" };
            add(&["-netdev", &format!("user,id=net{index}{restricted}{forwards}")]);
            add(&["-device", &format!("virtio-net-pci,id=nic{index},netdev=net{index},romfile=")]);
        }
        for (name, path) in &self.fw_cfg {
            add(&["-fw_cfg", &format!("name={name},file={}", escape(path))]);
        }
        if self.watchdog {
            add(&["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// A port of 127.0.0.1 that nothing listens on, and that this process has not handed out before.
pub fn free_port() -> Result<u16> {
    static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for _ in 0..100 {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .context("Looking for a free port")?
            .local_addr()?
            .port();
        if handed_out.insert(port) {
            return Ok(port);
        }
    }
    bail!("No free port on 127.0.0.1");
}

/// Copies a file without copying its holes.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to])
        .status()
        .context("Running cp")?;
    if !status.success() {
        bail!("Copying {} to {} failed", from.display(), to.display());
    }
    Ok(())
}

/// Makes a file `bytes` long, if it is shorter, with a hole.
pub fn grow(path: &Path, bytes: u64) -> Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("Opening {}", path.display()))?;
    if file.metadata()?.len() < bytes {
        file.set_len(bytes).with_context(|| format!("Growing {}", path.display()))?;
    }
    Ok(())
}

/// QEMU's own escape for commas in a path.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::new(Boot::Direct {
            kernel: "k".into(),
            initramfs: "i".into(),
            cmdline: "quiet".into(),
        })
        .unwrap()
    }

    fn line(machine: &Machine) -> String {
        machine.arguments(Accelerator::Tcg, Path::new("/t/qmp"), Path::new("/t/console")).join(" ")
    }

    #[test]
    fn the_translator_runs_without_cx16() {
        assert!(line(&machine()).contains("-accel tcg -cpu max,-cx16"));
    }

    #[test]
    fn ports_are_forwarded_from_loopback_only() {
        let machine = machine();
        let port = machine.api_port().unwrap();
        assert!(line(&machine).contains(&format!("hostfwd=tcp:127.0.0.1:{port}-:50000")));
        assert!(!line(&machine).contains("hostfwd=tcp::"));
        let restricted = Machine { restricted: true, ..machine };
        assert!(line(&restricted).contains("-netdev user,id=net0,restrict=on,hostfwd="));
    }

    #[test]
    fn words_reach_the_command_line_either_way() {
        assert!(line(&machine().append("a=b")).contains("-append quiet a=b"));
        let firmware = Machine {
            boot: Boot::Firmware { code: "c".into(), variables: "v".into() },
            ..machine()
        };
        assert!(line(&firmware.append("a=b,c")).contains("kernel-cmdline-extra=a=b,,c"));
    }

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
