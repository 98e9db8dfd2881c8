// SPDX-License-Identifier: Apache-2.0
//! The third look at a configuration: whether this very machine has what it speaks of. What is not there may come (a link
//! that is plugged in), so these are warnings.

use crate::{node::Node, store::Kind};
use stele_config::{MachineConfig, Probe};
use stele_proto::v1;

/// What the machine does not have.
pub(super) fn inspect(node: &Node, config: &MachineConfig) -> Vec<v1::Finding> {
    let mut findings = Vec::new();
    let links = node.store.names(Kind::Link);
    let known = |name: &str| {
        node.store.status(Kind::Link, name).is_some_and(|link| link.get("index").is_some())
    };
    for link in config.links().iter().filter(|link| !known(link.name().as_str())) {
        let there: Vec<String> = links.iter().filter(|name| known(name)).cloned().collect();
        findings.push(finding(
            "Link",
            "name",
            format!("this machine has no interface {} now", link.name()),
            format!("one of {}", there.join(", ")),
        ));
    }
    for check in config.health_checks() {
        let Probe::Service(service) = check.probe() else { continue };
        let name = service.name().to_string();
        if node.store.status(Kind::Service, &name).is_none() {
            findings.push(finding(
                "HealthCheck",
                "service.name",
                format!("this machine has no service {name}"),
                format!("one of {}", node.store.names(Kind::Service).join(", ")),
            ));
        }
    }
    findings
}

fn finding(kind: &str, path: &str, message: String, expected: String) -> v1::Finding {
    let (kind, path) = (kind.to_owned(), path.to_owned());
    v1::Finding { document: 0, kind, path, line: 0, message, expected }
}
