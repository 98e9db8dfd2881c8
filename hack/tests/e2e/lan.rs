// SPDX-License-Identifier: Apache-2.0
//! A network with a machine and real servers on it: a cable, and a network namespace at its other end.
//!
//! ```text
//!   machine ─ card ─ QEMU ═ "guest" ═══ two sockets ═══ "lan" ═ socat ─ lan (a TAP) ─ servers
//!                                                                └────── namespace ───────┘
//! ```

use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long what is started may take to be there.
const SOON: Duration = Duration::from_secs(40);

/// A network namespace with one end of the cable, and what runs in it. All of it goes when this does.
pub(crate) struct Lan {
    name: String,
    folder: PathBuf,
    programs: BTreeMap<String, Child>,
}

impl Lan {
    /// QEMU's end of the cable, whose sockets are in this folder, and a card of this hardware address on it. It says how fast it is:
    /// LACP wants to know.
    pub(crate) fn card(folder: &Path, mac: &str) -> [String; 4] {
        let place = |end: &str| folder.join(end).display().to_string();
        [
            "-netdev".to_owned(),
            format!(
                "dgram,id=cable,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                place("guest"),
                place("lan")
            ),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=cable,mac={mac},speed=10000,duplex=full,romfile="),
        ]
    }

    /// The namespace, with the other end, `lan`, in it. The machine runs already: this end is heard only once there is that one.
    pub(crate) fn new(name: &str, folder: &Path) -> Result<Lan> {
        let name = format!("stele-{name}-{}", std::process::id());
        let mut lan = Lan { name, folder: folder.to_owned(), programs: BTreeMap::new() };
        run(&["netns", "add", &lan.name])?;
        // Kea listens on no address that may be another machine's.
        lan.within("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")?;
        let place = |end: &str| lan.folder.join(end).display().to_string();
        let socket = format!("UNIX-SENDTO:{},bind={}", place("guest"), place("lan"));
        wait("the machine's end of the cable", || lan.folder.join("guest").exists())?;
        let tap = "TUN,tun-type=tap,tun-name=lan,iff-no-pi,iff-up";
        lan.start("socat", &[tap, &socket])?;
        let up = "ip -6 address show dev lan scope link | grep -q 'inet6 fe80'";
        wait("the end of the cable", || lan.within(up).is_ok())?;
        Ok(lan)
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a script in it.
    pub(crate) fn within(&self, script: &str) -> Result<()> {
        run(&["netns", "exec", &self.name, "sh", "-c", script])
    }

    /// Starts a program in it.
    pub(crate) fn start(&mut self, program: &str, arguments: &[&str]) -> Result<()> {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(arguments)
            .env("KEA_PIDFILE_DIR", &self.folder)
            .env("KEA_LOCKFILE_DIR", "none")
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        self.programs.insert(program.to_owned(), child);
        Ok(())
    }

    /// Kills a program of it.
    pub(crate) fn stop(&mut self, program: &str) -> Result<()> {
        let mut child = self.programs.remove(program).context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for child in self.programs.values_mut() {
            // What has ended already can't be killed; everything else here is as good as it gets.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = run(&["netns", "delete", &self.name]);
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip, from iproute2")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments:?} (this needs root): {complaint}");
    Ok(())
}

/// Waits until something outside the machine is there.
pub(crate) fn wait(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !ready() {
        ensure!(Instant::now() < deadline, "{what} is not there");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}
