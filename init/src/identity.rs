// SPDX-License-Identifier: Apache-2.0
//! apid's identity: a file that says who this node is, kept in step with the configuration and the network; and what
//! the console says of how to reach the node.

use crate::{
    configuration::Active,
    convergence::Part,
    node::{NetworkIdentity, Node},
    report,
    store::Kind,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    rc::Rc,
};
use stele_config::{ClientAccess, MachineConfig};
use stele_proto::{internal::CertificateReport, method::Method, v1::Mode};

const FOLDER: &str = "/run/stele/apid";
/// The longest text of apid's that is shown.
const LONGEST_TEXT: usize = 300;
const FILE: &str = "/run/stele/apid/identity.json";

/// What the file says; see docs/architecture.md.
#[derive(Serialize, PartialEq, Eq)]
#[serde(tag = "mode", rename_all = "lowercase")]
enum Identity<'a> {
    Maintenance {
        hostname: &'a str,
        addresses: &'a [IpAddr],
    },
    Running {
        ca: &'a str,
        certificate: &'a str,
        key: &'a str,
        hostname: &'a str,
        addresses: &'a [IpAddr],
        access: Access<'a>,
        generation: u64,
    },
}

/// Which clients may do what, besides those with a role that every machine knows.
#[derive(Serialize, PartialEq, Eq)]
struct Access<'a> {
    /// The methods that each role opens.
    roles: BTreeMap<&'a str, Vec<&'static str>>,
    revoked: Vec<&'a str>,
}

impl<'a> Access<'a> {
    fn of(config: &'a MachineConfig) -> Access<'a> {
        let access = config.client_access();
        let roles = access.map_or(&[][..], ClientAccess::roles).iter().map(|role| {
            let paths = Method::ALL.iter().map(|method| method.path());
            (role.name().as_str(), paths.filter(|path| role.opens(path)).collect())
        });
        let revoked = access.map_or(&[][..], ClientAccess::revoked);
        Access {
            roles: roles.collect(),
            revoked: revoked.iter().map(|serial| serial.as_str()).collect(),
        }
    }
}

/// Keeps the file and apid in step for as long as the machine runs. apid serves from the first identity on.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    let mut network = node.identity.subscribe();
    let mut mode_before = None;
    let mut written: Option<(Option<Rc<Active>>, NetworkIdentity)> = None;
    loop {
        let active = configuration.borrow_and_update().clone();
        let addresses = network.borrow_and_update().clone();
        let running = active.is_some();
        let generation = number(active.as_deref());
        let served = written.as_ref().is_some_and(|(before, network)| {
            node.serves.get() == Some(number(before.as_deref()))
                && *network == addresses
                && same(before.as_deref(), active.as_deref())
        });
        if served {
            node.convergence.report(Part::Api, generation, Ok(()));
        } else if let Err(error) = write(active.as_deref(), &addresses) {
            tracing::error!(error = %error, "writing the identity of the API failed");
            let reason = format!("who this node is could not be written down for the API: {error}");
            node.convergence.report(Part::Api, generation, Err(reason));
            written = None;
        } else if let Some(apid) = node.supervisor.find("apid") {
            node.serves.set(None);
            written = Some((active, addresses));
            match mode_before.replace(running) {
                Some(before) if before != running => {
                    // It ends under whoever brought the configuration, who is to have an answer before.
                    node.convergence.report(Part::Api, generation, Ok(()));
                    apid.restart();
                }
                Some(_) | None => apid.reload(),
            }
        }
        tokio::select! {
            changed = configuration.changed() => if changed.is_err() { return },
            changed = network.changed() => if changed.is_err() { return },
        }
    }
}

fn number(active: Option<&Active>) -> u64 {
    active.map_or(0, |active| active.stored.number)
}

/// Whether two configurations tell apid the same.
fn same(one: Option<&Active>, other: Option<&Active>) -> bool {
    fn told(active: &Active) -> (&stele_config::Identity, Option<&ClientAccess>) {
        (active.config.identity(), active.config.client_access())
    }
    one.map(told) == other.map(told)
}

/// Makes the folder of the file, which apid may read and needs to be there when it starts.
pub(crate) fn prepare() -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    chown(FOLDER, Some(crate::api::APID), Some(crate::api::APID))?;
    fs::set_permissions(FOLDER, fs::Permissions::from_mode(0o700))
}

fn write(active: Option<&Active>, network: &NetworkIdentity) -> io::Result<()> {
    let NetworkIdentity { hostname, addresses } = network;
    let identity = match active {
        None => Identity::Maintenance { hostname, addresses },
        Some(active) => {
            let identity = active.config.identity();
            Identity::Running {
                ca: identity.ca(),
                certificate: identity.certificate(),
                key: identity.key(),
                hostname,
                addresses,
                access: Access::of(&active.config),
                generation: active.stored.number,
            }
        }
    };
    let beside = format!("{FILE}.new");
    // /run is memory: what matters is that no half of it is ever read, and by nobody but apid.
    fs::write(&beside, b"")?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o400))?;
    chown(&beside, Some(crate::api::APID), Some(crate::api::APID))?;
    fs::write(&beside, serde_json::to_vec(&identity).map_err(io::Error::other)?)?;
    fs::rename(&beside, Path::new(FILE))
}

/// What `ctl get certificate` shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateStatus<'a> {
    fingerprint: &'a str,
    not_before: i64,
    not_after: i64,
    names: &'a [String],
}

/// Takes apid's word for the certificate that it serves: it is a resource, and the console says how to reach the node.
pub(crate) fn certificate(node: &Node, report: &CertificateReport) {
    let CertificateReport { fingerprint, not_before, not_after, names, generation, failed } =
        report;
    let hex = fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || names.len() > 256 || names.iter().any(|name| name.len() > 256) {
        tracing::warn!("apid reported a certificate that makes no sense");
        return;
    }
    let outcome = if failed.is_empty() { Ok(()) } else { Err(report::plain(failed, LONGEST_TEXT)) };
    node.serves.set(outcome.is_ok().then_some(*generation));
    node.convergence.report(
        Part::Api,
        *generation,
        outcome.map_err(|reason| format!("the API: {reason}")),
    );
    node.store.put(
        Kind::Certificate,
        "apid",
        &CertificateStatus { fingerprint, not_before: *not_before, not_after: *not_after, names },
    );
    announce(node, fingerprint);
}

/// Says on the console how to reach the node.
fn announce(node: &Node, fingerprint: &str) {
    let NetworkIdentity { hostname, addresses } = node.identity.borrow().clone();
    let Some(first) = addresses.first() else { return };
    let all = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let lines = match node.configuration.active() {
        Some(_) if node.mode() == Mode::Safe => vec![format!(
            "SAFE MODE: {hostname} at {all} waits to be repaired; try: ctl -n {first} status"
        )],
        Some(_) => vec![format!("ready: {hostname} at {all}; try: ctl -n {first} version")],
        None => vec![
            format!("maintenance mode: waiting for a configuration at {all}"),
            format!("fingerprint SHA256:{fingerprint}"),
            format!(
                "try: ctl apply-config --insecure -n {first} --fingerprint SHA256:{fingerprint} -f machine.yaml"
            ),
        ],
    };
    if node.announced.replace(lines.clone()) != lines {
        for line in lines {
            tracing::info!(target: report::CONSOLE, "{line}");
        }
    }
}
