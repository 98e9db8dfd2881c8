// SPDX-License-Identifier: Apache-2.0
//! The environment of services: what the documents of the kind Environment give them, and that they start again when it
//! changes.

use crate::{
    configuration::Active, convergence::Part, node::Node, store::Kind, supervisor::Handle,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};
use stele_config::{Environment, MachineConfig, Name, Variable};
use stele_machine::service::State;

/// How long a service may take to be there again.
const DEADLINE: Duration = Duration::from_secs(15);

/// The variables of each service that has some.
type Variables = BTreeMap<String, BTreeMap<String, String>>;

/// What `ctl get environment` shows. The values may be secrets.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Status {
    state: &'static str,
    services: Vec<String>,
    /// Of the variables.
    names: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// What the configuration in force gives to a service.
pub(crate) fn of(node: &Node, service: &str) -> BTreeMap<String, String> {
    let active = node.configuration.active();
    let variables = active.map(|active| variables(active.config.environments()));
    variables.and_then(|mut variables| variables.remove(service)).unwrap_or_default()
}

fn variables(documents: &[Environment]) -> Variables {
    let mut variables = Variables::new();
    for document in documents {
        for service in document.services() {
            let own =
                |variable: &Variable| (variable.name().to_owned(), variable.value().to_owned());
            let service = variables.entry(service.to_string()).or_default();
            service.extend(document.variables().iter().map(own));
        }
    }
    variables
}

/// Starts services again for as long as the machine runs, when what they are given changes.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    // What runs already was started with what is in force already.
    let active = configuration.borrow().clone();
    let documents = active.as_deref().map(|active| active.config.environments());
    let mut before = variables(documents.unwrap_or_default());
    loop {
        let active = configuration.borrow_and_update().clone();
        if let Some(active) = active {
            let after = variables(active.config.environments());
            active.cause().carry(pass(&node, &active, &before, &after)).await;
            before = after;
        }
        if configuration.changed().await.is_err() {
            return;
        }
    }
}

async fn pass(node: &Node, active: &Active, before: &Variables, after: &Variables) {
    let named: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut failed = BTreeMap::new();
    for service in named.into_iter().filter(|service| before.get(*service) != after.get(*service)) {
        if let Some(handle) = node.supervisor.find(service)
            && !start_again(&handle).await
        {
            let seconds = DEADLINE.as_secs();
            failed
                .insert(service.clone(), format!("{service} is not there again after {seconds} s"));
        }
    }
    let config: &MachineConfig = &active.config;
    let unknown = |service: &&Name| {
        let name = service.as_str();
        !node.units.contains_key(name) && node.supervisor.find(name).is_none()
    };
    let statuses = config.environments().iter().map(|document| {
        let reason = document.services().iter().find_map(|service| {
            let unknown =
                unknown(&service).then(|| format!("this machine has no service {service}"));
            unknown.or_else(|| failed.get(service.as_str()).cloned())
        });
        let reason = reason.unwrap_or_default();
        let status = Status {
            state: if reason.is_empty() { "given" } else { "failed" },
            services: document.services().iter().map(ToString::to_string).collect(),
            names: document.variables().iter().map(|one| one.name().to_owned()).collect(),
            reason,
        };
        (document.name().to_string(), status)
    });
    let statuses: BTreeMap<String, Status> = statuses.collect();
    let reasons = statuses.iter().filter(|(_, status)| !status.reason.is_empty());
    let mut reasons =
        reasons.map(|(name, status)| format!("Environment {name}: {}", status.reason));
    let outcome = reasons.next().map_or(Ok(()), Err);
    node.store.replace(Kind::Environment, &statuses);
    node.convergence.report(Part::Environment, active.stored.number, outcome);
}

/// Whether it is there again in time. One that was not wanted stays away.
async fn start_again(handle: &Handle) -> bool {
    if handle.is(State::Stopped) {
        return true;
    }
    let again = async {
        handle.stop();
        handle.reach(State::Stopped).await;
        handle.start();
        handle.reach(State::Running).await;
    };
    tokio::time::timeout(DEADLINE, again).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn documents_add_up_for_each_service() {
        let config = fixture::config(&[
            r#""kind":"Environment","name":"a","services":["probe","x"],"variables":["A=1"]"#,
            r#""kind":"Environment","name":"b","services":["probe"],"variables":["B=2=3"]"#,
        ]);
        let variables = variables(config.environments());
        let own = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            pairs.collect::<BTreeMap<String, String>>()
        };
        assert_eq!(variables["probe"], own(&[("A", "1"), ("B", "2=3")]));
        assert_eq!(variables["x"], own(&[("A", "1")]));
    }
}
