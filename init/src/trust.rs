// SPDX-License-Identifier: Apache-2.0
//! What the agents believe and know that ask others for something: the configuration's trust roots, its mirrors of registries
//! and the passwords for them, as files in `/run/stele`.
//!
//! The fetch agent reads them each time it starts. The agents for probes, for names and for the time read the roots when they start,
//! so they start again when those change.

use crate::{configuration::Active, convergence::Part, node::Node, report, store::Kind};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    rc::Rc,
};
use stele_config::{MachineConfig, Url};
use stele_machine::service::State;

/// The configuration's trust roots: for everyone to read.
const ROOTS: &str = "/run/stele/trust/roots.pem";
/// Mirrors and passwords: for the fetch agent alone.
const REGISTRIES: &str = "/run/stele/fetch/registries.json";
/// The user of the fetch agent.
const FETCH: u32 = 203;
/// The services that have read the roots and go on with them.
const READERS: [&str; 3] = ["dns", "probe", "time"];

/// Why the agents do not know what they should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("making the folder {folder}")]
    Folder { folder: &'static str, source: io::Error },
    #[error("describing the registries")]
    Describe(#[source] serde_json::Error),
    #[error("writing {file}")]
    Write { file: &'static str, source: io::Error },
}

/// What the fetch agent reads; see docs/architecture.md.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Registries<'a> {
    mirrors: BTreeMap<&'a str, Vec<&'a str>>,
    passwords: BTreeMap<&'a str, Password<'a>>,
}

#[derive(PartialEq, Eq, Serialize)]
struct Password<'a> {
    username: &'a str,
    password: &'a str,
}

impl std::fmt::Debug for Password<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and a password", self.username)
    }
}

/// What `ctl get trustedroots` shows.
#[derive(Serialize)]
struct RootsStatus {
    state: &'static str,
    authorities: usize,
    reason: String,
}

/// What `ctl get registrymirror` shows.
#[derive(Serialize)]
struct MirrorStatus<'a> {
    state: &'static str,
    endpoints: Vec<&'a str>,
    reason: &'a str,
}

/// What `ctl get registryauth` shows.
#[derive(Serialize)]
struct AuthStatus<'a> {
    state: &'static str,
    username: &'a str,
    reason: &'a str,
}

/// Makes the folders, which have to be there when the agents start.
pub(crate) fn prepare() -> Result<(), TrustError> {
    for (folder, mode, user) in [("/run/stele/trust", 0o755, 0), ("/run/stele/fetch", 0o700, FETCH)]
    {
        fs::create_dir_all(folder)
            .and_then(|()| chown(folder, Some(user), Some(user)))
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(mode)))
            .map_err(|source| TrustError::Folder { folder, source })?;
    }
    Ok(())
}

/// Keeps the files for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    let (mut roots, mut registries) = (Written::new(ROOTS, 0), Written::new(REGISTRIES, FETCH));
    loop {
        let active = configuration.borrow_and_update().clone();
        if let Some(active) = active {
            active.cause().act(|| tell(&node, &active, &mut roots, &mut registries));
        }
        if configuration.changed().await.is_err() {
            return;
        }
    }
}

fn tell(node: &Node, active: &Active, roots: &mut Written, registries: &mut Written) {
    let Active { config, stored, .. } = active;
    let written = roots.write(bundle(config).as_bytes());
    if matches!(written, Ok(true)) {
        let readers = READERS.iter().filter_map(|name| node.supervisor.find(name));
        readers.filter(|reader| !reader.is(State::Stopped)).for_each(|reader| reader.restart());
    }
    let roots = written.map(drop).map_err(|error| report::chain(&error));
    publish_roots(node, config, &roots);
    let written = describe(config).and_then(|bytes| registries.write(&bytes));
    let registries = written.map(drop).map_err(|error| report::chain(&error));
    publish_registries(node, config, &registries);
    node.convergence.report(Part::Trust, stored.number, roots.and(registries));
}

fn bundle(config: &MachineConfig) -> String {
    config.trusted_roots().iter().map(stele_config::TrustedRoots::certificates).collect()
}

fn describe(config: &MachineConfig) -> Result<Vec<u8>, TrustError> {
    let mirrors = config.registry_mirrors().iter().map(|mirror| {
        (mirror.name().as_str(), mirror.endpoints().iter().map(Url::as_str).collect())
    });
    let passwords = config.registry_auths().iter().map(|auth| {
        let password = Password { username: auth.username(), password: auth.password() };
        (auth.name().as_str(), password)
    });
    let registries = Registries { mirrors: mirrors.collect(), passwords: passwords.collect() };
    serde_json::to_vec(&registries).map_err(TrustError::Describe)
}

/// A file, and what was last written to it; nothing else writes it.
#[derive(Debug)]
struct Written {
    file: &'static str,
    owner: u32,
    last: Vec<u8>,
}

impl Written {
    fn new(file: &'static str, owner: u32) -> Written {
        Written { file, owner, last: Vec::new() }
    }

    /// Writes it if it changes; says whether it did.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, TrustError> {
        if self.last == bytes {
            return Ok(false);
        }
        let file = self.file;
        // What may be read by everyone belongs to nobody in particular.
        let mode = if self.owner == 0 { 0o444 } else { 0o400 };
        replace(Path::new(file), bytes, self.owner, mode)
            .map_err(|source| TrustError::Write { file, source })?;
        self.last = bytes.to_vec();
        Ok(true)
    }
}

/// Whoever reads the file meanwhile gets all of the old or all of the new, and nobody else gets any.
fn replace(file: &Path, bytes: &[u8], owner: u32, mode: u32) -> io::Result<()> {
    let beside = file.with_extension("new");
    fs::write(&beside, b"")?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
    chown(&beside, Some(owner), Some(owner))?;
    fs::write(&beside, bytes)?;
    fs::rename(&beside, file)
}

fn publish_roots(node: &Node, config: &MachineConfig, written: &Result<(), String>) {
    let reason = written.as_ref().err().cloned().unwrap_or_default();
    let state = if reason.is_empty() { "believed" } else { "failed" };
    let statuses: BTreeMap<String, RootsStatus> = config
        .trusted_roots()
        .iter()
        .map(|roots| {
            let authorities = roots.certificates().matches("-----BEGIN").count();
            let reason = reason.clone();
            (roots.name().to_string(), RootsStatus { state, authorities, reason })
        })
        .collect();
    node.store.replace(Kind::TrustedRoots, &statuses);
}

fn publish_registries(node: &Node, config: &MachineConfig, written: &Result<(), String>) {
    let reason = written.as_ref().err().cloned().unwrap_or_default();
    let state = if reason.is_empty() { "known" } else { "failed" };
    let reason = reason.as_str();
    let mirrors = config.registry_mirrors().iter().map(|mirror| {
        let endpoints = mirror.endpoints().iter().map(Url::as_str).collect();
        (mirror.name().to_string(), MirrorStatus { state, endpoints, reason })
    });
    node.store.replace(Kind::RegistryMirror, &mirrors.collect());
    let auths = config.registry_auths().iter().map(|auth| {
        (auth.name().to_string(), AuthStatus { state, username: auth.username(), reason })
    });
    node.store.replace(Kind::RegistryAuth, &auths.collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_fetch_agent_is_told_of_mirrors_and_passwords() {
        let config = fixture::config(&[
            r#""kind":"RegistryMirror","name":"r.example","endpoints":["https://m.example"]"#,
            r#""kind":"RegistryAuth","name":"m.example:5000","username":"me","password":"pw""#,
        ]);
        let described = String::from_utf8(describe(&config).unwrap()).unwrap();
        assert_eq!(
            described,
            r#"{"mirrors":{"r.example":["https://m.example/"]},"passwords":{"m.example:5000":{"username":"me","password":"pw"}}}"#
        );
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_for_its_readers_alone() {
        let folder = fixture::folder("trust");
        let file = folder.join("secret.json");
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&folder).unwrap());
        replace(&file, b"one", owner, 0o400).unwrap();
        replace(&file, b"two", owner, 0o400).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o400);
        fs::remove_dir_all(folder).unwrap();
    }
}
