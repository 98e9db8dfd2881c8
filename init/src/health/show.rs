// SPDX-License-Identifier: Apache-2.0
//! Health as others see it: resources in the store, and the record of a boot.

use super::{Gated, rules::SYSTEM};
use crate::{node::Node, store::Kind};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use stele_machine::{
    boots::CheckRecord,
    health::{Check, Health, Millis, State},
    probe::{self, Watched},
};

/// What `ctl health` shows of a check.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckStatus {
    state: &'static str,
    need: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Seconds after boot.
    since: f64,
    /// Seconds after boot when it was passing first.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<f64>,
    /// Whether the system makes it by itself.
    system: bool,
}

/// What `ctl get probe` shows.
#[derive(Serialize)]
struct ProbeStatus<'a> {
    state: &'static str,
    /// Seconds after boot.
    since: f64,
    /// Seconds that the last try took that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<f64>,
    /// Seconds after boot when the last try ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    tried: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// What `ctl health` shows of the gate.
#[derive(Serialize)]
struct GateStatus<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// The checks that it waits for.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    waiting: &'a [String],
    /// Seconds after boot by when it is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<f64>,
}

/// Milliseconds as others see them.
pub(crate) fn seconds(millis: Millis) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}

fn state(check: &Check) -> &'static str {
    match check.state() {
        State::Unknown => "unknown",
        State::Passing => "passing",
        State::Failing => "failing",
    }
}

fn need(name: &str, check: &Check, gate: &Gated) -> &'static str {
    let excused = matches!(gate, Gated::Pending { gate, .. } | Gated::Blessing { gate, .. } if gate.excuses(name));
    match check.rule().required {
        true if excused => "excused",
        true => "required",
        false => "wanted",
    }
}

fn reason(check: &Check) -> String {
    if check.state() == State::Passing { String::new() } else { check.complaint() }
}

/// Publishes the checks.
pub(super) fn checks(node: &Node, health: &Health, gate: &Gated) {
    let status = |(name, check): (&String, &Check)| {
        let status = CheckStatus {
            state: state(check),
            need: need(name, check, gate),
            reason: reason(check),
            since: seconds(check.since()),
            passed: check.passed_at().map(seconds),
            system: name.starts_with(SYSTEM),
        };
        (name.clone(), status)
    };
    let all: BTreeMap<String, CheckStatus> = health.checks().iter().map(status).collect();
    node.store.replace(Kind::HealthCheck, &all);
}

/// Publishes the probes.
pub(super) fn probes(node: &Node) {
    let probes = node.health.probes.borrow();
    let all = probes.all().iter().map(|(name, probe)| (name.clone(), probe_status(probe)));
    node.store.replace(Kind::Probe, &all.collect());
}

/// Publishes one of them.
pub(super) fn probe(node: &Node, name: &str) {
    if let Some(probe) = node.health.probes.borrow().all().get(name) {
        node.store.put(Kind::Probe, name, &probe_status(probe));
    }
}

fn probe_status(probe: &Watched) -> ProbeStatus<'_> {
    ProbeStatus {
        state: match probe.state() {
            probe::State::Unknown => "unknown",
            probe::State::Reachable => "reachable",
            probe::State::Unreachable => "unreachable",
        },
        since: seconds(probe.since()),
        latency: probe.latency().map(|latency| latency.as_secs_f64()),
        tried: probe.tried().map(seconds),
        reason: probe.complaint(),
    }
}

/// Publishes the gate.
pub(super) fn gate(node: &Node, gate: &Gated) {
    let status = match gate {
        Gated::None => {
            GateStatus { state: "none", reason: String::new(), waiting: &[], deadline: None }
        }
        Gated::Pending { until, waiting, .. } => GateStatus {
            state: "pending",
            reason: if waiting.is_empty() {
                "the machine comes up".to_owned()
            } else {
                format!("waiting for {}", waiting.join(", "))
            },
            waiting,
            deadline: Some(seconds(*until)),
        },
        Gated::Blessing { .. } => GateStatus {
            state: "pending",
            reason: "the image is being made permanent".to_owned(),
            waiting: &[],
            deadline: None,
        },
        Gated::Passed => {
            GateStatus { state: "passed", reason: String::new(), waiting: &[], deadline: None }
        }
        Gated::Failed { reason, .. } => {
            GateStatus { state: "failed", reason: reason.clone(), waiting: &[], deadline: None }
        }
    };
    node.store.put(Kind::Gate, "gate", &status);
}

/// The checks as a boot's record keeps them.
pub(super) fn records(health: &Health, gate: &Gated) -> Vec<CheckRecord> {
    let record = |(name, check): (&String, &Check)| CheckRecord {
        name: name.clone(),
        need: need(name, check, gate).to_owned(),
        state: state(check).to_owned(),
        passed: check.passed_at(),
        reason: reason(check),
    };
    health.checks().iter().map(record).collect()
}
