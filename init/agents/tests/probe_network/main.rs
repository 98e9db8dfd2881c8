// SPDX-License-Identifier: Apache-2.0
//! The probe agent in a network namespace, as PID 1 runs it, and what it tries in another one: the kernel's answers to echo
//! requests, python3's web server, unbound. Each goes away and comes back.
//!
//! ```text
//!   client (agent) 10.79.0.10 ─── 10.79.0.1 server (web:8080, unbound:53)
//!                  fd79::10       fd79::1
//! ```

use prost::Message as _;
use std::{
    fs,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use stele_proto::internal::ProbeReport;

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// The namespaces; what is in the third is up to the test.
const SIDES: [&str; 3] = ["client", "server", "third"];
/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Gives the agent the servers of the client's side, its standard output as descriptor 3, and what PID 1 leaves it.
const CONFINE: &str = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
    exec setpriv --reuid 206 --regid 206 --clear-groups --no-new-privs --bounding-set -all --inh-caps -all \
    \"$1\" probe \"$0/task\" 3>&1 >/dev/null";
const UNBOUND: &str = "server:\n  interface: 10.79.0.1\n  access-control: 10.79.0.0/24 allow\n  do-daemonize: no\n  \
    module-config: \"iterator\"\n  directory: \".\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  local-zone: \"lab.\" static\n  \
    local-data: \"web.lab. A 192.0.2.9\"\n  local-data: \"web.lab. AAAA fd79::1\"\nremote-control:\n  control-enable: no\n";

/// Namespaces and what runs in them. All of it goes when this does.
struct Lab {
    name: String,
    folder: PathBuf,
    children: Vec<Child>,
}

/// What the agent reports.
struct Reports(Receiver<ProbeReport>);

fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install iproute2"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments} (this test needs root): {complaint}");
}

impl Lab {
    fn new(test: &str) -> Lab {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("a folder");
        let lab = Lab { name, folder, children: Vec::new() };
        for side in SIDES {
            run("ip", &format!("netns add {}", lab.side(side)));
            lab.ip(side, "link set lo up");
        }
        lab.within("client", "echo 206 206 > /proc/sys/net/ipv4/ping_group_range");
        // A router says again what it has just said.
        lab.within("server", "cd /proc/sys/net/ipv4; echo 1 > ip_forward; echo 0 > icmp_ratelimit");
        lab.ip(
            "server",
            &format!("link add lan type veth peer name lan netns {}", lab.side("client")),
        );
        for (side, host) in [("server", 1), ("client", 10)] {
            lab.ip(side, "link set lan up");
            lab.ip(side, &format!("address add 10.79.0.{host}/24 dev lan"));
            lab.ip(side, &format!("address add fd79::{host}/64 dev lan nodad"));
        }
        lab.ip("client", "route add 192.0.2.0/24 via 10.79.0.1");
        lab.ip("server", "route add unreachable 192.0.2.7");
        lab.ip("server", "route add blackhole 192.0.2.9");
        lab.write("resolv.conf", "nameserver 10.79.0.1\n");
        lab.write("unbound.conf", UNBOUND);
        lab.write("index.html", "fine\n");
        lab
    }

    fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    fn ip(&self, side: &str, arguments: &str) {
        run("ip", &format!("-n {} {arguments}", self.side(side)));
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).expect("writing a file");
    }

    fn inside(&self, side: &str, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.side(side)]).args(program).current_dir(&self.folder);
        command
    }

    fn within(&self, side: &str, script: &str) {
        let status = self.inside(side, &["sh", "-c", script]).status().expect("ip, from iproute2");
        assert!(status.success(), "{script}");
    }

    /// Starts a server, whose number this returns.
    fn serve(&mut self, program: &[&str]) -> usize {
        let mut command = self.inside("server", program);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().expect("ip, from iproute2"));
        self.children.len() - 1
    }

    fn serve_web(&mut self) -> usize {
        self.serve(&["python3", "-m", "http.server", "--bind", "10.79.0.1", "8080"])
    }

    fn serve_names(&mut self) -> usize {
        self.serve(&["unbound", "-d", "-c", "unbound.conf"])
    }

    fn end(&mut self, server: usize) {
        let child = &mut self.children[server];
        child.kill().expect("a server that runs");
        child.wait().expect("its end");
    }

    /// Starts the agent with these tries, each a name and what it is.
    fn probe(&mut self, tries: &[(&str, &str)]) -> Reports {
        let check = |(name, what): &(&str, &str)| {
            format!(r#"{{"name":"{name}","intervalMs":200,"timeoutMs":1000,{what}}}"#)
        };
        let checks: Vec<String> = tries.iter().map(check).collect();
        self.write("task", &format!(r#"{{"checks":[{}]}}"#, checks.join(",")));
        let folder = self.folder.display().to_string();
        let mut command = self.inside("client", &["sh", "-c", CONFINE, &folder, AGENT]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("ip, from iproute2");
        let mut stdout = child.stdout.take().expect("a pipe");
        self.children.push(child);
        let (sender, reports) = channel();
        thread::spawn(move || {
            let mut length = [0; 4];
            while stdout.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                stdout.read_exact(&mut message).expect("a whole report");
                let report = ProbeReport::decode(&*message).expect("a report");
                if sender.send(report).is_err() {
                    break;
                }
            }
        });
        Reports(reports)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already can't be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in SIDES {
            let _ = Command::new("ip").args(["netns", "delete", &self.side(side)]).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Reports {
    /// Waits until the last report of each of these is as it should be: whether it succeeds, and a part of what it says.
    fn come_to(&self, wanted: &[(&str, bool, &str)]) {
        let mut missing: Vec<_> = wanted.to_vec();
        let mut last = Vec::new();
        let since = Instant::now();
        while !missing.is_empty() {
            assert!(since.elapsed() < PATIENCE, "{missing:?} are missing: {last:?}");
            let report = self.0.recv_timeout(PATIENCE).expect("a report in time");
            assert!((1..2_000_000).contains(&report.took_us), "{report:?}");
            missing.retain(|(name, ok, text)| {
                (*name, *ok) != (report.check.as_str(), report.ok) || !report.message.contains(text)
            });
            last.retain(|other: &ProbeReport| other.check != report.check);
            last.push(report);
        }
    }
}

#[test]
fn what_goes_away_and_comes_back() {
    let mut lab = Lab::new("probes");
    let (web, names) = (lab.serve_web(), lab.serve_names());
    let reports = lab.probe(&[
        ("four", r#""icmp":{"address":"10.79.0.1"}"#),
        ("six", r#""icmp":{"address":"fd79::1"}"#),
        ("name", r#""icmp":{"address":"web.lab"}"#),
        ("far", r#""icmp":{"address":"192.0.2.7"}"#),
        ("web", r#""http":{"url":"http://10.79.0.1:8080/","status":200}"#),
        ("port", r#""tcp":{"address":"10.79.0.1:8080"}"#),
        ("dns", r#""dns":{"name":"web.lab","server":"10.79.0.1"}"#),
    ]);
    let there = [
        ("four", true, "10.79.0.1 answers after "),
        ("six", true, "fd79::1 answers after "),
        // Of its addresses, one does not answer.
        ("name", true, "fd79::1 answers after "),
        // The router says so.
        ("far", false, "an echo request to 192.0.2.7: 192.0.2.7: No route to host"),
        ("web", true, "200 OK after "),
        ("port", true, "took a connection after "),
        ("dns", true, "web.lab is 192.0.2.9, fd79::1 after "),
    ];
    reports.come_to(&there);
    lab.end(web);
    lab.end(names);
    lab.ip("server", "address delete fd79::1/64 dev lan");
    reports.come_to(&[
        ("four", true, ""),
        ("six", false, "an echo request to fd79::1: "),
        ("name", false, "an echo request to web.lab: "),
        ("web", false, "Connection refused"),
        ("port", false, "Connection refused"),
        ("dns", false, "resolving web.lab at 10.79.0.1: "),
    ]);
    lab.ip("server", "address delete 10.79.0.1/24 dev lan");
    reports.come_to(&[("four", false, "an echo request to 10.79.0.1: ")]);
    lab.ip("server", "address add 10.79.0.1/24 dev lan");
    lab.ip("server", "address add fd79::1/64 dev lan nodad");
    lab.serve_web();
    lab.serve_names();
    reports.come_to(&there);
}

#[test]
fn a_setting_that_forbids_echo_requests_is_told() {
    let mut lab = Lab::new("forbidden");
    lab.within("client", "echo 1 0 > /proc/sys/net/ipv4/ping_group_range");
    let reports = lab.probe(&[
        ("four", r#""icmp":{"address":"10.79.0.1"}"#),
        ("six", r#""icmp":{"address":"fd79::1"}"#),
    ]);
    let why = "net.ipv4.ping_group_range lets this agent send no echo requests";
    reports.come_to(&[("four", false, why), ("six", false, why)]);
}

/// A router tells of the shorter way, and passes the request on all the same.
#[test]
fn a_redirect_is_no_failure() {
    let mut lab = Lab::new("redirect");
    lab.ip("server", "link add switch type bridge");
    lab.ip("server", "address delete 10.79.0.1/24 dev lan");
    lab.ip(
        "server",
        &format!("link add cable type veth peer name lan netns {}", lab.side("third")),
    );
    for port in ["lan", "cable"] {
        lab.ip("server", &format!("link set {port} master switch up"));
    }
    lab.ip("server", "link set switch up");
    lab.ip("server", "address add 10.79.0.1/24 dev switch");
    lab.ip("third", "link set lan up");
    lab.ip("third", "address add 10.79.0.20/24 dev lan");
    lab.ip("third", "address add 192.0.2.20/32 dev lo");
    lab.ip("server", "route add 192.0.2.20 via 10.79.0.20");
    let reports = lab.probe(&[("far", r#""icmp":{"address":"192.0.2.20"}"#)]);
    for _ in 0..3 {
        let report = reports.0.recv_timeout(PATIENCE).expect("a report in time");
        assert!(report.ok, "{report:?}");
    }
    let mut routes = lab.inside("client", &["ip", "route", "get", "192.0.2.20"]);
    let routes = routes.output().expect("ip, from iproute2").stdout;
    let routes = String::from_utf8_lossy(&routes);
    assert!(routes.contains("via 10.79.0.20"), "there was no redirect: {routes}");
}
