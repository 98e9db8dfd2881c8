// SPDX-License-Identifier: Apache-2.0
//! Probes: what they say of this host, as it goes away and comes back, and the health checks that name them.

use crate::{
    kinds::apply,
    web::state_of,
    world::{Kept, field, resource, resources, says, with_more},
};
use anyhow::{Result, ensure};
use hack::{machine::free_port, suite::Checks};
use std::{net::TcpListener, time::Duration};

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn every(node: &Kept, checks: &Checks) -> Result<()> {
    let port = free_port()?;
    let probe = |name: &str, what: &str| {
        format!(
            "---\napiVersion: stele/v1\nkind: Probe\nname: {name}\ninterval: 1s\ntimeout: 2s\nfailures: 2\n{what}\n"
        )
    };
    let check = |name: &str, what: &str| {
        format!(
            "---\napiVersion: stele/v1\nkind: HealthCheck\nname: {name}\nneed: wanted\nsuccesses: 1\n{what}\n"
        )
    };
    let all = [
        probe("host", "icmp: {address: 10.0.2.2}"),
        probe("nobody", "icmp: {address: 10.0.2.77}"),
        probe("port", &format!("tcp: {{address: \"10.0.2.2:{port}\"}}")),
        check("port-answers", "probe: port"),
        check("clock-right", "clock: {}"),
    ]
    .concat();
    let becomes = |name: &str, state: &str| {
        node.wait_until(&format!("the probe {name} is {state}"), SOON, || {
            Ok(field(&resource(node, "probe", name)?, "state")? == state)
        })
    };
    let listen = || TcpListener::bind(("127.0.0.1", port));
    checks.check("an echo request is sent by an agent without any capability", || {
        apply(node, &all)?;
        becomes("host", "reachable")?;
        let found = resource(node, "probe", "host")?;
        let latency = found["status"]["latency"].as_f64().unwrap_or_default();
        ensure!(latency > 0.0 && latency < 2.0, "{found}");
        becomes("nobody", "unreachable")?;
        says(&node.ctl.run(["get", "probe"])?, &["LATENCY", "an echo request to 10.0.2.77"])
    });
    checks.check(
        "a probe tells what goes away and comes back, and so does the check that names it",
        || {
            becomes("port", "unreachable")?;
            node.wait_until("the check fails", SOON, || {
                Ok(state_of(node, "port-answers")? == "failing")
            })?;
            let listener = listen()?;
            becomes("port", "reachable")?;
            node.wait_until("the check passes", SOON, || {
                Ok(state_of(node, "port-answers")? == "passing")
            })?;
            drop(listener);
            becomes("port", "unreachable")?;
            node.wait_until("the check fails", SOON, || {
                Ok(state_of(node, "port-answers")? == "failing")
            })?;
            let _listener = listen()?;
            becomes("port", "reachable")?;
            says(&node.ctl.run(["events"])?, &["unreachable: connecting to 10.0.2.2:"])
        },
    );
    checks.check("a check of the clock passes and fails with it", || {
        node.wait_until("they agree", SOON, || {
            let clock = field(&resource(node, "time", "time")?, "state")?;
            let right = clock == "synchronized" || clock == "holding";
            Ok(state_of(node, "clock-right")? == if right { "passing" } else { "failing" })
        })
    });
    checks.check(
        "a check of a probe that there is not is refused, and probes go when their documents do",
        || {
            let file = with_more(node, &all.replace("probe: port", "probe: prot"))?;
            let said =
                node.ctl.fails(["apply-config", "-f", &file.to_string_lossy(), "--dry-run"])?;
            says(&said, &["there is no probe prot (did you mean \"port\"?)"])?;
            apply(node, "")?;
            ensure!(resources(node, "probe")?.is_empty(), "a probe is still there");
            Ok(())
        },
    );
    Ok(())
}
