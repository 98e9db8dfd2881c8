// SPDX-License-Identifier: Apache-2.0
//! The probe agent against servers of others, on the loopback: python3's web server, dnsmasq, openssl.

use prost::Message as _;
use std::{
    fs,
    io::{self, Read as _, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};
use stele_agents::probe::{self, Names, Surroundings};
use stele_proto::internal::ProbeReport;

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder, and servers that go with it.
struct Lab {
    folder: PathBuf,
    children: Vec<Child>,
}

impl Lab {
    fn new(test: &str) -> Lab {
        let folder = std::env::temp_dir().join(format!("stele-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Lab { folder, children: Vec::new() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        fs::write(&file, text).expect("writing a file");
        file
    }

    /// Starts a server and waits until it takes connections.
    fn serve(&mut self, port: u16, program: &str, arguments: &[&str]) {
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            // openssl ends when this does.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; install it for this test"));
        self.children.push(child);
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(since.elapsed() < PATIENCE, "{program} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.folder)
            .output()
            .expect("openssl; install it for this test");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {complaint}");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).expect("reading a file")
    }

    /// Runs the agent on one check.
    fn probe(&self, timeout_ms: u32, probe: &str) -> Reports {
        let task = format!(
            r#"{{"checks":[{{"name":"it","intervalMs":100,"timeoutMs":{timeout_ms},{probe}}}]}}"#
        );
        let task = probe::parse(&task).expect("a task");
        let names = Names {
            hosts: self.folder.join("hosts"),
            resolv_conf: self.folder.join("resolv.conf"),
            port: DNS,
        };
        let surroundings = Surroundings { names, roots: vec![self.folder.join("roots.pem")] };
        let (sender, reports) = channel();
        thread::spawn(move || probe::run(task, surroundings, &mut Pipe(sender)));
        Reports(reports)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where the agent writes; it ends when nobody reads any more.
struct Pipe(Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Reports(Receiver<Vec<u8>>);

impl Reports {
    fn next(&self) -> (bool, String) {
        decode(&self.0.recv_timeout(PATIENCE).expect("a report in time"))
    }

    fn passes(&self, text: &str) {
        let (ok, message) = self.next();
        assert!(ok && message.contains(text), "{message}");
    }

    fn fails(&self, text: &str) {
        let (ok, message) = self.next();
        assert!(!ok && message.contains(text), "{message}");
    }
}

fn decode(frame: &[u8]) -> (bool, String) {
    let (length, message) = frame.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_be_bytes(*length) as usize, message.len());
    let report = ProbeReport::decode(message).expect("a report");
    assert_eq!(report.check, "it");
    (report.ok, report.message)
}

/// A port that nothing listens on.
fn free() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}

/// Where dnsmasq listens in the one test that has it.
const DNS: u16 = 5391;

#[test]
fn a_web_server() {
    let mut lab = Lab::new("web");
    let port = free();
    let url = format!("http://127.0.0.1:{port}");
    let get =
        |path: &str, status: u16| format!(r#""http":{{"url":"{url}{path}","status":{status}}}"#);
    lab.probe(5000, &get("/", 200))
        .fails(&format!("GET {url}/: tcp connect error: Connection refused"));
    lab.file("healthz", "fine\n");
    fs::create_dir(lab.folder.join("folder")).unwrap();
    lab.serve(port, "python3", &["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
    let reports = lab.probe(5000, &get("/healthz", 200));
    reports.passes("200 OK after ");
    reports.passes("200 OK after ");
    lab.probe(5000, &get("/nothing", 200)).fails("the answer is 404 Not Found, not 200");
    lab.probe(5000, &get("/nothing", 404)).passes("404 Not Found after ");
    // Redirects are seen, not followed.
    lab.probe(5000, &get("/folder", 301)).passes("301 Moved Permanently after ");
    lab.file("hosts", "127.0.0.1 web\n");
    let named = get("/healthz", 200).replace("127.0.0.1", "web");
    lab.probe(5000, &named).passes("200 OK after ");
    // It comes and goes.
    let reports = lab.probe(5000, &get("/healthz", 200));
    reports.passes("200 OK");
    lab.children.drain(..).for_each(|mut child| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    while reports.next().0 {}
}

#[test]
fn servers_that_say_nothing() {
    let lab = Lab::new("silent");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    lab.probe(300, &format!(r#""tcp":{{"address":"{address}"}}"#))
        .passes(&format!("{address} took a connection after "));
    let begun = Instant::now();
    lab.probe(300, &format!(r#""http":{{"url":"http://{address}/","status":200}}"#))
        .fails(&format!("GET http://{address}/: not done within 300ms"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let api = format!(r#""api":{{"address":"{address}","ca":{},"serverName":"node-1"}}"#, "\"no\"");
    lab.probe(300, &api).fails("the authority's certificate cannot be used");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = socket.local_addr().unwrap();
    lab.probe(300, &format!(r#""dns":{{"name":"a.test","server":"{server}"}}"#))
        .fails("resolving a.test at 127.0.0.1: not done within 300ms");
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, free()));
    lab.probe(5000, &format!(r#""tcp":{{"address":"{closed}"}}"#))
        .fails(&format!("connecting to {closed}: Connection refused"));
    lab.probe(5000, &format!(r#""dns":{{"name":"a.test","server":"{closed}"}}"#))
        .fails(&format!("resolving a.test at 127.0.0.1: asking {closed}: Connection refused"));
    lab.probe(5000, r#""dns":{"name":"a.test"}"#).fails("resolv.conf: No such file");
    lab.file("resolv.conf", "search example.com\n");
    lab.probe(5000, r#""dns":{"name":"a.test"}"#).fails("the machine has no name servers");
}

#[test]
fn broken_answers() {
    let lab = Lab::new("broken");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "garbage\r\n\r\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
        // More than anybody wants to have.
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let reports = lab.probe(5000, &format!(r#""http":{{"url":"http://{address}/","status":200}}"#));
    reports.fails("the answer is 200 OK, but its body breaks off");
    reports.fails("invalid HTTP version parsed");
    reports.passes("200 OK after");
}

#[test]
fn a_name_server() {
    let mut lab = Lab::new("names");
    let port = DNS.to_string();
    let dnsmasq: Vec<String> = [
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--local=/test/",
        "--address=/web.test/192.0.2.7",
        "--address=/web.test/2001:db8::7",
        "--host-record=four.sub.test,127.0.0.1",
        "--txt-record=text.test,hello",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("--port={port}")])
    .collect();
    let arguments: Vec<&str> = dnsmasq.iter().map(String::as_str).collect();
    lab.serve(DNS, "dnsmasq", &arguments);
    let ask = |name: &str| format!(r#""dns":{{"name":"{name}","server":"127.0.0.1:{port}"}}"#);
    lab.probe(5000, &ask("web.test")).passes("web.test is 192.0.2.7, 2001:db8::7 after ");
    lab.probe(5000, &ask("none.test"))
        .fails("resolving none.test at 127.0.0.1: there is no such name, says 127.0.0.1:5391");
    lab.probe(5000, &ask("text.test")).fails("it has no address, says 127.0.0.1:5391");
    lab.probe(5000, &ask("example.com")).fails("127.0.0.1:5391 answers Query Refused");
    // As the machine resolves names: the silent server is passed over, and names without a dot are searched for.
    let _silent = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 9), DNS)).unwrap();
    lab.file(
        "resolv.conf",
        "nameserver 127.0.0.9\nnameserver 127.0.0.1\nsearch other.test sub.test\n",
    );
    lab.probe(10_000, r#""dns":{"name":"four"}"#).passes("four is 127.0.0.1 after ");
    lab.file("resolv.conf", "nameserver 127.0.0.1\nsearch sub.test\n");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    lab.probe(5000, &format!(r#""tcp":{{"address":"four:{port}"}}"#))
        .passes(&format!("four:{port} took a connection at 127.0.0.1 after "));
    lab.probe(5000, &format!(r#""tcp":{{"address":"none.test:{port}"}}"#))
        .fails(&format!("connecting to none.test:{port}: there is no such name"));
    lab.probe(5000, &format!(r#""tcp":{{"address":"four:{}"}}"#, free()))
        .fails(": 127.0.0.1: Connection refused");
}

/// Makes an authority of this name and a certificate of it for node-1.
fn authority(lab: &Lab, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    lab.openssl(&format!("req -x509 {key} -keyout {name}.key -out {name}.pem -subj /CN={name}"));
    lab.openssl(&format!("req {key} -keyout {name}-node.key -out {name}.csr -subj /CN=node-1"));
    lab.file("names", "subjectAltName=DNS:node-1,IP:127.0.0.1\n");
    lab.openssl(&format!(
        "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -extfile names -out {name}-node.pem"
    ));
}

#[test]
fn the_api() {
    let mut lab = Lab::new("api");
    authority(&lab, "ours");
    authority(&lab, "theirs");
    let api = |ca: &str, port: u16, name: &str| {
        let ca = lab.read(ca).replace('\n', "\\n");
        format!(r#""api":{{"address":"127.0.0.1:{port}","ca":"{ca}","serverName":"{name}"}}"#)
    };
    let port = free();
    let (ours, theirs) = (api("ours.pem", port, "node-1"), api("theirs.pem", port, "node-1"));
    let other = api("ours.pem", port, "node-2");
    let old = free();
    let old_api = api("ours.pem", old, "node-1");
    // It demands a client's certificate, which the agent has none of.
    let server = |port: &str, version: &'static str| {
        [
            "s_server",
            "-accept",
            port,
            version,
            "-Verify",
            "1",
            "-CAfile",
            "ours.pem",
            "-cert",
            "ours-node.pem",
            "-key",
            "ours-node.key",
        ]
        .map(str::to_owned)
    };
    for (port, version) in [(port, "-tls1_3"), (old, "-tls1_2")] {
        let arguments = server(&port.to_string(), version);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        lab.serve(port, "openssl", &arguments);
    }
    let reports = lab.probe(5000, &ours);
    reports.passes("the API answers as node-1 after ");
    reports.passes("the API answers as node-1 after ");
    lab.probe(5000, &theirs)
        .fails("its handshake as node-1 fails: invalid peer certificate: UnknownIssuer");
    lab.probe(5000, &other).fails(
        "its handshake as node-2 fails: invalid peer certificate: certificate not valid for name",
    );
    lab.probe(5000, &old_api).fails("its handshake as node-1 fails: received fatal alert: ");
    // Web servers have the image's roots.
    let url = format!(r#""http":{{"url":"https://127.0.0.1:{port}/","status":200}}"#);
    lab.probe(5000, &url).fails("UnknownIssuer");
}

/// The program itself, with its reports on descriptor 3.
#[test]
fn the_program() {
    let lab = Lab::new("program");
    let closed = free();
    let task = format!(
        r#"{{"checks":[{{"name":"it","intervalMs":100,"timeoutMs":500,"tcp":{{"address":"127.0.0.1:{closed}"}}}}]}}"#
    );
    lab.file("task", &task);
    let mut agent = Command::new("sh")
        .args([
            "-c",
            "exec \"$0\" probe \"$1\" 3>&1 >/dev/null",
            env!("CARGO_BIN_EXE_agent"),
            "task",
        ])
        .current_dir(&lab.folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reports = agent.stdout.take().unwrap();
    for _ in 0..2 {
        let mut length = [0; 4];
        reports.read_exact(&mut length).unwrap();
        let mut frame = length.to_vec();
        frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
        reports.read_exact(&mut frame[4..]).unwrap();
        let (ok, message) = decode(&frame);
        assert!(!ok && message.starts_with("connecting to 127.0.0.1:"), "{message}");
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
    lab.file("nonsense", "nonsense");
    for (file, why) in [
        ("nonsense", "probe: understanding the checks: "),
        ("nothing", "probe: reading the task nothing: "),
    ] {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_agent"));
        let refused = agent.args(["probe", file]).current_dir(&lab.folder).output().unwrap();
        assert!(!refused.status.success());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.starts_with(why), "{said}");
    }
}
