// SPDX-License-Identifier: Apache-2.0
//! Dns: a caching stub resolver on the loopback, which asks the servers that PID 1 names.
//!
//! ```text
//! programs ─► 127.0.0.53:53 ─► stub ─► cache
//!                               └────► servers, one after the other ─► UDP, and TCP for what is long; or TLS alone
//! PID 1 ◄── reports
//! ```
//!
//! * Every question has an answer before the resolvers of C libraries lose their patience: if no server has one, that is
//!   SERVFAIL.
//! * A server with a name is asked over TLS, and has to prove that the name is its own. There is no way around that.
//! * The questions under way, the connections and the memory of answers are bounded.

mod cache;
mod connection;
pub mod message;
mod servers;
mod stub;

use crate::{fetch, pid1::framed, probe::explain};
use prost::Message as _;
use rustls::pki_types::ServerName;
use servers::{Server, Servers};
use std::{
    convert::Infallible,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use stele_config::Resolver;
use stele_proto::internal::{DnsReport, DnsServer, DnsServerReport, DnsTask};
use stub::Stub;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::LocalSet,
    time::{Instant, sleep},
};
use tokio_rustls::TlsConnector;

/// Where PID 1 says what is to be done.
const FOLDER: &str = "/run/stele/dns";
const TASK: &str = "task";
/// Between two looks at what there is to report.
const LOOK: Duration = Duration::from_secs(1);
/// Between two reports in which only figures differ.
const QUIET: Duration = Duration::from_secs(3);
/// Between two tries to listen.
const RETRY: Duration = Duration::from_millis(500);

/// What the agent needs of the machine.
#[derive(Debug)]
pub struct Surroundings {
    /// Where its task is.
    pub folder: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// The trust roots: files in PEM.
    pub roots: Vec<PathBuf>,
}

impl Surroundings {
    /// Those of the machine that this runs on.
    #[must_use]
    pub fn of_this_machine() -> Surroundings {
        Surroundings {
            folder: FOLDER.into(),
            address: SocketAddr::new(Resolver::STUB.into(), 53),
            roots: crate::probe::Surroundings::of_this_machine().roots,
        }
    }
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Not a task.
    #[error("reading the task {}", file.display())]
    Task {
        /// Where it is.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not a server.
    #[error("understanding the server {address:?} with the name {name:?}")]
    Server {
        /// Where it should be.
        address: String,
        /// The name in its certificate.
        name: String,
    },
    /// Nothing can be asked over TLS.
    #[error("preparing TLS")]
    Tls(#[source] rustls::Error),
    /// The runtime could not be made.
    #[error("starting")]
    Start(#[source] io::Error),
    /// PID 1 can't be told.
    #[error("reporting to PID 1")]
    Report(#[source] io::Error),
}

/// Resolves names for whoever asks, and tells PID 1 how that goes.
///
/// # Errors
/// When it can't begin, or PID 1 can't be told any more.
pub fn run(surroundings: &Surroundings, reports: &mut impl Write) -> Result<Infallible, DnsError> {
    let stub = Rc::new(Stub::new(servers(surroundings)?));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DnsError::Start)?;
    LocalSet::new().block_on(&runtime, async {
        let mut teller = Teller { reports, told: None, at: Instant::now() };
        let (datagrams, streams) = listen(surroundings.address, &stub, &mut teller).await?;
        tokio::task::spawn_local(stub::datagrams(Rc::clone(&stub), datagrams));
        tokio::task::spawn_local(stub::streams(Rc::clone(&stub), streams));
        loop {
            teller.tell(report(&stub, String::new()))?;
            sleep(LOOK).await;
        }
    })
}

/// The servers of the task.
fn servers(surroundings: &Surroundings) -> Result<Servers, DnsError> {
    let file = surroundings.folder.join(TASK);
    let bytes = fs::read(&file);
    let task = bytes.and_then(|bytes| DnsTask::decode(&*bytes).map_err(io::Error::other));
    let task = task.map_err(|source| DnsError::Task { file, source })?;
    let over_tls = task.servers.iter().any(|server| !server.name.is_empty());
    let roots = if over_tls { fetch::roots(&surroundings.roots) } else { Vec::new() };
    let tls = TlsConnector::from(Arc::new(fetch::tls(&roots).map_err(DnsError::Tls)?));
    let server = |server: DnsServer| {
        let DnsServer { address, name } = server;
        let understood = match name.as_str() {
            "" => address.parse().ok().map(|address| Server::new(address, None)),
            name => (address.parse().ok())
                .zip(ServerName::try_from(name.to_owned()).ok())
                .map(|(address, name)| Server::new(address, Some((tls.clone(), name)))),
        };
        understood.ok_or(DnsError::Server { address, name })
    };
    let servers: Result<Vec<Server>, DnsError> = task.servers.into_iter().map(server).collect();
    servers.map(Servers::new)
}

/// Listens as soon as that is possible.
async fn listen(
    address: SocketAddr,
    stub: &Stub,
    teller: &mut Teller<'_, impl Write>,
) -> Result<(UdpSocket, TcpListener), DnsError> {
    loop {
        let both =
            async { Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?)) };
        let error: io::Error = match both.await {
            Ok(both) => return Ok(both),
            Err(error) => error,
        };
        teller.tell(report(stub, format!("listening on {address}: {}", explain(&error))))?;
        sleep(RETRY).await;
    }
}

/// How it goes; with a reason, nobody can ask.
fn report(stub: &Stub, reason: String) -> DnsReport {
    let figures = stub.figures();
    let server = |server: &Server| {
        let (answers, reason) = server.standing();
        DnsServerReport { answers, reason }
    };
    DnsReport {
        listening: reason.is_empty(),
        reason,
        hits: figures.hits,
        misses: figures.misses,
        failures: figures.failures,
        servers: stub.servers().iter().map(server).collect(),
    }
}

/// The way to PID 1.
struct Teller<'a, W> {
    reports: &'a mut W,
    told: Option<DnsReport>,
    at: Instant,
}

impl<W: Write> Teller<'_, W> {
    /// Tells what is new: at once, or when it is only figures, after a while.
    fn tell(&mut self, report: DnsReport) -> Result<(), DnsError> {
        let known = self.told.as_ref().is_some_and(|told| {
            let reasons = |report: &DnsReport| {
                let servers = report.servers.iter().map(|server| server.reason.clone());
                servers.chain([report.reason.clone()]).collect::<Vec<String>>()
            };
            let same = told.listening == report.listening && reasons(told) == reasons(&report);
            same && (*told == report || self.at.elapsed() < QUIET)
        });
        if known {
            return Ok(());
        }
        self.reports.write_all(&framed(&report)).map_err(DnsError::Report)?;
        (self.told, self.at) = (Some(report), Instant::now());
        Ok(())
    }
}
