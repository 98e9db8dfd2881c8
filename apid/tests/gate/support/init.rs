// SPDX-License-Identifier: Apache-2.0
//! A small PID 1: the other end of the socket.

use prost::Message as _;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use stele_proto::internal::{
    CertificateReport, Close, Figures, FiguresRequest, Frame as InitFrame, frame,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

/// What the small PID 1 saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) uploaded: AtomicUsize,
}

pub(crate) async fn init_process(
    listener: UnixListener,
    seen: Arc<Seen>,
    reporter: mpsc::UnboundedSender<CertificateReport>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        seen.open.fetch_add(1, Ordering::SeqCst);
        let (seen, reporter) = (Arc::clone(&seen), reporter.clone());
        tokio::spawn(async move {
            let in_call = init_connection(stream, &seen, reporter).await.is_some();
            seen.open.fetch_sub(1, Ordering::SeqCst);
            if in_call {
                seen.cancelled.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

async fn receive(stream: &mut UnixStream) -> Option<frame::Frame> {
    let size = stream.read_u32().await.ok()?;
    assert!(size <= 2 << 20);
    let mut bytes = vec![0; size as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(InitFrame::decode(&bytes[..]).unwrap().frame.unwrap())
}

async fn send(stream: &mut UnixStream, frame: frame::Frame) -> Option<()> {
    let bytes = InitFrame { frame: Some(frame) }.encode_to_vec();
    stream.write_u32(u32::try_from(bytes.len()).unwrap()).await.ok()?;
    stream.write_all(&bytes).await.ok()
}

async fn close(
    stream: &mut UnixStream,
    code: i32,
    message: &str,
    details: Vec<prost_types::Any>,
) -> Option<()> {
    send(stream, frame::Frame::Close(Close { code, message: message.into(), details })).await
}

/// Serves calls; `Some` when the connection ended within one.
async fn init_connection(
    mut stream: UnixStream,
    seen: &Seen,
    reporter: mpsc::UnboundedSender<CertificateReport>,
) -> Option<()> {
    loop {
        let frame::Frame::Open(open) = receive(&mut stream).await? else {
            panic!("a call begins with open")
        };
        if init_call(&mut stream, &open, seen, &reporter).await.is_none() {
            return Some(());
        }
    }
}

async fn init_call(
    stream: &mut UnixStream,
    open: &stele_proto::internal::Open,
    seen: &Seen,
    reporter: &mpsc::UnboundedSender<CertificateReport>,
) -> Option<()> {
    let mut messages = Vec::new();
    let mut uploaded = 0;
    loop {
        match receive(stream).await? {
            // As PID 1 does: what the caller still sends belongs to no call.
            frame::Frame::Message(message) if message == "refuse" => {
                close(stream, 3, "not an image", Vec::new()).await?;
                return None;
            }
            frame::Frame::Message(message) => {
                uploaded += message.len();
                if open.method.ends_with("/Push") {
                    seen.uploaded.fetch_add(message.len(), Ordering::SeqCst);
                } else {
                    messages.push(message);
                }
            }
            frame::Frame::HalfClose(_) => break,
            other => panic!("in the middle of a call: {other:?}"),
        }
    }
    match open.method.rsplit('/').next().unwrap() {
        "ReportCertificate" => {
            reporter.send(CertificateReport::decode(messages.remove(0)).unwrap()).ok();
            close(stream, 0, "", Vec::new()).await
        }
        "Figures" => {
            let asked = FiguresRequest::decode(messages.remove(0)).unwrap();
            let figures = Figures { text: format!("open_metrics {}\n", asked.open_metrics) };
            send(stream, frame::Frame::Message(figures.encode_to_vec().into())).await?;
            close(stream, 0, "", Vec::new()).await
        }
        "Push" => {
            send(stream, frame::Frame::Message(uploaded.to_string().into())).await?;
            close(stream, 0, "", Vec::new()).await
        }
        "Apply" => {
            let any = prost_types::Any {
                type_url: "type.googleapis.com/stele.v1.Findings".into(),
                value: vec![1],
            };
            close(stream, 3, &format!("for {} as {}", open.subject, open.role), vec![any]).await
        }
        // Streams what its first message asks for: as many messages, of this size; nothing more for ever with "hang".
        "Stream" => {
            let asked = String::from_utf8(messages.remove(0).to_vec()).unwrap();
            let mut numbers = asked.split(' ');
            let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let (count, size): (usize, usize) = (number(), number());
            for number in 0..count {
                send(stream, frame::Frame::Message(vec![number as u8; size].into())).await?;
            }
            if asked.ends_with("hang") {
                receive(stream).await?;
            }
            close(stream, 0, "", Vec::new()).await
        }
        _ => {
            send(stream, frame::Frame::Message(messages.remove(0))).await?;
            close(stream, 0, "", Vec::new()).await
        }
    }
}
