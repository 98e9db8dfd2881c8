// SPDX-License-Identifier: Apache-2.0
//! apid as a whole: listens, keeps its certificate fresh, and ends in order.
//!
//! ```text
//! waiting for identity ──► serving ──► draining ──► ended
//!                           ▲   │ identity changed, certificate due
//!                           └───┘
//! ```
//!
//! A connection keeps the certificate with which it was made. When the CA or the mode changes, connections that
//! were made before are ended in order, because what they were verified with holds no more. So is one whose client may do
//! less than before.

use crate::{
    access::Access,
    audit::{Audit, Sink},
    certificate::{Certificate, CertificateError},
    connections::Connections,
    descriptors::Descriptors,
    gate::Gate,
    identity::{Identity, IdentityError, Mode},
    limits,
    listener::{self, Guard},
    notify::notify,
    tls::{self, TlsError},
    upstream::Pool,
};
use bytes::Bytes;
use prost::Message as _;
use rustls::ServerConfig;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use stele_proto::{internal::CertificateReport, method};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};

/// How long the identity may take to appear.
const IDENTITY: Duration = Duration::from_secs(50);
/// How often the clock is compared with the certificate.
const TICK: Duration = Duration::from_secs(30);
/// Time between two tries to report the certificate.
const REPORT: Duration = Duration::from_secs(2);

/// What apid is started with.
#[derive(Debug)]
pub struct Options {
    /// Where clients come in.
    pub listener: TcpListener,
    /// The identity file.
    pub identity: PathBuf,
    /// PID 1's socket.
    pub init: PathBuf,
    /// Where the audit log goes.
    pub audit: Sink,
    /// Orders from outside.
    pub control: Control,
}

/// Orders to a running apid.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Read the identity again: SIGHUP.
    pub reload: Arc<Notify>,
    /// End in order: SIGTERM.
    pub stop: Arc<Notify>,
}

/// Why apid could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Without an identity there is nothing to serve.
    #[error("Learning this node's identity")]
    Identity {
        /// Why.
        source: IdentityError,
    },
    /// Without a certificate neither.
    #[error("Making the serving certificate")]
    Certificate {
        /// Why.
        source: CertificateError,
    },
    /// Nor without TLS.
    #[error("Preparing TLS")]
    Tls {
        /// Why.
        source: TlsError,
    },
    /// The descriptors that were compiled in cannot be read.
    #[error("Reading the descriptors of the API")]
    Descriptors {
        /// Why.
        source: prost::DecodeError,
    },
}

/// What is served now.
struct Serving {
    identity: Identity,
    certificate: Certificate,
    tls: Arc<ServerConfig>,
}

impl Serving {
    fn make(identity: Identity) -> Result<Self, ServeError> {
        let certificate = Certificate::make(&identity, SystemTime::now());
        let certificate = certificate.map_err(|source| ServeError::Certificate { source })?;
        let tls = tls::configure(&certificate, &identity.mode)
            .map_err(|source| ServeError::Tls { source })?;
        Ok(Self { identity, certificate, tls })
    }

    /// What PID 1 is to know: what is served, by which configuration, and what of that failed.
    fn report(&self, generation: u64, failed: String) -> CertificateReport {
        CertificateReport { generation, failed, ..self.certificate.report.clone() }
    }

    /// Whom a connection made before this change was verified with.
    fn trust(&self) -> Option<&str> {
        match &self.identity.mode {
            Mode::Maintenance => None,
            Mode::Running(credentials) => Some(&credentials.ca),
        }
    }
}

/// Serves until it is told to stop.
pub async fn serve(options: Options) -> Result<(), ServeError> {
    let Options { listener, identity: path, init, audit: sink, control } = options;
    let descriptors = Descriptors::parse().map_err(|source| ServeError::Descriptors { source })?;
    let mut identity =
        Identity::wait(&path, IDENTITY).await.map_err(|source| ServeError::Identity { source })?;
    let access = watch::Sender::new(Arc::new(std::mem::take(&mut identity.access)));
    let mut generation = std::mem::take(&mut identity.generation);
    let mut serving = Serving::make(identity)?;

    let pool = Pool::new(init);
    let audit = Audit::new(rand());
    let writer = tokio::spawn(audit.clone().write(sink));
    let gate = Arc::new(Gate::new(audit.clone(), pool.clone(), descriptors, access.subscribe()));
    let connections = Connections::new(Instant::now());
    let (mut end, ended) = watch::channel(());
    let mut report = Teller::start(&pool, serving.report(generation, String::new()));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ended = ended;
    notify(&format!("READY=1\nSTATUS={}", status(&serving.identity)));

    loop {
        let next = tokio::select! {
            biased;
            () = control.stop.notified() => break,
            () = control.reload.notified() => {
                let next;
                (generation, next) = reload(&path, &serving, &access);
                if next.is_none() {
                    report = Teller::start(&pool, serving.report(generation, String::new()));
                }
                next
            }
            _ = tick.tick() => renew(&serving),
            accepted = listener.accept() => {
                match accepted {
                    Ok((stream, source)) => {
                        let reached = stream.local_addr().ok().map(|address| address.ip());
                        let admitted = connections.admit(source.ip(), reached, Instant::now());
                        if let Some(connection) = admitted {
                            let guard = Guard {
                                gate: Arc::clone(&gate),
                                tls: Arc::clone(&serving.tls),
                                strangers: serving.identity.mode == Mode::Maintenance,
                                ended: ended.clone(),
                            };
                            tokio::spawn(listener::connection(stream, source, connection, guard));
                        } else {
                            gate.audit().refused(source, "all connections of this source have calls", Instant::now());
                        }
                    }
                    Err(error) => listener::backoff(&error).await,
                }
                None
            }
        };
        let Some(next) = next else { continue };
        match next {
            Ok(next) => {
                report = Teller::start(&pool, next.report(generation, String::new()));
                if next.trust() != serving.trust() {
                    (end, ended) = watch::channel(());
                }
                notify(&format!("STATUS={}", status(&next.identity)));
                serving = next;
            }
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, "The certificate stays as it was");
                report = Teller::start(&pool, serving.report(generation, error));
            }
        }
    }

    notify("STOPPING=1");
    drop((listener, ended, report));
    drop(end);
    drain(&connections).await;
    audit.flush(limits::DRAIN / 2).await;
    writer.abort();
    Ok(())
}

/// The configuration that the identity file comes from, and what to serve when it has changed. What it says of clients
/// holds at once, and needs no other certificate.
fn reload(
    path: &std::path::Path,
    serving: &Serving,
    access: &watch::Sender<Arc<Access>>,
) -> (u64, Option<Result<Serving, ServeError>>) {
    let mut identity = match Identity::read(path) {
        Ok(identity) => identity,
        Err(source) => return (0, Some(Err(ServeError::Identity { source }))),
    };
    let generation = std::mem::take(&mut identity.generation);
    let next = std::mem::take(&mut identity.access);
    access.send_if_modified(|known| {
        let changes = **known != next;
        *known = Arc::new(next);
        changes
    });
    if identity == serving.identity {
        return (generation, None);
    }
    // In maintenance people compare the fingerprint with the console's: it stays, whatever the addresses become.
    if identity.mode == Mode::Maintenance && serving.identity.mode == Mode::Maintenance {
        return (generation, None);
    }
    (generation, Some(Serving::make(identity)))
}

/// What to serve when the certificate nears its end.
fn renew(serving: &Serving) -> Option<Result<Serving, ServeError>> {
    serving.certificate.is_due(SystemTime::now()).then(|| Serving::make(serving.identity.clone()))
}

async fn drain(connections: &Connections) {
    let end = Instant::now() + limits::DRAIN;
    while connections.count() > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Tells PID 1 something for as long as this value is there.
struct Teller(JoinHandle<()>);

impl Teller {
    fn start(pool: &Pool, report: CertificateReport) -> Self {
        Self(tokio::spawn(tell(pool.clone(), report)))
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells PID 1 which certificate is served, until it has heard.
async fn tell(pool: Pool, report: CertificateReport) {
    let message = Bytes::from(report.encode_to_vec());
    loop {
        match pool.call(method::REPORT_CERTIFICATE, "", message.clone()).await {
            Ok(_) => return,
            Err(status) => {
                tracing::debug!(error = status.message(), "The certificate could not be reported");
            }
        }
        tokio::time::sleep(REPORT).await;
    }
}

fn status(identity: &Identity) -> &'static str {
    match identity.mode {
        Mode::Maintenance => "waiting for a configuration",
        Mode::Running(_) => "serving",
    }
}

/// An error with its causes, in a line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

fn rand() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness there would be no TLS either; the number only tells two runs apart.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_be_bytes(bytes)
}
