// SPDX-License-Identifier: Apache-2.0
//! Metrics: gives the machine's figures to everyone, over plain HTTP.
//!
//! * `GET /metrics` is all that it answers, one request on a connection; whatever else is asked, it says no.
//! * A request is a few lines, a connection a few seconds, and there are few connections at the same time.
//! * However many ask, PID 1 is asked once a second.

mod request;

use crate::{
    pid1::{self, framed},
    probe::explain,
};
use request::{Answer, Head};
use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use stele_proto::{
    internal::{Figures, FiguresRequest, ListenReport},
    method,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    time::{Instant, sleep, timeout},
};

/// Where PID 1 listens.
pub const SOCKET: &str = "/run/stele/metrics.sock";

/// Connections at the same time; more are closed at once.
const CONNECTIONS: usize = 16;
/// How long a connection may take, all in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long figures are good.
const FRESH: Duration = Duration::from_secs(1);
/// Time between two tries to listen: the address may come later.
const RETRY: Duration = Duration::from_millis(500);
/// The longest request.
const LONGEST: usize = 8 * 1024;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Not an address.
    #[error("understanding the address {0:?}")]
    Address(String),
    /// The runtime could not be made.
    #[error("starting")]
    Start(#[source] io::Error),
    /// PID 1 can't be told.
    #[error("reporting to PID 1")]
    Report(#[source] io::Error),
}

/// Gives figures to everyone.
///
/// # Errors
/// When it can't begin, or PID 1 can't be told any more.
pub fn run(
    address: &str,
    socket: PathBuf,
    reports: &mut impl Write,
) -> Result<Infallible, MetricsError> {
    let address = address.parse().map_err(|_| MetricsError::Address(address.to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MetricsError::Start)?;
    runtime.block_on(async {
        let listener = listen(address, reports).await?;
        serve(listener, socket).await
    })
}

/// Listens as soon as that is possible.
async fn listen(
    address: SocketAddr,
    reports: &mut impl Write,
) -> Result<TcpListener, MetricsError> {
    let mut told = String::new();
    loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => {
                let report = ListenReport { listening: true, reason: String::new() };
                tell(&report, reports)?;
                return Ok(listener);
            }
            Err(error) => format!("listening on {address}: {}", explain(&error)),
        };
        if error != told {
            tell(&ListenReport { listening: false, reason: error.clone() }, reports)?;
            told = error;
        }
        sleep(RETRY).await;
    }
}

fn tell(report: &ListenReport, reports: &mut impl Write) -> Result<(), MetricsError> {
    reports.write_all(&framed(report)).map_err(MetricsError::Report)
}

async fn serve(listener: TcpListener, socket: PathBuf) -> Result<Infallible, MetricsError> {
    let (pages, places) = (Arc::new(Pages::new(socket)), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Descriptors are short: trying at once only burns the processor.
            Err(_) => {
                sleep(RETRY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            // One who does not keep up is let go; nobody is waiting for the reason.
            let _done = timeout(PATIENCE, converse(stream, &pages)).await;
            drop(place);
        });
    }
}

/// One request and its answer.
async fn converse(mut stream: TcpStream, pages: &Pages) -> io::Result<()> {
    let mut bytes = Vec::new();
    let answer = loop {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await?;
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        match request::parse(&bytes) {
            Some(head) => break answer(head, pages).await,
            None if length == 0 => return Ok(()),
            None if bytes.len() > LONGEST => break Answer::refusal(431, "Too long"),
            None => {}
        }
    };
    stream.write_all(&answer.encode()).await?;
    stream.shutdown().await
}

async fn answer(head: Head, pages: &Pages) -> Answer {
    let open_metrics = match head {
        Head::Figures { open_metrics, .. } => open_metrics,
        Head::Elsewhere => return Answer::refusal(404, "Not Found"),
        Head::Otherwise => return Answer::refusal(405, "Method Not Allowed"),
        Head::Nonsense => return Answer::refusal(400, "Bad Request"),
    };
    match pages.page(open_metrics).await {
        Ok(text) => {
            Answer::page(text, open_metrics, matches!(head, Head::Figures { body: true, .. }))
        }
        Err(error) => {
            eprintln!("metrics: {}", explain(&error));
            Answer::refusal(503, "Service Unavailable")
        }
    }
}

/// The figures in each of the two forms.
#[derive(Debug)]
struct Pages {
    socket: PathBuf,
    known: [Mutex<Option<Known>>; 2],
}

/// Figures, and when they were asked for.
#[derive(Debug)]
struct Known {
    at: Instant,
    text: Arc<str>,
}

impl Pages {
    fn new(socket: PathBuf) -> Pages {
        Pages { socket, known: Default::default() }
    }

    async fn page(&self, open_metrics: bool) -> Result<Arc<str>, pid1::CallError> {
        let [plain, open] = &self.known;
        let mut known = if open_metrics { open } else { plain }.lock().await;
        if let Some(fresh) = known.as_ref().filter(|known| known.at.elapsed() < FRESH) {
            return Ok(Arc::clone(&fresh.text));
        }
        let socket: &Path = &self.socket;
        let request = FiguresRequest { open_metrics };
        let Figures { text } = pid1::call(socket, method::FIGURES, &request).await?;
        let text: Arc<str> = text.into();
        *known = Some(Known { at: Instant::now(), text: Arc::clone(&text) });
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
