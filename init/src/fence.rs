// SPDX-License-Identifier: Apache-2.0
//! The fence around the platform's metadata service: once a machine has its configuration, nobody but the metadata agent
//! reaches what told it, unless the configuration says so.
//!
//! A service that is known by name is not fenced: its addresses are for others to choose.

use crate::{configuration::Active, convergence::Part, node::Node, platform::Here, report};
use std::{rc::Rc, time::Duration};
use stele_kernel::net::{Fence, NetError, Netlink};

/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the fence for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>, here: Rc<Here>) {
    let mut configuration = node.configuration.subscribe();
    // On some platforms the service is the DHCP server, which comes with an address.
    let mut network = node.identity.subscribe();
    let (mut netlink, mut up) = (Netlink::new(), Vec::new());
    loop {
        let active = configuration.borrow_and_update().clone();
        network.mark_unchanged();
        let mut wait = None;
        if let Some(active) = active {
            let outcome = put(&mut netlink, &mut up, &wanted(&node, &here, &active));
            let outcome = outcome.map_err(|error| report::chain(&error));
            if let Err(error) = &outcome {
                tracing::error!(error, "fencing the metadata service failed; trying again");
                wait = Some(RETRY);
            }
            here.fenced(&node, &up, outcome.as_ref().err());
            node.convergence.report(Part::Metadata, active.stored.number, outcome);
        }
        tokio::select! {
            changed = configuration.changed() => if changed.is_err() { return },
            changed = network.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

fn wanted(node: &Node, here: &Here, active: &Active) -> Vec<Fence> {
    if active.config.metadata_service().is_some_and(|service| service.open) {
        return Vec::new();
    }
    here.services(node)
}

/// Takes down what is not wanted any more, and puts up what is.
fn put(netlink: &mut Netlink, up: &mut Vec<Fence>, wanted: &[Fence]) -> Result<(), NetError> {
    while let Some(index) = up.iter().position(|fence| !wanted.contains(fence)) {
        let fence = up.remove(index);
        if let Err(error) = netlink.del_fence(&fence) {
            up.push(fence);
            return Err(error);
        }
    }
    for fence in wanted {
        if !up.contains(fence) {
            netlink.add_fence(fence)?;
            up.push(*fence);
        }
    }
    Ok(())
}
