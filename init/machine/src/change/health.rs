// SPDX-License-Identifier: Apache-2.0
//! What changes of how the machine's health is kept and told.

use super::{Change, Fate, named};
use stele_config::{HealthCheck, LogSink, MachineConfig, Metrics, Probe, Subject, Target};

pub(super) fn probes(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::probes).unwrap_or_default();
    let what = |what: &str, probe: &Probe| {
        format!("{what}, whether {}, each {} s", tried(probe.target()), probe.interval().as_secs())
    };
    named(before, new.probes(), Probe::name)
        .into_iter()
        .map(|fate| {
            let (probe, what) = match fate {
                Fate::Added(probe) => (probe, what("added", probe)),
                Fate::Changed(to) => (to, what("changes", to)),
                Fate::Gone(probe) => (probe, "no longer tried".to_owned()),
            };
            Change::live(format!("Probe {}", probe.name()), what)
        })
        .collect()
}

pub(super) fn checks(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::health_checks).unwrap_or_default();
    named(before, new.health_checks(), HealthCheck::name)
        .into_iter()
        .map(|fate| {
            let (check, what) = match fate {
                Fate::Added(check) => (check, summary("added", check)),
                Fate::Changed(to) => (to, summary("changes", to)),
                Fate::Gone(check) => (check, "no longer made".to_owned()),
            };
            Change::live(format!("HealthCheck {}", check.name()), what)
        })
        .collect()
}

pub(super) fn watchdog(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let watchdog = new.watchdog();
    if old.and_then(MachineConfig::watchdog) == watchdog {
        return None;
    }
    let what = match watchdog {
        Some(watchdog) => format!(
            "resets the machine after {} s without a sign of life",
            watchdog.timeout().as_secs()
        ),
        None => "back to its default timeout".to_owned(),
    };
    Some(Change::live("Watchdog", what))
}

pub(super) fn metrics(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let address = new.metrics().map(Metrics::address);
    if old.and_then(MachineConfig::metrics).map(Metrics::address) == address {
        return None;
    }
    let what = match address {
        Some(address) => format!("figures for everyone at http://{address}/metrics"),
        None => "figures for clients with a certificate alone".to_owned(),
    };
    Some(Change::live("Metrics", what))
}

pub(super) fn log_sinks(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::log_sinks).unwrap_or_default();
    let what = |sink: &LogSink| {
        let (protocol, address, format) = (sink.protocol(), sink.address(), sink.format());
        match sink.logs().len() {
            0 => format!("all logs go to {address} by {protocol} as {format}"),
            1 => format!("1 log goes to {address} by {protocol} as {format}"),
            count => format!("{count} logs go to {address} by {protocol} as {format}"),
        }
    };
    named(before, new.log_sinks(), LogSink::name)
        .into_iter()
        .map(|fate| {
            let (sink, what) = match fate {
                Fate::Added(sink) | Fate::Changed(sink) => (sink, what(sink)),
                Fate::Gone(sink) => (sink, "no log goes there any more".to_owned()),
            };
            Change::live(format!("LogSink {}", sink.name()), what)
        })
        .collect()
}

fn summary(what: &str, check: &HealthCheck) -> String {
    format!("{what}, {}, {}", check.need(), about(check))
}

fn about(check: &HealthCheck) -> String {
    match check.subject() {
        Subject::Target(target) => tried(target),
        Subject::Service(service) => {
            format!("{} is ready for {} s", service.name(), service.stable_for().as_secs())
        }
        Subject::Probe(name) => format!("the probe {name} is reachable"),
        Subject::Clock => "the clock is right".to_owned(),
    }
}

fn tried(target: &Target) -> String {
    match target {
        Target::Icmp(icmp) => format!("{} answers echo requests", icmp.address()),
        Target::Http(http) => format!("{} answers {}", http.url(), http.status()),
        Target::Tcp(tcp) => format!("{} takes connections", tcp.address()),
        Target::Dns(dns) => match dns.server() {
            Some(server) => format!("{server} knows {}", dns.name()),
            None => format!("{} resolves", dns.name()),
        },
    }
}
