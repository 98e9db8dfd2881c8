// SPDX-License-Identifier: Apache-2.0
//! A network of three namespaces, and the agent in one of them.

use prost::Message;
use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use stele_proto::v1::{
    CaptureChunk, CaptureEnd, CaptureFilter, CaptureRequest, PingReply, PingRequest, ProbeRequest,
    ProbeResponse, TcpProbe, probe_request::Target,
};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Leaves the agent what PID 1 leaves it.
const CONFINE: &str = "exec setpriv --reuid 209 --regid 209 --clear-groups --no-new-privs \
    --bounding-set -all,+net_raw --inh-caps -all,+net_raw --ambient-caps +net_raw \"$@\"";

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install iproute2 and openssl"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments} (this test needs root): {complaint}");
}

/// Three namespaces and what runs in them. All of it goes when this does.
pub(crate) struct Lab {
    name: String,
    pub(crate) folder: PathBuf,
    children: Vec<Child>,
}

impl Lab {
    pub(crate) fn new(test: &str) -> Lab {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let lab = Lab { name, folder, children: Vec::new() };
        for side in ["here", "router", "there"] {
            run("ip", &format!("netns add {}", lab.side(side)));
            // Addresses are there at once: nobody else has them.
            let settings = "cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding; \
                for which in all default; do echo 0 >ipv6/conf/$which/accept_dad; done";
            let status = lab.inside(side).args(["sh", "-c", settings]).status().expect("sh");
            assert!(status.success());
            lab.ip(side, "link set lo up");
        }
        for (side, near, far, number) in [("here", 2, 1, 78), ("there", 9, 1, 79)] {
            lab.ip(
                "router",
                &format!("link add to-{side} type veth peer name {side} netns {}", lab.side(side)),
            );
            for (space, link, host) in [(side, side, near), ("router", &format!("to-{side}"), far)]
            {
                lab.ip(space, &format!("address add 10.{number}.0.{host}/24 dev {link}"));
                lab.ip(space, &format!("address add fd{number}::{host}/64 dev {link} nodad"));
                lab.ip(space, &format!("link set {link} up"));
            }
            lab.ip(side, &format!("route add default via 10.{number}.0.1"));
            lab.ip(side, &format!("-6 route add default via fd{number}::1"));
        }
        // IPv6 takes a second or two to find its neighbours.
        let since = Instant::now();
        let one = PingRequest { count: 1, ..ping("fd79::9") };
        while lab.ask::<PingReply>("ping", &one).iter().any(|reply| reply.address != "fd79::9") {
            assert!(since.elapsed() < PATIENCE, "the way to the other side is not there");
        }
        lab
    }

    pub(crate) fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    pub(crate) fn ip(&self, side: &str, arguments: &str) {
        run("ip", &format!("-n {} {arguments}", self.side(side)));
    }

    pub(crate) fn inside(&self, side: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.side(side)]);
        command
    }

    /// Starts the agent, as PID 1 would, with its question.
    pub(crate) fn begin(&self, action: &str, request: &impl Message) -> Child {
        let mut command = self.inside("here");
        command.args(["sh", "-c", CONFINE, "sh", AGENT, "diagnose", action]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ip, from iproute2");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(&request.encode_to_vec()).expect("writing the request");
        child
    }

    /// The agent's answers, and what it complains of.
    pub(crate) fn end<M: Message + Default>(child: Child) -> (Vec<M>, String) {
        let output = child.wait_with_output().expect("the agent's output");
        let mut answers = Vec::new();
        let mut bytes = output.stdout.as_slice();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            answers.push(M::decode(message).expect("an answer"));
            bytes = rest;
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), complaint.is_empty(), "{complaint}");
        (answers, complaint)
    }

    pub(crate) fn ask<M: Message + Default>(&self, action: &str, request: &impl Message) -> Vec<M> {
        let (answers, complaint) = Lab::end(self.begin(action, request));
        assert_eq!(complaint, "");
        answers
    }

    /// Starts a name server on the other side.
    pub(crate) fn serve_names(&mut self) {
        let pid = self.folder.join("pid");
        let mut command = self.inside("there");
        command.args(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts"]);
        command.args(["--no-resolv", "--user=root", "--log-facility=/dev/null", "--local=/lab/"]);
        command.arg(format!("--pid-file={}", pid.display()));
        command.args(["--host-record=web.lab,10.79.0.9,fd79::9,300"]);
        command.args(["--mx-host=web.lab,mail.lab,10", "--txt-record=web.lab,two words"]);
        self.children.push(command.spawn().expect("ip, from iproute2"));
        let since = Instant::now();
        while !pid.exists() {
            assert!(since.elapsed() < PATIENCE, "dnsmasq, from dnsmasq-base, does not start");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has this side ask that name server: ip-netns(8) puts the file in the place of the machine's own.
    pub(crate) fn ask_names(&self) {
        let folder = self.own_files();
        std::fs::create_dir_all(&folder).expect("a folder (this test needs root)");
        std::fs::write(folder.join("resolv.conf"), "nameserver 10.79.0.9\n")
            .expect("writing a file");
    }

    fn own_files(&self) -> PathBuf {
        PathBuf::from(format!("/etc/netns/{}", self.side("here")))
    }

    /// Starts a server on the other side, and waits until it takes connections.
    pub(crate) fn serve(&mut self, port: u16, program: &[&str], files: &[&Path]) {
        let mut command = self.inside("there");
        command.args(program).args(files);
        // openssl ends when this does.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().expect("ip, from iproute2"));
        let since = Instant::now();
        let tcp = TcpProbe { address: format!("10.79.0.9:{port}") };
        while !self.probe(Target::Tcp(tcp.clone())).ok {
            assert!(since.elapsed() < PATIENCE, "{program:?} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn probe(&self, target: Target) -> ProbeResponse {
        self.ask("probe", &ProbeRequest { target: Some(target), timeout_ms: 1000 }).remove(0)
    }

    /// A capture that has begun.
    pub(crate) fn capture(
        &self,
        link: &str,
        filter: CaptureFilter,
        limits: CaptureRequest,
    ) -> Child {
        let request = CaptureRequest { link: link.to_owned(), filter: Some(filter), ..limits };
        let mut child = self.begin("capture", &request);
        let mut first = [0; 4];
        let stdout = child.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut first).expect("the first chunk");
        let mut chunk = vec![0; u32::from_be_bytes(first) as usize];
        stdout.read_exact(&mut chunk).expect("the first chunk");
        let chunk = CaptureChunk::decode(&chunk[..]).expect("a chunk");
        std::fs::write(self.folder.join("pcap"), chunk.pcap).expect("writing a file");
        child
    }

    /// Waits for its end. What tcpdump reads, a line each, and what the agent says of its end.
    pub(crate) fn captured(&self, child: Child) -> (Vec<String>, CaptureEnd) {
        let (chunks, complaint) = Lab::end::<CaptureChunk>(child);
        assert_eq!(complaint, "");
        let file = self.folder.join("pcap");
        let mut pcap = std::fs::read(&file).expect("reading a file");
        pcap.extend(chunks.iter().flat_map(|chunk| &chunk.pcap));
        std::fs::write(&file, pcap).expect("writing a file");
        let output = Command::new("tcpdump")
            .args(["-n", "-t", "-r"])
            .arg(&file)
            .output()
            .unwrap_or_else(|error| panic!("tcpdump: {error}; install it for this test"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let end = chunks.last().and_then(|chunk| chunk.end.clone()).expect("an end");
        (text.lines().map(str::to_owned).collect(), end)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            // What has ended already can't be killed; everything else here is as good as it gets.
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in ["here", "router", "there"] {
            let _ = Command::new("ip").args(["netns", "delete", &self.side(side)]).status();
        }
        for folder in [&self.folder, &self.own_files()] {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Three quick requests.
pub(crate) fn ping(host: &str) -> PingRequest {
    PingRequest {
        host: host.to_owned(),
        count: 3,
        interval_ms: 200,
        timeout_ms: 500,
        size: 56,
        ..PingRequest::default()
    }
}
