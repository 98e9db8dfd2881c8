// SPDX-License-Identifier: Apache-2.0
//! The programs and logs of the image, as documents name them.
//!
//! The list is that of the image's units; a test of PID 1 holds the two together. So a wrong name is found before there is a
//! machine.

use crate::record::did_you_mean;
use crate::{Dhcp6Start, Environment, Link, MachineConfig, Name, Remark, Subject};

/// What is kept running.
pub const SERVICES: [&str; 7] = ["acd", "apid", "dns", "metrics", "probe", "routers", "time"];
/// What runs until it has done one thing.
pub const ERRANDS: [&str; 14] = [
    "capture",
    "configure",
    "diagnose",
    "disk",
    "examine",
    "fetch",
    "guestinfo",
    "judge",
    "kvp",
    "metadata",
    "observe",
    "ping",
    "receive",
    "stage",
];
/// What runs once for each link with DHCP: `dhcp-eth0`; and with DHCPv6.
pub const FOR_LINKS: [&str; 2] = ["dhcp", "dhcp6"];
/// What runs once for each log sink: `log-sink-central`.
pub const FOR_SINKS: &str = "log-sink";
/// The logs that no program of that name writes.
const LOGS: [&str; 4] = ["audit", "candidate", "init", "kernel"];

/// What documents name, and neither the image nor the configuration itself brings.
#[must_use]
pub fn unknown(config: &MachineConfig) -> Vec<Remark> {
    let services = services(config);
    let is_link = |name: &str| {
        // Without any, or with those of any name, which links there are is the machine's business.
        let all = config.links();
        let of_any_name = all.is_empty() || all.iter().any(|link| link.matched().is_some());
        let agent =
            |kind: &str| name.strip_prefix(kind)?.strip_prefix('-').filter(|rest| !rest.is_empty());
        of_any_name && FOR_LINKS.into_iter().any(|kind| agent(kind).is_some())
    };
    let mut programs = services.clone();
    programs.extend(ERRANDS.map(str::to_owned));
    let mut logs = programs.clone();
    logs.extend(LOGS.map(str::to_owned));
    let mut remarks = Vec::new();
    let mut look = |known: &[String], name: &Name, remark: Remark| {
        if known.iter().any(|known| known == name.as_str()) || is_link(name.as_str()) {
            return;
        }
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        remarks.push(Remark {
            message: format!("{}{}", remark.message, did_you_mean(name.as_str(), &names)),
            expected: format!("one of {}", names.join(", ")),
            ..remark
        });
    };
    for check in config.health_checks() {
        let Subject::Service(service) = check.subject() else { continue };
        let message = format!("this image has no service {}", service.name());
        let path = "service.name".to_owned();
        look(&services, service.name(), remark("HealthCheck", check.name(), path, true, message));
    }
    for sink in config.log_sinks() {
        for (index, log) in sink.logs().iter().enumerate() {
            let message = format!("this image has no log {log}");
            look(
                &logs,
                log,
                remark("LogSink", sink.name(), format!("logs[{index}]"), true, message),
            );
        }
    }
    for environment in config.environments() {
        for (index, service) in environment.services().iter().enumerate() {
            let message = format!("this image has no service {service}");
            let (name, path) = (Environment::name(environment), format!("services[{index}]"));
            look(&programs, service, remark("Environment", name, path, false, message));
        }
    }
    remarks.extend(unknown_probes(config));
    remarks
}

/// Probes that health checks name, and that there are not.
fn unknown_probes(config: &MachineConfig) -> impl Iterator<Item = Remark> {
    let known: Vec<&str> = config.probes().iter().map(|probe| probe.name().as_str()).collect();
    config.health_checks().iter().filter_map(move |check| {
        let Subject::Probe(name) = check.subject() else { return None };
        if known.contains(&name.as_str()) {
            return None;
        }
        let meant = did_you_mean(name.as_str(), &known);
        let message = format!("there is no probe {name}{meant}");
        let expected = match known.as_slice() {
            [] => "the name of a document of the kind Probe".to_owned(),
            _ => format!("one of {}", known.join(", ")),
        };
        let path = "probe".to_owned();
        Some(Remark { expected, ..remark("HealthCheck", check.name(), path, false, message) })
    })
}

/// What is kept running with this configuration.
fn services(config: &MachineConfig) -> Vec<String> {
    let [four, six] = FOR_LINKS;
    let named = config.links().iter().filter(|link: &&Link| link.matched().is_none());
    let links = named.flat_map(|link| {
        let by_routers = !link.ignores_routers();
        let asks6 = link.dhcp6().map_or(by_routers, |it| it.start() != Dhcp6Start::Never);
        let agents = [link.dhcp4().map(|_| four), asks6.then_some(six)];
        agents.into_iter().flatten().map(|kind| format!("{kind}-{}", link.name()))
    });
    let sinks = config.log_sinks().iter().map(|sink| format!("{FOR_SINKS}-{}", sink.name()));
    SERVICES.map(str::to_owned).into_iter().chain(links).chain(sinks).collect()
}

fn remark(kind: &'static str, name: &Name, path: String, warning: bool, message: String) -> Remark {
    Remark { kind, name: name.to_string(), path, warning, message, expected: String::new() }
}
