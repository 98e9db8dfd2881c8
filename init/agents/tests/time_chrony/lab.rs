// SPDX-License-Identifier: Apache-2.0
//! Two network namespaces, chrony in the one and the agent in the other, and a clock that is the agent's own.
//!
//! ```text
//!   client namespace                  server namespace
//!   10.78.0.2 (agent, own clock) ──── 10.78.0.1 (chronyd, the machine's clock)
//! ```

use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};
use stele_proto::internal::{TimeReport, TimeServer, TimeTask, time_report::State};

/// The answers that the daemon wants before it is sure of a server, and more.
const SETTLED: Duration = Duration::from_secs(25);
const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// The server.
pub(crate) const SERVER: &str = "10.78.0.1";
/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Gives the agent its folder where it looks for it, its standard output as descriptor 3, and no right at all.
const CONFINE: &str = "mount -t tmpfs none /run && mkdir -p /run/stele/time && mount --bind \"$0\" /run/stele/time && \
    exec setpriv --reuid 211 --regid 211 --clear-groups --no-new-privs --bounding-set -all --inh-caps -all \
    env LD_PRELOAD=\"$1\" CLOCK_OFFSET=\"$2\" \"$3\" time 3>&1 >\"$4\" 2>&1";

/// Two namespaces and what runs in them. All of it goes when this does.
pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    server: Option<Child>,
    agent: Option<Child>,
    /// Who signed the server's certificate.
    pub(crate) authority: String,
}

/// What the agent reports.
pub(crate) struct Reports(Receiver<TimeReport>);

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install iproute2, chrony and gcc"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} (this test needs root): {complaint}");
}

impl Lab {
    /// A server with a certificate of this age, and a clock that is off by so many seconds.
    pub(crate) fn new(test: &str, off: i64) -> Lab {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        for part in ["agent", "dump"] {
            fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        let authority = certificates(&folder);
        let mut lab = Lab { name, folder, server: None, agent: None, authority };
        for side in ["client", "server"] {
            run("ip", &["netns", "add", &lab.side(side)]);
            run("ip", &["-n", &lab.side(side), "link", "set", "lo", "up"]);
        }
        let words = format!("link add lan type veth peer name lan netns {}", lab.side("client"));
        lab.ip("server", &words);
        for (side, address) in [("server", SERVER), ("client", "10.78.0.2")] {
            lab.ip(side, &format!("address add {address}/24 dev lan"));
            lab.ip(side, "link set lan up");
        }
        lab.set_clock(off);
        run("chown", &["-R", "211:211", &lab.path("agent"), &lab.path("offset")]);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/time_chrony/clock.c");
        run("cc", &["-shared", "-fPIC", "-o", &lab.path("clock.so"), source, "-ldl"]);
        lab.serve();
        lab
    }

    fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    fn ip(&self, side: &str, arguments: &str) {
        let side = self.side(side);
        let mut words = vec!["-n", side.as_str()];
        words.extend(arguments.split_whitespace());
        run("ip", &words);
    }

    /// Starts chrony, which gives out the time of this machine and does not touch it.
    pub(crate) fn serve(&mut self) {
        let configuration = format!(
            "local stratum 3\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {0}/pid\nntsdumpdir {0}/dump\n\
             ntsserverkey {0}/key.pem\nntsservercert {0}/certificate.pem\n",
            self.folder.display()
        );
        fs::write(self.folder.join("chrony.conf"), configuration).expect("a file");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.side("server")])
            .args(["chronyd", "-x", "-d", "-U", "-u", "root", "-f", &self.path("chrony.conf")])
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(child.expect("ip, from iproute2"));
        let begun = Instant::now();
        while !self.folder.join("pid").exists() {
            assert!(begun.elapsed() < PATIENCE, "chronyd, from chrony, does not start");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends chrony.
    pub(crate) fn leave(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The server, with or without NTS.
    pub(crate) fn server(&self, nts: bool) -> TimeServer {
        let ca = if nts { self.authority.clone() } else { String::new() };
        TimeServer { host: SERVER.to_owned(), port: if nts { 4460 } else { 123 }, nts, ca }
    }

    /// Starts the agent, as PID 1 would but with a clock of its own.
    pub(crate) fn agent(&mut self, task: &TimeTask) -> Reports {
        fs::write(self.folder.join("agent/task"), task.encode_to_vec()).expect("a file");
        let paths = ["agent", "clock.so", "offset"].map(|file| self.path(file));
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.side("client"), "sh", "-c", CONFINE])
            .args(&paths)
            .args([AGENT, &self.path("agent/log")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip, from iproute2");
        let mut reports = child.stdout.take().expect("a pipe");
        self.agent = Some(child);
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut length = [0; 4];
            while reports.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                let read = reports.read_exact(&mut message).is_ok();
                if !read || sender.send(TimeReport::decode(&*message).expect("a report")).is_err() {
                    break;
                }
            }
        });
        Reports(receiver)
    }

    /// By how many seconds the agent's clock is ahead.
    pub(crate) fn off(&self) -> f64 {
        let bytes = fs::read(self.folder.join("offset")).expect("the clock");
        i64::from_le_bytes(bytes.try_into().expect("eight bytes")) as f64 / 1e9
    }

    /// Sets it behind the agent's back.
    pub(crate) fn set_clock(&self, off: i64) {
        // In place: it is mapped.
        fs::write(self.folder.join("offset"), (off * 1_000_000_000).to_le_bytes()).expect("a file");
    }
}

impl Reports {
    /// Waits until the daemon is sure of its server.
    pub(crate) fn settle(&self) {
        self.wait_for(State::Synchronized);
        let end = Instant::now() + SETTLED;
        while self.0.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
    }

    /// Waits for a report of this state.
    pub(crate) fn wait_for(&self, state: State) -> TimeReport {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            match self.0.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(report) if report.state() == state => return report,
                Ok(report) => last = Some(report),
                Err(RecvTimeoutError::Timeout) => panic!("no {state:?} in time; at last {last:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the agent has ended after {last:?}"),
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.leave();
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for side in ["client", "server"] {
            // The daemon outlives an agent that is killed; PID 1 ends its whole group.
            let side = self.side(side);
            let pids = Command::new("ip").args(["netns", "pids", &side]).output();
            let pids = pids.map(|output| output.stdout).unwrap_or_default();
            for pid in String::from_utf8_lossy(&pids).split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
            let _ = Command::new("ip").args(["netns", "del", &side]).status();
        }
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Makes an authority and a certificate of the server's, both of an hour ago; the authority's as PEM.
fn certificates(folder: &Path) -> String {
    let begun = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = begun;
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec![SERVER.to_owned()]).expect("an address");
    params.not_before = begun;
    params.not_after = begun + time::Duration::days(30);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    fs::write(folder.join("certificate.pem"), certificate).expect("a file");
    fs::write(folder.join("key.pem"), key.serialize_pem()).expect("a file");
    authority
}
