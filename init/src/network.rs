// SPDX-License-Identifier: Apache-2.0
//! The network: one task that owns it, and makes the kernel's links what configuration and leases say.
//!
//! Whatever wakes it (a configuration, a report of an agent, a change in the kernel, a lease that ends) it does the same:
//! look at everything, decide in [`stele_machine::network`], do it, and say how it is. What fails is tried again, later
//! and later, and at once when something changes.

mod acd;
mod agents;
mod arguments;
pub(crate) mod called;
mod endpoints;
mod failures;
mod files;
mod firewall;
pub(crate) mod given;
mod heard;
mod kernel;
mod modules;
mod publish;
mod routers;
mod wireguard;

use crate::{
    configuration::Active, convergence::Part, events::Cause, node::Node, readiness, report,
};
use acd::Acd;
use agents::{Agents, Word};
use failures::Failures;
use files::Files;
use heard::Heard;
use modules::Modules;
use routers::Routers;
use std::{
    cell::LazyCell, collections::BTreeMap, convert::Infallible, io, net::IpAddr, rc::Rc,
    time::Duration,
};
use stele_config::MachineConfig;
use stele_kernel::{
    clock,
    net::{Monitor, NetError, Netlink},
};
use stele_machine::network::{
    Observed,
    desired::Desired,
    given::Given,
    kept,
    lease::Report,
    names,
    plan::{Action, plan},
    status::{self, Refused, Times},
    usable::{Usable, usable},
    wanted::Wanted,
};
use tokio::time::Instant;
use wireguard::Tunnels;

/// Why the network is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("starting to watch the network")]
    Monitor(#[source] NetError),
    #[error("waiting for changes of the network")]
    Wait(#[source] io::Error),
    #[error("looking at the network")]
    Observe(#[source] NetError),
    #[error("changing the network")]
    Apply(#[source] NetError),
    #[error("the private key of {link}: {reason}")]
    Key { link: String, reason: String },
    #[error("telling the kernel in {file} whether to heed routers")]
    Routers { file: String, source: io::Error },
    #[error("writing {file}")]
    Write { file: &'static str, source: io::Error },
}

/// Starts to care for the network, for as long as the machine runs.
pub(crate) async fn start(node: &Rc<Node>) {
    given::restore(node).await;
    called::restore(node);
    let mut network = Network::new(Rc::clone(node));
    tokio::task::spawn_local(async move {
        loop {
            let Err(error) = network.keep().await;
            tracing::error!(
                error = report::chain(&error),
                "keeping the network failed; starting again"
            );
            tokio::time::sleep(failures::FIRST).await;
        }
    });
}

/// The link that would lose an address of the machine with another configuration, if one would.
pub(crate) fn loses(
    node: &Node,
    config: &MachineConfig,
    address: IpAddr,
) -> Result<Option<String>, NetworkError> {
    let observed = kernel::observe(&mut Netlink::new(), &mut BTreeMap::new());
    let observed = observed.map_err(NetworkError::Observe)?;
    let given = fitted(node, &observed);
    let wanted = Wanted { config: Some(config), given: given.as_ref() };
    Ok(kept::loses(wanted, &observed, address).map(str::to_owned))
}

/// What others than the configuration say of these links.
fn fitted(node: &Node, observed: &Observed) -> Option<Given> {
    let mut fits = node.fits.borrow_mut();
    node.given.borrow().as_ref().map(|given| fits.fit(given, &observed.links))
}

/// Passes without agents, until nothing is left to be done; the number of steps.
#[cfg(feature = "rig")]
pub(crate) fn converge(
    config: &MachineConfig,
    dhcp: &BTreeMap<String, stele_machine::network::lease::Dhcp>,
) -> Result<usize, NetworkError> {
    let (mut netlink, mut first_mtu) = (Netlink::new(), BTreeMap::new());
    let mut steps = 0;
    loop {
        let observed =
            kernel::observe(&mut netlink, &mut first_mtu).map_err(NetworkError::Observe)?;
        let desired = Desired::derive(Some(config), dhcp, &observed.links);
        let actions = plan(&desired, &observed);
        if actions.is_empty() {
            return Ok(steps);
        }
        for action in &actions {
            kernel::apply(&mut netlink, action).map_err(NetworkError::Apply)?;
        }
        steps += actions.len();
    }
}

/// Everything the task owns.
struct Network {
    node: Rc<Node>,
    netlink: Netlink,
    agents: Agents,
    acd: Acd,
    modules: Modules,
    routers: Routers,
    tunnels: Tunnels,
    heard: Heard,
    /// The MTU of each link when it was first seen, by index.
    first_mtu: BTreeMap<u32, u32>,
    files: Files,
    times: Times,
    failures: Failures,
    /// The configuration of the last pass.
    generation: Option<u64>,
}

/// What woke the task.
enum Woken {
    Changed,
    Configured,
    Reported(String, Word),
}

impl Network {
    fn new(node: Rc<Node>) -> Network {
        let agents = Agents::new(Rc::clone(&node));
        let acd = Acd::new(Rc::clone(&node));
        let modules = Modules::new(Rc::clone(&node));
        let routers = Routers::new(Rc::clone(&node));
        Network {
            node,
            netlink: Netlink::new(),
            agents,
            acd,
            modules,
            routers,
            tunnels: Tunnels::new(),
            heard: Heard::default(),
            first_mtu: BTreeMap::new(),
            files: Files::default(),
            times: Times::default(),
            failures: Failures::default(),
            generation: None,
        }
    }

    async fn keep(&mut self) -> Result<Infallible, NetworkError> {
        let monitor = Monitor::new().map_err(NetworkError::Monitor)?;
        let monitor = readiness::watch(monitor).map_err(NetworkError::Wait)?;
        let mut configuration = self.node.configuration.subscribe();
        let mut given = self.node.given.subscribe();
        let mut called = self.node.called.subscribe();
        let mut cause: Option<Cause> = None;
        loop {
            if let Some(active) = self.node.configuration.active() {
                self.tunnels.make_keys(&active.config).await;
            }
            let begun = Instant::now();
            match cause.take() {
                Some(cause) => cause.act(|| self.pass()),
                None => self.pass(),
            }
            // What changes in the kernel, as others may make it do without end, gets half of the time.
            let rested = begun + begun.elapsed() * 2;
            given::keep_fits(&self.node).await;
            let woken = loop {
                let wait = self.wait();
                let changed = async {
                    tokio::time::sleep_until(rested).await;
                    monitor.readable().await
                };
                break tokio::select! {
                    ready = changed => {
                        let mut ready = ready.map_err(NetworkError::Wait)?;
                        // Cleared first: what comes after this is told again.
                        ready.clear_ready();
                        monitor.get_ref().drain().map_err(NetworkError::Observe)?;
                        Woken::Changed
                    }
                    // An error would mean that the sender is gone, which the node of this task holds.
                    _changed = configuration.changed() => Woken::Configured,
                    _changed = given.changed() => Woken::Changed,
                    _changed = called.changed() => Woken::Changed,
                    heard = self.agents.hear() => match heard {
                        Some((link, word)) => Woken::Reported(link, word),
                        None => Woken::Changed,
                    },
                    // Routers repeat themselves, and anyone on a link can be one.
                    said = self.routers.hear() => match self.heard.heed(said, &mut self.routers) {
                        true => Woken::Changed,
                        false => continue,
                    },
                    found = self.acd.hear() => match self.heard.find(found, &mut self.acd) {
                        true => Woken::Changed,
                        false => continue,
                    },
                    () = self.modules.tried() => Woken::Changed,
                    () = self.tunnels.heard() => Woken::Changed,
                    () = pause(wait) => Woken::Changed,
                };
            };
            match woken {
                Woken::Changed => {}
                Woken::Configured => {
                    self.failures = Failures::default();
                    cause = self.node.configuration.active().map(|active| active.cause());
                }
                Woken::Reported(link, Word::Four(report)) => {
                    self.heard.hear(&self.node, &link, report);
                }
                Woken::Reported(link, Word::Six(report)) => self.heard.hear6(&link, report),
            }
        }
    }

    /// How long there is nothing to be done by itself.
    fn wait(&self) -> Option<Duration> {
        let (lease, asked) = (self.heard.leases_until(), self.heard.asked_until());
        let (now, failed) = (now(), self.failures.again());
        // After a failure all is tried again soon; it may not have come as far as the tunnels, nor to what is due by now.
        let tunnels = self.tunnels.again().filter(|_| failed.is_none());
        let due = [lease, asked].into_iter().flatten();
        let due = due.filter(|due| failed.is_none() || *due > now);
        let next = due.chain(tunnels).chain(failed).min();
        next.map(|next| next.saturating_sub(now))
    }

    /// One pass over everything.
    fn pass(&mut self) {
        match self.reconcile() {
            errors if errors.is_empty() => self.failures = Failures::default(),
            errors => self.failures.take(&errors, now()),
        }
    }

    fn reconcile(&mut self) -> Vec<NetworkError> {
        let observed = match kernel::observe(&mut self.netlink, &mut self.first_mtu) {
            Ok(observed) => observed,
            Err(error) => return vec![NetworkError::Observe(error)],
        };
        let active = self.node.configuration.active();
        let config = active.as_ref().map(|active| &active.config);
        let given = fitted(&self.node, &observed);
        let wanted = Wanted { config, given: given.as_ref() };
        let generation = active.as_ref().map(|active| active.stored.number);
        if self.generation != generation {
            self.generation = generation;
            self.heard.forgive();
        }
        let before = Desired::derive(wanted, &self.heard.links, &observed.links);
        self.heard.settle(&before, &observed);
        let desired = Desired::derive(wanted, &self.heard.links, &observed.links);
        let mut errors = Vec::new();
        // Before the plan: no link is set up that rules are for and that has none yet. Where they can't be had, the machine can
        // be reached all the same.
        let links = &observed.links;
        match firewall::pass(&self.node, &mut self.netlink, &mut self.modules, wanted, links) {
            firewall::Outcome::Same => {}
            firewall::Outcome::Pending => return errors,
            firewall::Outcome::Failed(error) => errors.push(error),
        }
        // What others ask for and the kernel refuses is told, and tried again; no configuration is held against it.
        let mut of_others = Vec::new();
        let own = LazyCell::new(|| {
            plan(&Desired::derive(config, &BTreeMap::new(), &observed.links), &observed)
        });
        // Why links that the kernel should make are not there.
        let mut unmade = BTreeMap::new();
        let mut refused = Refused::new();
        // A change that was just made is looked at in the next pass, which the kernel's word of it brings.
        let mut done = true;
        for action in plan(&desired, &observed) {
            if let Action::MakeLink { form, .. } = &action
                && !self.modules.ready(form.module())
            {
                done = false;
                continue;
            }
            tracing::debug!(action = %action, "changing the network");
            let Err(error) = kernel::apply(&mut self.netlink, &action) else {
                done = false;
                continue;
            };
            let error = NetworkError::Apply(error);
            let is_own = own.contains(&action);
            match action {
                Action::MakeLink { name, .. } => {
                    unmade.insert(name, report::chain(&error));
                }
                Action::AddAddress { index, cidr } => {
                    refused.insert((index, cidr), report::chain(&error));
                }
                Action::AddRoute(route) => {
                    refused.insert((route.index, route.to), report::chain(&error));
                }
                _ => {}
            }
            if is_own {
                errors.push(error);
            } else {
                of_others.push(error);
            }
        }
        errors.extend(self.routers.pass(&mut self.netlink, &desired, &observed));
        errors.extend(self.acd.run(&observed, &self.heard.links).err());
        errors.extend(self.tunnels.pass(&self.node, &mut self.netlink, config, &observed, now()));
        if let Some(active) = &active {
            self.report(active, &desired, &observed, errors.first(), done);
        }
        errors.extend(of_others);
        let called = self.node.called.borrow().clone();
        let (hostname, origin) =
            names::hostname(config, called.as_ref(), &self.heard.links, &observed.links);
        // After the plan: an agent finds its link up.
        self.routers.run(&desired, &observed);
        self.agents.run(&agents::jobs(&desired, &observed.links, config));
        let resolver = names::resolver(wanted, &desired, &self.heard.links);
        let addresses = names::addresses(&observed);
        let others = config.map(MachineConfig::hosts).unwrap_or_default();
        errors.extend(self.files.write(&hostname, &resolver, &addresses, others));
        publish::hosts(&self.node, others);
        let mut links = status::status(&desired, &observed, &self.heard.links, &refused);
        self.times.tell(&mut links, now());
        let view = publish::View {
            desired: &desired,
            observed: &observed,
            dhcp: &self.heard.links,
            links: &links,
            unmade: &unmade,
        };
        publish::publish(&self.node, &view, (&hostname, origin));
        publish::name_servers(&self.node, generation, resolver);
        publish::identify(&self.node, hostname, addresses);
        publish::tell(&self.node.link_local, names::has_link_local(&observed));
        publish::name_time_servers(&self.node, names::time_servers(&desired, &self.heard.links));
        errors
    }

    /// Says whether the links are what a configuration says: all of it is `done`, or it can't be.
    fn report(
        &self,
        active: &Active,
        desired: &Desired,
        observed: &Observed,
        error: Option<&NetworkError>,
        done: bool,
    ) {
        let outcome = match error {
            Some(error) => Err(report::chain(error)),
            None if !done => return,
            None => match usable(desired, observed, &self.heard.links) {
                Usable::All => Ok(()),
                Usable::NotYet => return,
                Usable::Never { address, by } => {
                    let by = by.map(|by| format!(": {by}")).unwrap_or_default();
                    Err(format!("address {address}: another machine on the link has it{by}"))
                }
            },
        };
        self.node.convergence.report(Part::Network, active.stored.number, outcome);
    }
}

async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn now() -> Duration {
    clock::since_boot().unwrap_or_default()
}
