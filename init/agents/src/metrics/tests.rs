// SPDX-License-Identifier: Apache-2.0
use super::*;
use prost::Message as _;
use stele_proto::internal::{Close, Frame, frame};
use tokio::net::UnixListener;

/// A small PID 1 that counts how often it was asked.
async fn pid1(listener: UnixListener) {
    for asked in 1.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut open_metrics = false;
        loop {
            let length = stream.read_u32().await.unwrap();
            let mut bytes = vec![0; length as usize];
            stream.read_exact(&mut bytes).await.unwrap();
            match Frame::decode(bytes.as_slice()).unwrap().frame.unwrap() {
                frame::Frame::Open(open) => assert_eq!(open.method, method::FIGURES),
                frame::Frame::Message(message) => {
                    open_metrics = FiguresRequest::decode(message).unwrap().open_metrics;
                }
                frame::Frame::HalfClose(_) => break,
                frame::Frame::Close(_) => panic!("a close of the caller's"),
            }
        }
        let figures = Figures { text: format!("asked {asked}, {open_metrics}\n") };
        for frame in [
            frame::Frame::Message(figures.encode_to_vec().into()),
            frame::Frame::Close(Close::default()),
        ] {
            let bytes = Frame { frame: Some(frame) }.encode_to_vec();
            stream.write_u32(u32::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    }
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn figures_for_everyone() {
    let folder = std::env::temp_dir().join(format!("stele-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("metrics.sock");
    let mut reports = Vec::new();
    let listener = listen("127.0.0.1:0".parse().unwrap(), &mut reports).await.unwrap();
    let report = ListenReport::decode(reports.get(4..).unwrap()).unwrap();
    assert!(report.listening, "{report:?}");
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, socket.clone()));

    let get = "GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
    assert!(ask(address, get).await.starts_with("HTTP/1.1 503 "), "PID 1 does not answer");
    tokio::spawn(pid1(UnixListener::bind(&socket).unwrap()));
    let answer = ask(address, get).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nasked 1, false\n"), "{answer}");
    assert_eq!(ask(address, get).await, answer, "asked again, PID 1 is not");
    let open = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
    assert!(ask(address, open).await.ends_with("asked 2, true\n"));
    for (request, status) in [
        ("GET /secrets HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400"),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)).as_str(), "431"),
    ] {
        assert!(ask(address, request).await.starts_with(&format!("HTTP/1.1 {status} ")));
    }
    // Those who say nothing keep nobody out but each other.
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::task::yield_now().await;
    drop(silent);
    while !ask_again(address, get).await {
        sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whether there is a place for another one.
async fn ask_again(address: SocketAddr, request: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200 ")
}

#[tokio::test]
async fn an_address_that_is_not_there_is_told_once() {
    let mut reports = Vec::new();
    let wait = listen("192.0.2.77:9100".parse().unwrap(), &mut reports);
    assert!(timeout(RETRY * 3, wait).await.is_err());
    let length = u32::from_be_bytes(*reports.first_chunk().unwrap()) as usize;
    assert_eq!(reports.len(), 4 + length);
    let report = ListenReport::decode(reports.get(4..).unwrap()).unwrap();
    assert!(!report.listening && report.reason.contains("192.0.2.77:9100"), "{report:?}");
}
