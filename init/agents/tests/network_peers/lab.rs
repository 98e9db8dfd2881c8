// SPDX-License-Identifier: Apache-2.0
//! Two network namespaces with a cable between them: nothing leaves them. All of it goes when the lab does.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use stele_proto::internal::{LeaseReport, lease_report::Report};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install iproute2"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} (this test needs root): {complaint}");
}

pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    children: Vec<Child>,
    server: Option<Child>,
    router: Option<Child>,
}

impl Lab {
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("a folder");
        let lab = Self { name, folder, children: Vec::new(), server: None, router: None };
        for side in ["client", "server"] {
            run("ip", &["netns", "add", &lab.side(side)]);
        }
        // The server's own address is to be there at once.
        lab.within("server", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        let client = lab.side("client");
        lab.link("server", &format!("link add lan type veth peer name client netns {client}"));
        // A link has an address of its own only with a carrier.
        lab.link("client", "link set client up");
        lab.link("server", "link set lan up");
        // Kea does not listen on a link before the kernel calls it running.
        wait_for("the link of the server", || lab.tells("link show lan", "state UP"));
        wait_for("its own address", || lab.tells("address show lan", "inet6 fe80"));
        lab
    }

    fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    /// Runs ip(8) in a namespace.
    pub(crate) fn link(&self, side: &str, arguments: &str) {
        let side = self.side(side);
        run(
            "ip",
            &[&["-n", side.as_str()][..], &arguments.split(' ').collect::<Vec<_>>()].concat(),
        );
    }

    /// Whether ip(8) says something of the server.
    fn tells(&self, question: &str, what: &str) -> Option<()> {
        let side = self.side("server");
        let output =
            Command::new("ip").args(["-n", &side]).args(question.split(' ')).output().ok()?;
        String::from_utf8_lossy(&output.stdout).contains(what).then_some(())
    }

    /// What ip(8) says of a side.
    pub(crate) fn says(&self, side: &str, question: &str) -> String {
        let side = self.side(side);
        let words = question.split(' ');
        let output = Command::new("ip").args(["-n", &side]).args(words).output();
        String::from_utf8(output.expect("ip, from iproute2").stdout).expect("words")
    }

    /// Does something on a side.
    pub(crate) fn on<T: Send>(&self, side: &str, work: impl FnOnce() -> T + Send) -> T {
        let place = format!("/run/netns/{}", self.side(side));
        let place = File::open(place).expect("a namespace");
        // The namespace is a property of the thread.
        let enter = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(place.as_fd(), network).expect("to get in");
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join().expect("what is found"))
    }

    pub(crate) fn within(&self, side: &str, script: &str) {
        run("ip", &["netns", "exec", &self.side(side), "sh", "-c", script]);
    }

    /// Starts a server in place of the one before; it is up when this returns.
    pub(crate) fn serve(&mut self, version: u8, mut settings: Value) {
        self.stop();
        settings["interfaces-config"] = json!({"interfaces": ["lan"]});
        settings["lease-database"] = json!({"type": "memfile", "persist": false});
        if version == 6 {
            settings["server-id"] = json!({"type": "LL", "persist": false});
        }
        let log = self.folder.join("log");
        fs::write(&log, "").expect("a file");
        settings["loggers"] = json!([{
            "name": format!("kea-dhcp{version}"),
            "severity": "INFO",
            "output_options": [{"output": log, "flush": true}],
        }]);
        let file = self.folder.join("kea.json");
        let text = json!({format!("Dhcp{version}"): settings}).to_string();
        fs::write(&file, text).expect("a file");
        let program = format!("kea-dhcp{version}");
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.side("server"), &program, "-c"])
            .arg(&file)
            .env("KEA_PIDFILE_DIR", &self.folder)
            .env("KEA_LOCKFILE_DIR", "none")
            .stdout(Stdio::null());
        self.server = Some(command.spawn().expect("ip, from iproute2"));
        wait_for(&format!("{program}, from {program}-server"), || {
            self.log().contains("_STARTED").then_some(())
        });
    }

    /// What the server has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The server goes.
    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("it runs");
            server.wait().expect("its end");
        }
    }

    /// Starts radvd with these lines for the link, in place of the one before.
    pub(crate) fn advertise(&mut self, lines: &str) {
        self.silence();
        self.within("server", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        let (file, pid) = (self.folder.join("radvd.conf"), self.folder.join("radvd.pid"));
        let text = format!(
            "interface lan {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; {lines} }};"
        );
        fs::write(&file, text).expect("a file");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.side("server"), "radvd", "-n", "-m", "none", "-C"]);
        command.arg(&file).arg("-p").arg(&pid);
        self.router = Some(command.spawn().expect("ip, from iproute2"));
        wait_for("radvd", || pid.exists().then_some(()));
    }

    /// The router goes, without a word.
    pub(crate) fn silence(&mut self) {
        if let Some(mut router) = self.router.take() {
            router.kill().expect("it runs");
            router.wait().expect("its end");
            fs::remove_file(self.folder.join("radvd.pid")).expect("a file");
        }
    }

    /// Starts an agent of leases, as PID 1 would, and gives what it reports.
    pub(crate) fn agent(&mut self, arguments: &[&str], capability: &str) -> Reports<Report> {
        let report = |message: LeaseReport| message.report.expect("a report of something");
        self.reporter(arguments, capability, report)
    }

    /// A file that an agent may read.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Sends SIGHUP to the agent that was started last.
    pub(crate) fn reload(&self) {
        let agent = self.children.last().expect("an agent").id();
        run("kill", &["-HUP", &agent.to_string()]);
    }

    /// Starts any agent, as PID 1 would, and gives what it reports.
    pub(crate) fn reporter<M: prost::Message + Default + 'static, T: Send + 'static>(
        &mut self,
        arguments: &[&str],
        capability: &str,
        report: fn(M) -> T,
    ) -> Reports<T> {
        // Hands the agent its standard output as descriptor 3, leaves it what PID 1 leaves it, and ignores SIGHUP as that does.
        let kept = if capability.is_empty() { String::new() } else { format!(",+{capability}") };
        let confine = format!(
            "trap '' HUP; exec setpriv --reuid 202 --regid 202 --clear-groups --no-new-privs \
             --bounding-set -all{kept} --inh-caps -all{kept} --ambient-caps -all{kept} \
             \"$@\" 3>&1 >/dev/null"
        );
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.side("client"), "sh", "-c", &confine, "sh", AGENT])
            .args(arguments)
            .stdout(Stdio::piped());
        let mut agent = command.spawn().expect("ip, from iproute2");
        let mut reports = agent.stdout.take().expect("a pipe");
        self.children.push(agent);
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut length = [0; 4];
            while reports.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                if reports.read_exact(&mut message).is_err() {
                    break;
                }
                let message = M::decode(&message[..]).expect("a report");
                if sender.send(report(message)).is_err() {
                    break;
                }
            }
        });
        Reports(receiver)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.children.iter_mut().chain(&mut self.server).chain(&mut self.router) {
            // What has ended already can't be killed; everything else here is as good as it gets.
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in ["client", "server"] {
            let _ = Command::new("ip").args(["netns", "delete", &self.side(side)]).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What an agent reports.
pub(crate) struct Reports<T>(Receiver<T>);

impl<T> Reports<T> {
    pub(crate) fn next(&self) -> T {
        self.0.recv_timeout(PATIENCE).expect("a report of the agent")
    }

    /// Whether nothing more is said for this long.
    pub(crate) fn is_silent(&self, time: Duration) -> bool {
        self.0.recv_timeout(time).is_err()
    }
}

impl Reports<Report> {
    /// The next one that is not about what is being tried.
    pub(crate) fn news(&self) -> Report {
        loop {
            match self.next() {
                Report::Waiting(_) => {}
                report => return report,
            }
        }
    }
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
