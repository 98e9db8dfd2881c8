// SPDX-License-Identifier: Apache-2.0
//! Which checks there are: the system's own, and the configuration's.

use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use stele_config::{HealthCheck, MachineConfig, Need, Probe, Subject, Target};
use stele_machine::health::Rule;

/// The system's own checks.
pub(super) const SERVICES: &str = "system/services";
pub(super) const NETWORK: &str = "system/network";
pub(super) const VOLUMES: &str = "system/volumes";
pub(super) const API: &str = "system/api";
/// What their names begin with; the names of a configuration's have no slash.
pub(crate) const SYSTEM: &str = "system/";
/// What the names of probes begin with for the agent, which makes the checks as well.
const PROBE: &str = "probe/";

/// By when the system's own must pass, where the configuration does not say.
pub(super) const DEADLINE: Duration = Duration::from_secs(180);
/// How often in a row the system's own must pass: services that end again within three seconds are not ready.
const STEADY: u32 = 6;
/// Where apid is tried, and how often.
const API_ADDRESS: &str = "127.0.0.1:50000";
const API_INTERVAL: Duration = Duration::from_secs(1);
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing waits for its next try while the gate is open.
const GATED_INTERVAL: Duration = Duration::from_secs(10);

/// All checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) all: BTreeMap<String, Rule>,
    /// The configuration's.
    checks: Vec<HealthCheck>,
    pub(super) probes: Vec<Probe>,
}

/// The checks of a machine with this configuration. The API is tried while the gate is open only: afterwards whoever asks
/// for its health has tried it.
pub(super) fn of(config: Option<&MachineConfig>, safe: bool, gated: bool) -> Rules {
    let deadline = config
        .and_then(MachineConfig::upgrade_policy)
        .map_or(DEADLINE, stele_config::UpgradePolicy::deadline);
    let system = |successes| Rule { required: true, successes, deadline: millis(deadline) };
    let mut all = BTreeMap::from([
        (SERVICES.to_owned(), system(STEADY)),
        (NETWORK.to_owned(), system(1)),
        (VOLUMES.to_owned(), system(1)),
    ]);
    if config.is_some() && gated {
        all.insert(API.to_owned(), system(1));
    }
    let wanted = config.filter(|_| !safe);
    let checks = wanted.map(|config| config.health_checks().to_vec()).unwrap_or_default();
    let probes = wanted.map(|config| config.probes().to_vec()).unwrap_or_default();
    for check in &checks {
        let rule = Rule {
            required: check.need() == Need::Required,
            successes: check.successes(),
            deadline: millis(check.deadline()),
        };
        all.insert(check.name().to_string(), rule);
    }
    Rules { all, checks, probes }
}

impl Rules {
    /// What each of the configuration's is about.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (String, &Subject)> {
        self.checks.iter().map(|check| (check.name().to_string(), check.subject()))
    }

    /// Those of the configuration's that are about one of these probes.
    pub(super) fn about(&self, probes: &BTreeSet<String>) -> Vec<String> {
        let about = |subject: &Subject| matches!(subject, Subject::Probe(name) if probes.contains(name.as_str()));
        self.subjects().filter(|(_, subject)| about(subject)).map(|(check, _)| check).collect()
    }

    /// What the probe agent is to do; see docs/architecture.md.
    pub(super) fn tasks(&self, config: Option<&MachineConfig>, hostname: &str) -> Vec<Task> {
        let gated = self.all.contains_key(API);
        // The gate has a deadline, by which what failed once has to be tried again.
        let interval = |interval: Duration| {
            millis(if gated { interval.min(GATED_INTERVAL) } else { interval })
        };
        let api = config.filter(|_| gated).map(|config| Task {
            name: API.to_owned(),
            interval_ms: millis(API_INTERVAL),
            timeout_ms: millis(API_TIMEOUT),
            what: What::Api {
                address: API_ADDRESS.to_owned(),
                ca: config.identity().ca().to_owned(),
                server_name: hostname.to_owned(),
            },
        });
        let check = |check: &HealthCheck| {
            let what = What::of(match check.subject() {
                Subject::Target(target) => target,
                Subject::Service(_) | Subject::Probe(_) | Subject::Clock => return None,
            });
            Some(Task {
                name: check.name().to_string(),
                interval_ms: interval(check.interval()),
                timeout_ms: millis(check.timeout()),
                what,
            })
        };
        let probe = |probe: &Probe| Task {
            name: format!("{PROBE}{}", probe.name()),
            interval_ms: interval(probe.interval()),
            timeout_ms: millis(probe.timeout()),
            what: What::of(probe.target()),
        };
        // Until it has a name, nobody can check the certificate that it is to have.
        api.filter(|_| !hostname.is_empty())
            .into_iter()
            .chain(self.checks.iter().filter_map(check))
            .chain(self.probes.iter().map(probe))
            .collect()
    }
}

impl Task {
    /// The check's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The probe, if it is one, that is tried by this name.
pub(super) fn probe(task: &str) -> Option<&str> {
    task.strip_prefix(PROBE)
}

/// A check or a probe that the probe agent makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    name: String,
    interval_ms: u64,
    timeout_ms: u64,
    #[serde(flatten)]
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum What {
    Icmp {
        address: String,
    },
    Http {
        url: String,
        status: u32,
    },
    Tcp {
        address: String,
    },
    Dns {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    Api {
        address: String,
        ca: String,
        server_name: String,
    },
}

impl What {
    fn of(target: &Target) -> What {
        match target {
            Target::Icmp(icmp) => What::Icmp { address: icmp.address().to_string() },
            Target::Http(http) => What::Http { url: http.url().to_string(), status: http.status() },
            Target::Tcp(tcp) => What::Tcp { address: tcp.address().to_string() },
            Target::Dns(dns) => What::Dns {
                name: dns.name().to_string(),
                server: dns.server().map(|server| server.to_string()),
            },
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
