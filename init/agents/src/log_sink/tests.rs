// SPDX-License-Identifier: Apache-2.0
use super::*;
use prost::Message as _;
use std::{path::Path, sync::Arc};
use stele_proto::{
    internal::{Close, Frame, Open, frame},
    method::Method,
    v1::{ListLogsResponse, Log, LogChunk, LogEntry, LogRequest},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, UdpSocket, UnixListener, UnixStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// A small PID 1 with one log, which has so many lines.
async fn pid1(listener: UnixListener, lines: watch::Receiver<u64>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, lines.clone()));
    }
}

async fn serve(mut stream: UnixStream, mut lines: watch::Receiver<u64>) -> io::Result<()> {
    let (mut method, mut message) = (String::new(), Vec::new());
    loop {
        let length = stream.read_u32().await?;
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes).await?;
        match Frame::decode(bytes.as_slice())?.frame.unwrap() {
            frame::Frame::Open(Open { method: asked, .. }) => method = asked,
            frame::Frame::Message(bytes) => message = bytes.to_vec(),
            frame::Frame::HalfClose(_) => break,
            frame::Frame::Close(_) => panic!("a close of the caller's"),
        }
    }
    if method == Method::LogListLogs.path() {
        let log = |name: &str, boot| Log { name: name.to_owned(), boot, size: 0 };
        let logs = vec![log("kernel", 0), log("kernel", -1)];
        return answer(&mut stream, &ListLogsResponse { logs }, true).await;
    }
    let request = LogRequest::decode(message.as_slice())?;
    assert_eq!((request.name.as_str(), request.follow), ("kernel", true));
    // Line 1 is of moment 1, two lines of each later one.
    let since = request.since.map_or(0, |since| since.nanos / 1000);
    let mut next = if since > 1 { u64::try_from(since).unwrap() * 2 - 2 } else { 1 };
    loop {
        let last = *lines.borrow_and_update();
        while next <= last {
            let (time_us, message) = (next / 2 + 1, format!("line {next}").into_bytes());
            let entry = LogEntry { time_us, severity: 6, message, lost: 0 };
            answer(&mut stream, &LogChunk { entries: vec![entry] }, false).await?;
            next += 1;
        }
        if lines.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn answer(
    stream: &mut UnixStream,
    message: &impl prost::Message,
    end: bool,
) -> io::Result<()> {
    let mut frames = vec![frame::Frame::Message(message.encode_to_vec().into())];
    frames.extend(end.then(|| frame::Frame::Close(Close::default())));
    for frame in frames {
        let bytes = Frame { frame: Some(frame) }.encode_to_vec();
        stream.write_u32(u32::try_from(bytes.len()).unwrap()).await?;
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

/// A log that grows, and the agent that sends it.
struct House {
    folder: PathBuf,
    lines: watch::Sender<u64>,
}

impl House {
    fn new(name: &str) -> House {
        let folder = std::env::temp_dir().join(format!("stele-sink-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let _old = std::fs::remove_file(folder.join("pid1.sock"));
        let lines = watch::Sender::new(0);
        let listener = UnixListener::bind(folder.join("pid1.sock")).unwrap();
        tokio::spawn(pid1(listener, lines.subscribe()));
        House { folder, lines }
    }

    /// An agent, for as long as what comes back is held.
    fn agent(&self, task: SinkTask, reports: &Path) -> tokio::task::JoinHandle<()> {
        let mut reports = std::fs::File::create(reports).unwrap();
        let names = Names {
            hosts: self.folder.join("hosts"),
            resolv_conf: self.folder.join("resolv.conf"),
            port: 53,
        };
        std::fs::write(&names.hosts, "127.0.0.1 localhost\n").unwrap();
        let socket = self.folder.join("pid1.sock");
        let surroundings = Surroundings { socket, names, roots: Vec::new() };
        tokio::spawn(async move {
            let Err(error) = send(task, surroundings, &mut reports).await;
            panic!("{}", explain(&error));
        })
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

fn task(port: u16, protocol: &str, format: &str) -> SinkTask {
    let (host, port) = ("localhost".to_owned(), port.into());
    let (protocol, format) = (protocol.to_owned(), format.to_owned());
    SinkTask { host, port, protocol, format, ..SinkTask::default() }
}

/// The last report in a file.
fn last(reports: &Path) -> SinkReport {
    let bytes = std::fs::read(reports).unwrap();
    let (mut rest, mut last) = (bytes.as_slice(), SinkReport::default());
    while let Some((length, more)) = rest.split_first_chunk() {
        let (message, after) = more.split_at(u32::from_be_bytes(*length) as usize);
        last = SinkReport::decode(message).unwrap();
        rest = after;
    }
    last
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("not within five seconds: {what}");
}

/// One message with its length before it.
async fn counted(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut length = String::new();
    loop {
        match char::from(stream.read_u8().await.unwrap()) {
            ' ' => break,
            digit => length.push(digit),
        }
    }
    let mut message = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap()
}

#[tokio::test]
async fn lines_wait_for_a_sink_that_is_away_and_go_on_where_they_were() {
    let house = House::new("tcp");
    let reports = house.folder.join("reports");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    house.lines.send_replace(3);
    let agent = house.agent(task(address.port(), "tcp", "rfc5424"), &reports);
    eventually("it says that the sink is away", || !last(&reports).reason.is_empty()).await;
    assert!(last(&reports).reason.contains("refused"), "{}", last(&reports).reason);

    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    for number in 1..=3 {
        let message = counted(&mut stream).await;
        assert!(message.starts_with("<6>1 1970-01-01T00:00:00.00000"), "{message}");
        assert!(message.ends_with(&format!(" kernel - - - line {number}")), "{message}");
    }
    // It goes in order, and comes back.
    drop(stream);
    let (mut stream, _) = listener.accept().await.unwrap();
    house.lines.send_replace(6);
    for number in 4..=6 {
        assert!(counted(&mut stream).await.ends_with(&format!("line {number}")));
    }
    eventually("all are told", || last(&reports).sent == 6).await;
    let progress = last(&reports);
    assert!(progress.connected && progress.lost == 0, "{progress:?}");
    let position = LogPosition { log: "kernel".to_owned(), time_us: 4, entries: 1 };
    assert_eq!(progress.positions, [position]);

    // Another agent goes on in the middle of a moment.
    agent.abort();
    house.lines.send_replace(8);
    let task = SinkTask { progress: Some(progress), ..task(address.port(), "tcp", "rfc5424") };
    let agent = house.agent(task, &reports);
    let (mut stream, _) = listener.accept().await.unwrap();
    for number in 7..=8 {
        let message = counted(&mut stream).await;
        assert!(message.ends_with(&format!("line {number}")), "{message}");
    }
    eventually("it goes on counting", || last(&reports).sent == 8).await;
    agent.abort();
}

#[tokio::test]
async fn json_by_tls_goes_to_whom_the_authority_vouches_for() {
    let house = House::new("tls");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(
        rustls::crypto::aws_lc_rs::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key)
    .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    house.lines.send_replace(2);

    let reports = house.folder.join("reports");
    let stranger = house.agent(task(port, "tls", "json"), &reports);
    let (stream, _) = listener.accept().await.unwrap();
    assert!(acceptor.accept(stream).await.is_err());
    eventually("it believes nobody", || last(&reports).reason.contains("certificate")).await;
    stranger.abort();

    let task = SinkTask { ca: made.cert.pem(), ..task(port, "tls", "json") };
    let agent = house.agent(task, &reports);
    let mut lines = loop {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = acceptor.accept(stream).await {
            break BufReader::new(stream).lines();
        }
    };
    for number in 1..=2 {
        let line = lines.next_line().await.unwrap().unwrap();
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], format!("line {number}"));
        assert_eq!((&object["log"], &object["severity"]), (&"kernel".into(), &6.into()));
    }
    agent.abort();
}

#[tokio::test]
async fn datagrams_are_messages() {
    let house = House::new("udp");
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    house.lines.send_replace(2);
    let reports = house.folder.join("reports");
    let agent = house.agent(task(sink.local_addr().unwrap().port(), "udp", "rfc5424"), &reports);
    for number in 1..=2 {
        let mut buffer = [0; 1024];
        let length = sink.recv(&mut buffer).await.unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(message.starts_with("<6>1 ") && message.ends_with(&format!("line {number}")));
    }
    agent.abort();
}
