// SPDX-License-Identifier: Apache-2.0
//! What a node tells others: its figures to Prometheus, its logs to rsyslog; and whom it lets do what.

use crate::{
    collectors::{Prometheus, Syslog, get, judge, with_figures},
    raw,
    world::{Kept, World, field, resource, resources, says, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{artefacts::top, machine::Machine, suite::Checks};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    time::Duration,
};
use stele_proto::v1::{VersionRequest, machine_service_client::MachineServiceClient};

const SOON: Duration = Duration::from_secs(60);
/// Calls whose audit records do not fit into the memory of a log.
const FLOOD: usize = 4000;

fn apply(node: &Kept, documents: &str) -> Result<String> {
    let file = with_more(node, documents)?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])
}

/// The example of a kind in the manual.
fn example(kind: &str) -> Result<String> {
    let file = top().join(format!("proto/config/examples/{kind}.yaml"));
    Ok(format!("---\n{}", fs::read_to_string(file)?))
}

/// The last record of the audit log that is like this.
fn audited(node: &Kept, like: impl Fn(&Value) -> bool) -> Result<Value> {
    let text = node.ctl.run(["logs", "audit"])?;
    let records = text.lines().rev().filter_map(|line| line.get(line.find('{')?..));
    let mut records = records.filter_map(|record| serde_json::from_str(record).ok());
    records.find(like).context("There is no such audit record")
}

pub(crate) fn clients(world: &World, checks: &Checks) -> Result<()> {
    let (node, _) = with_figures(world, "careful", Machine::live(&world.artefacts)?)?;
    let auditor = world.operator.client(&node, "auditor", "auditor", "8h")?;
    let access = example("ClientAccess")?;
    checks.check("a role that the node does not know opens nothing", || {
        says(&auditor.fails(["logs", "kernel"])?, &["auditor", "os:reader"])
    });
    checks.check("a role of one's own opens what it names, and nothing else", || {
        says(&apply(&node, &access)?, &["the role auditor opens /stele.v1.LogService/*"])?;
        says(&auditor.run(["logs", "kernel"])?, &["Linux version"])?;
        says(&auditor.fails(["version"])?, &["os:reader", "auditor"])
    });
    checks.check("a revoked certificate opens nothing, and what it followed ends", || {
        let followed = auditor.follow(["logs", "init", "-f"])?;
        followed.wait_for("service", SOON)?;
        let serial = &audited(&node, |record| record["subject"] == "auditor")?["serial"];
        apply(&node, &access.replace("1da16e", &serial.to_string()))?;
        ensure!(!followed.wait()?, "it ended well");
        says(&auditor.fails(["logs", "kernel"])?, &["revoked"])
    });
    checks.check("nobody shuts himself out unawares", || {
        let own = audited(&node, |record| record["role"] == "os:admin")?;
        let file = with_more(&node, &access.replace("1da16e", &own["serial"].to_string()))?;
        let said = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&said, &["shut out", "revokes the certificate"])
    });
    checks.check("without the document all is as before", || {
        apply(&node, "")?;
        says(&auditor.fails(["logs", "kernel"])?, &["os:reader"])
    });
    Ok(())
}

pub(crate) fn figures(world: &World, checks: &Checks) -> Result<()> {
    let (node, port) = with_figures(world, "measured", Machine::live(&world.artefacts)?)?;
    let target = node.target()?;
    let credentials = node.credentials()?;
    let place = (target.address.as_str(), target.name.as_str());
    let prometheus = Prometheus::start(world, port, place, &credentials)?;
    let up = |job: &str| -> Result<bool> {
        let query = format!("up{{job=\"{job}\"}} == 1 and scrape_samples_scraped > 50");
        Ok(!prometheus.query(&query)?.is_empty())
    };
    checks.check("Prometheus gets them from the API's port, with a certificate", || {
        node.wait_until("it has them", SOON, || up("api"))
    });
    checks.check("nobody gets them openly before that is asked for", || {
        ensure!(!up("plain")?);
        Ok(())
    });
    checks.check("and openly where a document says so", || {
        says(&apply(&node, &example("Metrics")?)?, &["figures for everyone"])?;
        ensure!(field(&resource(&node, "metrics", "metrics")?, "state")? == "listening");
        node.wait_until("Prometheus has them", SOON, || up("plain"))
    });
    checks.check("promtool finds nothing to complain of", || {
        let (head, figures) = get(port, "/metrics", "*/*")?;
        says(&head, &["200 OK", "version=0.0.4"])?;
        for name in ["stele_image_info", "stele_link_received_bytes_total", "stele_service_running"]
        {
            says(&figures, &[name])?;
        }
        judge(world, &figures)
    });
    checks.check("they are those of this node", || {
        let query = "stele_service_running{service=\"apid\"} == 1 and on() stele_cpu_seconds_total{mode=\"user\"} >= 0";
        ensure!(!prometheus.query(query)?.is_empty());
        let (_, text) = get(port, "/metrics", "application/openmetrics-text")?;
        ensure!(text.ends_with("# EOF\n"));
        Ok(())
    });
    checks.check("an address that the machine does not have leads back, with the reason", || {
        let file = with_more(&node, &example("Metrics")?.replace("0.0.0.0", "192.0.2.7"))?;
        let said = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&said, &["192.0.2.7", "back on generation"])?;
        node.wait_until("it listens where it did before", SOON, || {
            Ok(field(&resource(&node, "metrics", "metrics")?, "state")? == "listening")
        })
    });
    checks.check("nobody listens any more once the document has gone", || {
        apply(&node, "")?;
        ensure!(get(port, "/metrics", "*/*").is_err());
        Ok(())
    });
    Ok(())
}

pub(crate) fn logs(world: &World, checks: &Checks) -> Result<()> {
    let (node, _) = with_figures(world, "talkative", Machine::live(&world.artefacts)?)?;
    let mut syslog = Syslog::new(world)?;
    syslog.start()?;
    let json = TcpListener::bind("127.0.0.1:0")?;
    let ca = syslog.ca.replace('\n', "\n  ");
    let sink = |name: &str, port: u16, more: &str| {
        format!(
            "---\napiVersion: stele/v1\nkind: LogSink\nname: {name}\naddress: 10.0.2.2:{port}\n{more}"
        )
    };
    let tls =
        example("LogSink")?.replace("logs.example.com:6514", &format!("10.0.2.2:{}", syslog.tls));
    let tls = format!("{}ca: |\n  {}\n", tls.replace("central", "tls"), ca.trim_end());
    let documents = [
        sink("tcp", syslog.tcp, ""),
        sink("udp", syslog.udp, "protocol: udp\nlogs: [init]\n"),
        tls,
        sink("json", json.local_addr()?.port(), "format: json\nlogs: [kernel]\n"),
    ]
    .concat();
    let state = |name: &str, key: &str| field(&resource(&node, "logsink", name)?, key);
    checks.check("rsyslog understands what comes by TCP, UDP and TLS", || {
        says(&apply(&node, &documents)?, &["all logs go to", "by tls as rfc5424"])?;
        for (input, log) in
            [("tcp", "kernel"), ("tcp", "audit"), ("udp", "init"), ("tls", "kernel")]
        {
            // RFC 5424 has the version 1; what is not understood has none.
            let facility = match log {
                "kernel" => "0.",
                "audit" => "13.",
                _ => "3.",
            };
            let begin = format!("{input} 1 {facility}");
            let middle = format!(" talkative {log} ");
            node.wait_until(&format!("{log} came by {input}"), SOON, || {
                let seen = syslog.seen(input);
                Ok(seen.iter().any(|line| line.starts_with(&begin) && line.contains(&middle)))
            })?;
        }
        let first = syslog.seen("tls");
        ensure!(first.iter().any(|line| line.contains("Linux version")), "it begins at the start");
        Ok(())
    });
    checks.check("JSON comes a line each", || {
        let (stream, _) = json.accept()?;
        stream.set_read_timeout(Some(SOON))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let object: Value = serde_json::from_str(&line)?;
        ensure!(object["log"] == "kernel" && object["host"] == "talkative", "{object}");
        Ok(())
    });
    checks.check("while the sink is away nothing is lost, and it goes on where it was", || {
        node.wait_until("all is sent", SOON, || Ok(state("tcp", "state")? == "connected"))?;
        syslog.stop();
        node.wait_until("the node knows", SOON, || Ok(state("tcp", "state")? == "waiting"))?;
        ensure!(!state("tcp", "reason")?.is_empty());
        let missed = audited(&node, |_| true)?;
        let missed = missed["request"].as_str().context("A record has a request")?.to_owned();
        ensure!(!syslog.seen("tcp").iter().any(|line| line.contains(&missed)));
        syslog.start()?;
        for input in ["tcp", "tls"] {
            node.wait_until("the record comes after all", SOON, || {
                Ok(syslog.seen(input).iter().any(|line| line.contains(&missed)))
            })?;
            let times = syslog.seen(input).iter().filter(|line| line.contains(&missed)).count();
            ensure!(times == 1, "{missed} came {times} times by {input}");
        }
        ensure!(state("tcp", "lost")? == "0");
        Ok(())
    });
    checks.check("what does not fit into memory meanwhile is counted, and told", || {
        syslog.stop();
        node.wait_until("the node knows", SOON, || Ok(state("tcp", "state")? == "waiting"))?;
        flood(&node)?;
        syslog.start()?;
        node.wait_until("the sink is told", 2 * SOON, || {
            let told = |line: &String| line.contains("lines of audit were lost");
            Ok(syslog.seen("tcp").iter().any(told))
        })?;
        node.wait_until("they are counted", SOON, || Ok(state("tcp", "lost")? != "0"))?;
        let (lost, sent) = (state("tcp", "lost")?, state("tcp", "sent")?);
        world.figure(format!(
            "log sink: {sent} lines sent, {lost} lost of {FLOOD} that were too many"
        ));
        Ok(())
    });
    checks.check("a sink that has gone from the configuration is left alone", || {
        apply(&node, "")?;
        let sinks = resources(&node, "logsink")?;
        ensure!(sinks.is_empty(), "{sinks:?}");
        let services = resources(&node, "service")?;
        let left: Vec<_> = services.iter().filter_map(|one| one["name"].as_str()).collect();
        ensure!(!left.iter().any(|name| name.starts_with("log-sink")), "{left:?}");
        Ok(())
    });
    Ok(())
}

/// Makes more audit records than a log holds.
fn flood(node: &Kept) -> Result<()> {
    let credentials = node.credentials()?;
    for _ in 0..4 {
        raw::block_on(async {
            let mut calls = tokio::task::JoinSet::new();
            let channel = raw::channel(node, Some(&credentials)).await?;
            for _ in 0..16 {
                let mut machine = MachineServiceClient::new(channel.clone());
                calls.spawn(async move {
                    for _ in 0..FLOOD / 64 {
                        machine.version(VersionRequest {}).await?;
                    }
                    Ok::<_, tonic::Status>(())
                });
            }
            while let Some(done) = calls.join_next().await {
                done??;
            }
            anyhow::Ok(())
        })??;
    }
    Ok(())
}
