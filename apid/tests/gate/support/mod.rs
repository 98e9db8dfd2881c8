// SPDX-License-Identifier: Apache-2.0
//! Both ends of apid: certificates and a client on the outside, a small PID 1 on the inside.

mod client;
mod init;
mod pki;

pub(crate) use client::{Client, tls};
pub(crate) use pki::{Ask, Operator, authority, issue};

use apid::{
    audit::Sink,
    server::{self, Control, Options},
};
use init::{Seen, init_process};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use stele_proto::internal::CertificateReport;
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, unix::pipe},
    sync::mpsc,
    task::JoinHandle,
};

/// A running apid between a client and a small PID 1.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) reports: mpsc::UnboundedReceiver<CertificateReport>,
    pub(crate) control: Control,
    pub(crate) apid: JoinHandle<()>,
    audit: pipe::Receiver,
    audited: String,
    folder: tempfile::TempDir,
}

impl House {
    pub(crate) async fn new(identity: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        std::fs::write(&path, identity).unwrap();
        let init = folder.path().join("init.sock");
        let seen = Arc::new(Seen::default());
        let (reporter, reports) = mpsc::unbounded_channel();
        tokio::spawn(init_process(UnixListener::bind(&init).unwrap(), Arc::clone(&seen), reporter));
        let (sender, audit) = pipe::pipe().unwrap();
        let control = Control::default();
        let listener = apid::listener::bind(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = Options {
            listener,
            identity: path,
            init,
            audit: Sink::Pipe(sender),
            control: control.clone(),
        };
        let apid = tokio::spawn(async move { server::serve(options).await.unwrap() });
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self { address, seen, reports, control, apid, audit, audited: String::new(), folder }
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.folder.path().join("identity.json")
    }

    pub(crate) fn init(&self) -> PathBuf {
        self.folder.path().join("init.sock")
    }

    /// Waits for an audit line with all of these parts.
    pub(crate) async fn audited(&mut self, parts: &[&str]) -> serde_json::Value {
        let wait = async {
            loop {
                while let Some((line, rest)) = self.audited.split_once('\n') {
                    let (line, rest) = (line.to_owned(), rest.to_owned());
                    self.audited = rest;
                    if parts.iter().all(|part| line.contains(part)) {
                        return serde_json::from_str(&line).unwrap();
                    }
                }
                let mut bytes = [0; 4096];
                let count = self.audit.read(&mut bytes).await.unwrap();
                self.audited.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait)
            .await
            .unwrap_or_else(|_| panic!("no audit line with {parts:?}"))
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = SystemTime::now();
    while !holds() {
        assert!(
            begun.elapsed().unwrap() < Duration::from_secs(5),
            "not within five seconds: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn write_identity(path: &Path, identity: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, identity).unwrap();
    std::fs::rename(new, path).unwrap();
}
