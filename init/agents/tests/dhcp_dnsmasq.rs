// SPDX-License-Identifier: Apache-2.0
//! The DHCP agent against dnsmasq, in network namespaces of their own: nothing leaves them.
//!
//! ```text
//!   client namespace        server namespace                 rival namespace
//!   client (agent) ──────── uplink ─ lan (bridge, dnsmasq) ─ rivals ──────── rival
//! ```

use prost::Message as _;
use std::{
    io::Read as _,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use stele_proto::internal::{Lease, LeaseReport, lease_report::Report};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Hands the agent its standard output as descriptor 3, and leaves it what PID 1 leaves it.
const CONFINE: &str = "exec setpriv --reuid 202 --regid 202 --clear-groups --no-new-privs \\
    --bounding-set -all,+net_raw --inh-caps -all,+net_raw --ambient-caps +net_raw \"$@\" 3>&1 >/dev/null";

/// Runs a program to its end.
fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install iproute2 and dnsmasq-base"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments} (this test needs root): {complaint}");
}

/// Three namespaces and what runs in them. All of it goes when this does.
struct Lab {
    name: String,
    folder: PathBuf,
    children: Vec<Child>,
}

impl Lab {
    fn new(test: &str) -> Self {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let lab = Self { name, folder, children: Vec::new() };
        for side in ["client", "server", "rival"] {
            run("ip", &format!("netns add {}", lab.side(side)));
        }
        lab.link("server", "link add lan type bridge forward_delay 0");
        for (port, side) in [("uplink", "client"), ("rivals", "rival")] {
            lab.link(
                "server",
                &format!("link add {port} type veth peer name {side} netns {}", lab.side(side)),
            );
            lab.link("server", &format!("link set {port} master lan up"));
        }
        lab.link("server", "address add 10.77.0.1/24 dev lan");
        lab.link("server", "link set lan up");
        lab.link("rival", "link set rival up");
        lab
    }

    fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    /// Runs ip(8) in a namespace.
    fn link(&self, side: &str, arguments: &str) {
        run("ip", &format!("-n {} {arguments}", self.side(side)));
    }

    fn spawn(&mut self, side: &str, arguments: &[&str], stdout: Stdio) -> &mut Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.side(side)]).args(arguments).stdout(stdout);
        self.children.push(command.spawn().expect("ip, from iproute2"));
        self.children.last_mut().expect("the child just started")
    }

    /// Starts the server; it is up when this returns.
    fn serve(&mut self, options: &[&str]) {
        let leases = format!("--dhcp-leasefile={}", self.folder.join("leases").display());
        let pid = self.folder.join("pid");
        let pid_file = format!("--pid-file={}", pid.display());
        let mut arguments = vec![
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--log-facility=/dev/null",
            "--user=root",
            "--port=0",
            "--no-ping",
            "--interface=lan",
            "--dhcp-authoritative",
            "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m",
            leases.as_str(),
            pid_file.as_str(),
        ];
        arguments.extend(options);
        self.spawn("server", &arguments, Stdio::null());
        wait_for("dnsmasq, from dnsmasq-base", || pid.exists().then_some(()));
    }

    /// Starts the agent, as PID 1 would, and gives what it reports.
    fn agent(&mut self, arguments: &[&str]) -> Reports {
        self.link("client", "link set client up");
        let all = [&["sh", "-c", CONFINE, "sh", AGENT, "dhcp", "client"], arguments].concat();
        let mut reports = self.spawn("client", &all, Stdio::piped()).stdout.take().expect("a pipe");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut length = [0; 4];
            while reports.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                if reports.read_exact(&mut message).is_err() {
                    break;
                }
                let report = LeaseReport::decode(&message[..])
                    .expect("a report")
                    .report
                    .expect("a report of something");
                if sender.send(report).is_err() {
                    break;
                }
            }
        });
        Reports(receiver)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            // What has ended already can't be killed; everything else here is as good as it gets.
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in ["client", "server", "rival"] {
            let _ = Command::new("ip").args(["netns", "delete", &self.side(side)]).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the agent reports.
struct Reports(Receiver<Report>);

impl Reports {
    fn next(&self) -> Report {
        self.0.recv_timeout(PATIENCE).expect("a report of the agent")
    }

    fn lease(&self) -> Lease {
        loop {
            match self.next() {
                Report::Lease(lease) => return lease,
                Report::Lost(why) => panic!("the lease was lost: {why}"),
                Report::Waiting(_) | Report::Lease6(_) => {}
            }
        }
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn text(address: &[u8]) -> String {
    Ipv4Addr::from(<[u8; 4]>::try_from(address).expect("four bytes")).to_string()
}

#[test]
fn a_lease_comes_at_once_and_with_all_that_the_server_says() {
    let mut lab = Lab::new("all");
    lab.serve(&[
        "--dhcp-option=option:router,10.77.0.1",
        "--dhcp-option=option:dns-server,10.77.0.1,10.77.0.2",
        "--dhcp-option=option:ntp-server,10.77.0.3",
        "--dhcp-option=option:domain-name,lab.example",
        "--dhcp-option=option:domain-search,lab.example,deep.lab.example,example",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=option:classless-static-route,192.0.2.0/25,10.77.0.9,0.0.0.0/0,10.77.0.1",
    ]);
    let start = Instant::now();
    let reports = lab.agent(&["--hostname", "node-1"]);
    let lease = reports.lease();
    let took = start.elapsed();
    let last = *lease.address.last().expect("an address");
    assert!(
        lease.address.starts_with(&[10, 77, 0]) && (50..=60).contains(&last),
        "{:?}",
        lease.address
    );
    assert_eq!((lease.prefix_length, lease.mtu, lease.lease_seconds), (24, 1400, 120));
    assert_eq!(text(&lease.server), "10.77.0.1");
    assert_eq!((lease.domain.as_str(), lease.hostname.as_str()), ("lab.example", "node-1"));
    // The server writes the ends of names once.
    assert_eq!(lease.search, ["lab.example", "deep.lab.example", "example"]);
    let all = |list: &[Vec<u8>]| list.iter().map(|address| text(address)).collect::<Vec<_>>();
    assert_eq!(all(&lease.routers), ["10.77.0.1"]);
    assert_eq!(all(&lease.dns_servers), ["10.77.0.1", "10.77.0.2"]);
    assert_eq!(all(&lease.ntp_servers), ["10.77.0.3"]);
    let route = |route: &stele_proto::internal::StaticRoute| {
        format!("{}/{} {}", text(&route.destination), route.prefix_length, text(&route.gateway))
    };
    let routes: Vec<_> = lease.routes.iter().map(route).collect();
    assert_eq!(routes, ["192.0.2.0/25 10.77.0.9", "0.0.0.0/0 10.77.0.1"]);
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}

#[test]
fn a_server_knows_the_machine_by_what_it_says_of_itself() {
    let mut lab = Lab::new("id");
    lab.serve(&["--dhcp-host=id:00:6e:6f:64:65,10.77.0.58"]);
    let reports = lab.agent(&["--client-id", "00:6e:6f:64:65"]);
    assert_eq!(text(&reports.lease().address), "10.77.0.58");
}

#[test]
fn rapid_commit_is_taken() {
    let mut lab = Lab::new("rapid");
    lab.serve(&["--dhcp-rapid-commit"]);
    lab.agent(&[]).lease();
}

#[test]
fn a_lease_is_renewed_in_time_by_its_server() {
    let mut lab = Lab::new("renew");
    lab.serve(&["--dhcp-option=option:T1,5s", "--dhcp-option=option:T2,100s"]);
    let reports = lab.agent(&[]);
    let first = reports.lease();
    lab.link("client", &format!("address add {}/24 dev client", text(&first.address)));
    let start = Instant::now();
    let second = reports.lease();
    assert_eq!(first, second);
    assert!(
        start.elapsed() > Duration::from_millis(500),
        "a lease is renewed, not asked for twice"
    );
}

#[test]
fn a_cable_that_comes_back_brings_the_same_address() {
    let mut lab = Lab::new("cable");
    lab.serve(&[]);
    let reports = lab.agent(&[]);
    let first = reports.lease();
    lab.link("server", "link set uplink down");
    // The carrier's comings and goings are counted, so this needs no wait for the agent to see it gone.
    lab.link("server", "link set uplink up");
    assert_eq!(reports.lease(), first);
}

#[test]
fn a_link_without_a_server_waits_and_says_so_until_there_is_one() {
    let mut lab = Lab::new("late");
    let reports = lab.agent(&[]);
    assert_eq!(reports.next(), Report::Waiting("Looking for a DHCP server".to_owned()));
    assert_eq!(reports.next(), Report::Waiting("No DHCP server answers; still asking".to_owned()));
    lab.serve(&[]);
    reports.lease();
}

#[test]
fn an_address_that_another_machine_has_is_given_back() {
    let mut lab = Lab::new("rival");
    lab.serve(&["--dhcp-host=02:00:00:00:00:07,10.77.0.55"]);
    lab.link("rival", "address add 10.77.0.55/24 dev rival");
    lab.link("client", "link set client address 02:00:00:00:00:07");
    let reports = lab.agent(&[]);
    assert_eq!(text(&reports.lease().address), "10.77.0.55");
    let Report::Lost(why) = reports.next() else { panic!("the conflict was not seen") };
    assert!(why.starts_with("The address 10.77.0.55 is used by "), "{why}");
}

#[test]
fn a_link_that_goes_ends_the_agent() {
    let mut lab = Lab::new("gone");
    lab.serve(&[]);
    let reports = lab.agent(&[]);
    reports.lease();
    lab.link("server", "link delete uplink");
    let ended = wait_for("the agent's end", || lab.children.last_mut()?.try_wait().ok()?);
    assert_eq!(ended.code(), Some(1));
}
