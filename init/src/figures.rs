// SPDX-License-Identifier: Apache-2.0
//! The machine's figures: what the store and the kernel say, as text for those who ask for it: apid, and the agent of the
//! kind Metrics. They are looked at when somebody asks; nothing is kept.

pub(crate) mod agent;
mod proc;

use crate::{cgroup::Cgroup, node::Node, store::Kind};
use serde_json::Value;
use std::{fs, path::Path};
use stele_machine::figures::{Format, Page, Type};

/// All of them, now.
pub(crate) fn page(node: &Node, format: Format) -> String {
    let mut page = Page::new(format);
    machine(&mut page, node);
    services(&mut page, node);
    health(&mut page, node);
    clock(&mut page, node);
    network_and_volumes(&mut page, node);
    probes(&mut page, node);
    logs(&mut page, node);
    kernel(&mut page);
    page.finish()
}

fn machine(page: &mut Page, node: &Node) {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    page.family("stele_image", Type::Info, "The running image.")
        .add(&[("version", &node.release.version), ("kernel", &kernel)], 1);
    let mode = node.mode().as_str_name().trim_start_matches("MODE_").to_lowercase();
    page.family("stele_mode", Type::Info, "What the machine is doing as a whole.")
        .add(&[("mode", &mode)], 1);
    if let Some(state) = node.state.get() {
        page.family("stele_boot", Type::Gauge, "The number of this boot.").add(&[], state.boot);
    }
    let mut late = page.family(
        "stele_loop_late",
        Type::Counter,
        "How often PID 1 came to something so many seconds later than it wanted to.",
    );
    for (seconds, count) in node.lag.counts() {
        late.add(&[("seconds", seconds)], count);
    }
    if let Some(active) = node.configuration.active() {
        page.family("stele_generation", Type::Gauge, "The configuration in force.")
            .add(&[], active.stored.number);
    }
    let mut ends = page.family(
        "stele_certificate_expiry_timestamp_seconds",
        Type::Gauge,
        "When the certificate that the API serves ends, since the epoch.",
    );
    each(node, Kind::Certificate, |_, status| {
        if let Some(at) = status.get("notAfter").and_then(Value::as_i64) {
            ends.add(&[], at);
        }
    });
}

fn services(page: &mut Page, node: &Node) {
    let mut running =
        page.family("stele_service_running", Type::Gauge, "Whether a service runs and is ready.");
    each(node, Kind::Service, |name, status| {
        running.add(&[("service", name)], u8::from(is(status, "running")));
    });
    let mut restarts = page.family(
        "stele_service_restarts",
        Type::Counter,
        "How often a service was started again.",
    );
    each(node, Kind::Service, |name, status| {
        if let Some(count) = status.get("restarts").and_then(Value::as_u64) {
            restarts.add(&[("service", name)], count);
        }
    });
    let mut memory =
        page.family("stele_service_memory_bytes", Type::Gauge, "Memory that a service uses.");
    each(node, Kind::Service, |name, _| {
        if let Some(bytes) = Cgroup::of(name).memory() {
            memory.add(&[("service", name)], bytes);
        }
    });
    let mut cpu = page.family(
        "stele_service_cpu_seconds",
        Type::Counter,
        "Processor time that a service has used.",
    );
    each(node, Kind::Service, |name, _| {
        if let Some(time) = Cgroup::of(name).processor_time() {
            cpu.add(&[("service", name)], time.as_secs_f64());
        }
    });
}

fn health(page: &mut Page, node: &Node) {
    let mut passing =
        page.family("stele_health_check_passing", Type::Gauge, "Whether a health check passes.");
    each(node, Kind::HealthCheck, |name, status| {
        let need = status.get("need").and_then(Value::as_str).unwrap_or_default();
        passing.add(&[("check", name), ("need", need)], u8::from(is(status, "passing")));
    });
}

fn probes(page: &mut Page, node: &Node) {
    let mut reachable =
        page.family("stele_probe_reachable", Type::Gauge, "Whether a probe can be reached.");
    each(node, Kind::Probe, |name, status| {
        if !is(status, "unknown") {
            reachable.add(&[("probe", name)], u8::from(is(status, "reachable")));
        }
    });
    let mut latency = page.family(
        "stele_probe_latency_seconds",
        Type::Gauge,
        "How long the last try of a probe took that succeeded.",
    );
    each(node, Kind::Probe, |name, status| {
        if let Some(seconds) = status.get("latency").and_then(Value::as_f64) {
            latency.add(&[("probe", name)], seconds);
        }
    });
}

fn logs(page: &mut Page, node: &Node) {
    for (field, name, help) in [
        ("sent", "stele_log_sink_sent", "Lines that were handed over to a sink."),
        (
            "lost",
            "stele_log_sink_lost",
            "Lines that were lost because a sink was away for too long.",
        ),
    ] {
        let mut family = page.family(name, Type::Counter, help);
        each(node, Kind::LogSink, |name, status| {
            if let Some(count) = status.get(field).and_then(Value::as_u64) {
                family.add(&[("sink", name)], count);
            }
        });
    }
}

fn clock(page: &mut Page, node: &Node) {
    let mut right = page.family(
        "stele_clock_synchronized",
        Type::Gauge,
        "Whether the clock follows a source of the time.",
    );
    each(node, Kind::Time, |_, status| {
        right.add(&[], u8::from(is(status, "synchronized")));
    });
    let mut offset = page.family(
        "stele_clock_offset_seconds",
        Type::Gauge,
        "By how much the best source of the time is ahead of the clock.",
    );
    each(node, Kind::Time, |_, status| {
        if let Some(seconds) = status.get("offset").and_then(Value::as_f64) {
            offset.add(&[], seconds);
        }
    });
}

fn network_and_volumes(page: &mut Page, node: &Node) {
    let mut ready = page.family(
        "stele_link_ready",
        Type::Gauge,
        "Whether a link that the machine cares for is up and has its addresses.",
    );
    each(node, Kind::Link, |name, status| {
        if !is(status, "unmanaged") {
            ready.add(&[("link", name)], u8::from(is(status, "ready")));
        }
    });
    for (field, name, help) in [
        ("size", "stele_volume_size_bytes", "Size of a file system."),
        ("free", "stele_volume_free_bytes", "Room that is left on a file system."),
    ] {
        let mut family = page.family(name, Type::Gauge, help);
        each(node, Kind::Volume, |name, status| {
            if let Some(bytes) = status.get(field).and_then(Value::as_u64) {
                family.add(&[("volume", name)], bytes);
            }
        });
    }
}

fn kernel(page: &mut Page) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    proc::stat(page, &read("/proc/stat"));
    proc::load(page, &read("/proc/loadavg"));
    proc::memory(page, &read("/proc/meminfo"));
    let pressure =
        ["cpu", "io", "memory"].map(|name| (name, read(&format!("/proc/pressure/{name}"))));
    proc::pressure(page, &pressure);
    proc::links(page, &read("/proc/net/dev"));
    // A partition has its folder within its disk's.
    let is_disk = |name: &str| Path::new("/sys/block").join(name).exists();
    proc::disks(page, &read("/proc/diskstats"), is_disk);
}

/// Does something with each resource of a kind.
fn each(node: &Node, kind: Kind, mut work: impl FnMut(&str, &Value)) {
    for name in node.store.names(kind) {
        if let Some(status) = node.store.status(kind, &name) {
            work(&name, &status);
        }
    }
}

fn is(status: &Value, state: &str) -> bool {
    status.get("state").and_then(Value::as_str) == Some(state)
}
