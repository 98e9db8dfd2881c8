// SPDX-License-Identifier: Apache-2.0
//! Who this node is: `identity.json`, written by PID 1.
//!
//! PID 1 replaces the file atomically and sends SIGHUP; apid reads it, and never writes a file at all.

use crate::access::Access;
use serde::Deserialize;
use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where PID 1 puts the identity.
pub const PATH: &str = "/run/stele/apid/identity.json";

/// What apid is to the world.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Identity {
    /// With or without a configuration.
    #[serde(flatten)]
    pub mode: Mode,
    /// The node's name.
    pub hostname: String,
    /// The node's addresses.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// What the operator says of clients.
    #[serde(default)]
    pub access: Access,
    /// The configuration that all this comes from; zero without one.
    #[serde(default)]
    pub generation: u64,
}

/// With or without a configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Mode {
    /// No configuration: anyone may bring one.
    Maintenance,
    /// Configured: only clients of the operator's CA.
    Running(Credentials),
}

/// What a configured node was given by its operator.
#[derive(Clone, Deserialize, PartialEq, Eq)]
pub struct Credentials {
    /// The operator's CA certificate, as PEM: what clients are verified with.
    pub ca: String,
    /// The node's own intermediate, as PEM, limited to server authentication.
    pub certificate: String,
    /// Its private key, as PEM.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is not there or closed to us.
    #[error("Reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what the contract says.
    #[error("Parsing {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Identity {
    /// Reads the identity once.
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let bytes = std::fs::read(path)
            .map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| IdentityError::Parse { path: path.to_owned(), source })
    }

    /// Reads the identity, waiting for the file up to `deadline`. A file that is there and wrong is not waited for.
    pub async fn wait(path: &Path, deadline: Duration) -> Result<Self, IdentityError> {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            match Self::read(path) {
                Err(IdentityError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound
                        && tokio::time::Instant::now() < end =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_parse() {
        let identity: Identity = serde_json::from_str(
            r#"{"mode":"maintenance","hostname":"n1","addresses":["10.0.0.1","fe80::1"]}"#,
        )
        .unwrap();
        assert_eq!(identity.mode, Mode::Maintenance);
        assert_eq!(identity.addresses.len(), 2);
        let identity: Identity =
            serde_json::from_str(r#"{"mode":"running","ca":"A","certificate":"B","key":"C","hostname":"n1","addresses":[]}"#)
                .unwrap();
        assert!(matches!(identity.mode, Mode::Running(_)));
    }

    #[test]
    fn the_key_is_not_printed() {
        let credentials =
            Credentials { ca: "A".into(), certificate: "B".into(), key: "hidden".into() };
        assert!(!format!("{credentials:?}").contains("hidden"));
    }

    #[test]
    fn other_modes_are_refused() {
        assert!(
            serde_json::from_str::<Identity>(r#"{"mode":"open","hostname":"n1","addresses":[]}"#)
                .is_err()
        );
        assert!(
            serde_json::from_str::<Identity>(
                r#"{"mode":"running","hostname":"n1","addresses":[]}"#
            )
            .is_err()
        );
    }
}
