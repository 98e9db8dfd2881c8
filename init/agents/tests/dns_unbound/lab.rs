// SPDX-License-Identifier: Apache-2.0
//! Two network namespaces, name servers in the one and the agent in the other, as PID 1 runs it.
//!
//! ```text
//!   client namespace                       server namespace
//!   127.0.0.53 (agent), 10.79.0.10 ─────── 10.79.0.1, .2, .3 (unbound, and what is none)
//! ```

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};
use stele_proto::internal::{DnsReport, DnsServer, DnsTask};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
/// Where the agent listens.
const STUB: &str = "127.0.0.53:53";
/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The name in the certificate of unbound.
pub(crate) const NAME: &str = "dns.example";
/// Gives the agent its folder and the trust roots where it looks for them, its standard output as descriptor 3, and what PID 1
/// leaves it.
const CONFINE: &str = "mount -t tmpfs none /run && mkdir -p /run/stele/dns /run/stele/trust && \
    cp \"$0/task\" /run/stele/dns && cp \"$0/authority.pem\" /run/stele/trust/roots.pem && \
    exec setpriv --reuid 212 --regid 212 --clear-groups --no-new-privs --bounding-set -all,+net_bind_service \
    --inh-caps -all,+net_bind_service --ambient-caps +net_bind_service \"$1\" dns 3>&1 >/dev/null";

/// Two namespaces and what runs in them. All of it goes when this does.
pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    servers: Vec<Child>,
    agent: Option<Child>,
}

/// What the agent reports.
pub(crate) struct Reports(Receiver<DnsReport>);

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install iproute2 and unbound"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} (this test needs root): {complaint}");
}

impl Lab {
    pub(crate) fn new(test: &str) -> Lab {
        let name = format!("stele-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("a folder");
        certificates(&folder);
        let lab = Lab { name, folder, servers: Vec::new(), agent: None };
        for side in ["client", "server"] {
            run("ip", &["netns", "add", &lab.side(side)]);
            run("ip", &["-n", &lab.side(side), "link", "set", "lo", "up"]);
        }
        let words = format!("link add lan type veth peer name lan netns {}", lab.side("client"));
        lab.ip("server", &words);
        for (side, host) in [("server", 1), ("server", 2), ("server", 3), ("client", 10)] {
            lab.ip(side, &format!("address add 10.79.0.{host}/24 dev lan"));
            lab.ip(side, "link set lan up");
        }
        lab
    }

    fn side(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Runs ip(8) on a side.
    pub(crate) fn ip(&self, side: &str, arguments: &str) {
        let side = self.side(side);
        let mut words = vec!["-n", side.as_str()];
        words.extend(arguments.split_whitespace());
        run("ip", &words);
    }

    /// Answers datagrams to 10.79.0.1 with what this makes of each, for as long as the test runs.
    pub(crate) fn answer(&self, mut with: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) {
        let socket = self.inside("server", || UdpSocket::bind("10.79.0.1:53").expect("a socket"));
        let socket = socket.join().expect("a socket");
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&with(&buffer[..length]), from);
            }
        });
    }

    /// Does something in a namespace.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        side: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let file = Path::new("/run/netns").join(self.side(side));
        let namespace = fs::File::open(file).expect("the namespace");
        thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).expect("the namespace");
            work()
        })
    }

    /// Starts unbound, which knows `example` and nothing else, at 10.79.0.HOST; it answers when this returns.
    pub(crate) fn serve(&mut self, host: u8) {
        let file = self.path(&format!("unbound-{host}"));
        let text = format!(
            "server:\n  interface: 10.79.0.{host}@53\n  interface: 10.79.0.{host}@853\n  access-control: 10.79.0.0/24 allow\n  \
             tls-port: 853\n  tls-service-key: {0}/key.pem\n  tls-service-pem: {0}/certificate.pem\n  \
             username: \"\"\n  chroot: \"\"\n  directory: \"{0}\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  \
             do-daemonize: no\n  module-config: \"iterator\"\n  do-not-query-localhost: no\n  ip-freebind: yes\n  \
             minimal-responses: yes\n  max-udp-size: 1232\n  \
             local-zone: \"example.\" static\n  local-data: \"example. 60 IN SOA ns.example. root.example. 1 60 60 60 30\"\n  \
             local-data: \"web.example. 60 IN A 192.0.2.{host}\"\n  local-data: \"web.example. 60 IN AAAA 2001:db8::{host}\"\n  \
             local-data: \"short.example. 1 IN A 192.0.2.{host}\"\n{1}",
            self.folder.display(),
            (0..100)
                .map(|index| format!("  local-data: 'long.example. 60 IN TXT \"{index:0>40}\"'\n"))
                .collect::<String>()
        );
        fs::write(&file, text).expect("a file");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.side("server"), "/usr/sbin/unbound", "-d", "-c", &file])
            .stderr(Stdio::null())
            .spawn()
            .expect("ip, from iproute2");
        self.servers.push(child);
        let begun = Instant::now();
        let place = format!("10.79.0.{host}:853");
        while {
            let place = place.clone();
            let connected = self.inside("client", move || TcpStream::connect(place));
            connected.join().expect("a try").is_err()
        } {
            assert!(begun.elapsed() < PATIENCE, "unbound does not start; install it");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server that was started last.
    pub(crate) fn leave(&mut self) {
        if let Some(mut child) = self.servers.pop() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the agent, as PID 1 would; it listens when this returns.
    pub(crate) fn agent(&mut self, servers: &[(&str, &str)]) -> Reports {
        let server = |(address, name): &(&str, &str)| DnsServer {
            address: (*address).to_owned(),
            name: (*name).to_owned(),
        };
        let task = DnsTask { servers: servers.iter().map(server).collect() };
        fs::write(self.folder.join("task"), task.encode_to_vec()).expect("a file");
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.side("client"), "sh", "-c", CONFINE])
            .args([&self.path(""), AGENT])
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
                if !read || sender.send(DnsReport::decode(&*message).expect("a report")).is_err() {
                    break;
                }
            }
        });
        let reports = Reports(receiver);
        reports.wait_for("it listens", |report| report.listening);
        reports
    }

    /// The agent's memory in use, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let pid = self.agent.as_ref().expect("an agent").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Sends bytes to the agent, each in a datagram, and waits for what comes back to the last.
    pub(crate) fn send(&self, all: Vec<Vec<u8>>, patience: Duration) -> Option<Message> {
        let sent = self.inside("client", move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket.connect(STUB).expect("the stub");
            socket.set_read_timeout(Some(patience)).expect("a timeout");
            for bytes in all {
                socket.send(&bytes).expect("the stub");
            }
            let mut buffer = [0; 65_535];
            let length = socket.recv(&mut buffer).ok()?;
            Some(Message::from_vec(&buffer[..length]).expect("an answer"))
        });
        sent.join().expect("a try")
    }

    /// Asks the agent in a datagram.
    pub(crate) fn ask(&self, name: &str, kind: RecordType) -> Message {
        let question = question(name, kind, None);
        let bytes = question.to_vec().expect("a question");
        let answer = self.send(vec![bytes], PATIENCE).expect("an answer in time");
        assert_eq!(answer.metadata.id, question.metadata.id);
        assert_eq!(answer.queries, question.queries);
        answer
    }

    /// The same over a connection.
    pub(crate) fn ask_long(&self, name: &str, kind: RecordType) -> Message {
        let bytes = question(name, kind, None).to_vec().expect("a question");
        let asked = self.inside("client", move || {
            let mut stream = TcpStream::connect(STUB).expect("the stub");
            let length = u16::try_from(bytes.len()).expect("a short question");
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).expect("the stub");
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer).expect("an answer");
            Message::from_vec(&answer).expect("an answer")
        });
        asked.join().expect("a try")
    }
}

/// A question as a program asks it.
pub(crate) fn question(name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut question = Message::new(4711, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        question.set_edns(edns);
    }
    question
}

/// The code and the first address of an answer.
pub(crate) fn said(answer: &Message) -> (ResponseCode, String) {
    let address = answer.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.to_string()),
        RData::AAAA(address) => Some(address.to_string()),
        _ => None,
    });
    (answer.metadata.response_code, address.unwrap_or_default())
}

impl Reports {
    /// Waits for a report of which this is true.
    pub(crate) fn wait_for(&self, what: &str, is: impl Fn(&DnsReport) -> bool) -> DnsReport {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            match self.0.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(report) if is(&report) => return report,
                Ok(report) => last = Some(report),
                Err(RecvTimeoutError::Timeout) => panic!("not in time: {what}; at last {last:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the agent has ended after {last:?}"),
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for mut child in self.servers.drain(..).chain(self.agent.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for side in ["client", "server"] {
            let _ = Command::new("ip").args(["netns", "del", &self.side(side)]).status();
        }
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Makes an authority, and a certificate for [`NAME`].
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    fs::write(folder.join("authority.pem"), authority).expect("a file");
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    fs::write(folder.join("certificate.pem"), certificate).expect("a file");
    fs::write(folder.join("key.pem"), key.serialize_pem()).expect("a file");
}
