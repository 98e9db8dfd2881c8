// SPDX-License-Identifier: Apache-2.0
//! What others than the configuration say of the network: the kernel command line, or else the platform, kept in
//! `/state/network.json` so that a start needs no platform, with the links that it means in `/state/links.json`.

use super::{
    arguments::{self, Read},
    kernel,
    publish::tell,
};
use crate::{configuration, node::Node, report, state};
use std::{collections::BTreeMap, fs, path::PathBuf, rc::Rc, time::Duration};
use stele_config::{NetworkDocuments, canonical};
use stele_kernel::net::{NetError, Netlink};
use stele_machine::network::given::{Fits, Given, Giver};
use tokio::time::Instant;

/// How long cards may take to be there, and how often they are looked for.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

fn file() -> PathBuf {
    PathBuf::from(state::ROOT).join("network.json")
}

fn fits_file() -> PathBuf {
    PathBuf::from(state::ROOT).join("links.json")
}

/// What the kernel command line says.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    documents: NetworkDocuments,
    /// Whether it says how links are set up, if only that all of them get DHCP.
    sets_links: bool,
    /// The machine's name.
    pub(super) hostname: Option<String>,
}

/// Takes up what the command line says, and what an earlier start was given, once the cards are there of which they speak.
pub(super) async fn restore(node: &Node) {
    let persistent = node.state.get().is_some_and(|state| state.persistent);
    let kept = if persistent { fs::read(file()).ok() } else { None };
    if kept.is_some() && fits_file().exists() {
        match state::read_json(&fits_file()) {
            Ok(kept) => *node.fits.borrow_mut() = Fits::restored(&kept),
            Err(error) => tracing::warn!(
                error = report::chain(&error),
                "which links the platform means is decided anew"
            ),
        }
    }
    wait_for_cards(node).await;
    node.given.send_replace(chosen(node, kept.and_then(|kept| understood(&kept, "the platform"))));
}

/// Drivers look at their devices beside everything else, and some take seconds. A card that is late must not lose its name to
/// another one, nor what the command line says of the only card.
async fn wait_for_cards(node: &Node) {
    let any = crate::arguments::given("ip=").is_some();
    if !any && node.fits.borrow().are_here(&[]) {
        return;
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let Ok(observed) = kernel::observe(&mut Netlink::new(), &mut BTreeMap::new()) else {
            return;
        };
        let here = node.fits.borrow().are_here(&observed.links);
        if here && (!any || observed.links.iter().any(|link| link.physical)) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::warn!("cards of the last start are gone, or there is none at all");
}

/// Whoever wrote links on the command line wants those and no others; servers of names alone are asked beside what the platform
/// says.
fn chosen(node: &Node, platform: Option<NetworkDocuments>) -> Option<Rc<Given>> {
    let CommandLine { documents, sets_links, .. } = command_line(node);
    if *sets_links {
        return Some(Rc::new(Given { by: Giver::CommandLine, documents: documents.clone() }));
    }
    if platform.is_none() && documents.resolver().is_none() {
        return None;
    }
    let documents = platform.unwrap_or_default().resolving_by(documents);
    Some(Rc::new(Given { by: Giver::Platform, documents }))
}

/// Takes what a platform says of the network, as a JSON array of documents; an empty one says nothing.
pub(crate) async fn take(node: &Node, documents: Vec<u8>) {
    let Some(given) = understood(&documents, "the platform") else { return };
    if given == NetworkDocuments::default() {
        return;
    }
    if node.state.get().is_some_and(|state| state.persistent) {
        let written =
            tokio::task::spawn_blocking(move || state::write_anew(&file(), &documents)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(error = %error, "keeping what the platform says of the network failed");
        }
    }
    let chosen = chosen(node, Some(given));
    if chosen.as_ref().is_some_and(|chosen| chosen.by == Giver::CommandLine) {
        tracing::warn!("links are as the kernel command line says, whatever the platform does");
    }
    tell(&node.given, chosen);
}

/// The same of a file of the platform's, in a form that the configure agent reads.
pub(crate) async fn take_file(node: &Node, form: &str, bytes: &[u8]) {
    match configuration::understand_network(node, form, bytes).await {
        Ok(documents) => take(node, documents).await,
        Err(error) => {
            let error = report::chain(&error);
            tracing::error!(error, "what the platform says of the network can't be read");
        }
    }
}

/// Forgets what a platform has said of the network of another instance.
pub(crate) async fn forget(node: &Node) {
    if node.state.get().is_some_and(|state| state.persistent) {
        let removed = tokio::task::spawn_blocking(|| state::remove(&file())).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(error = %error, "forgetting what the platform said of the network failed");
        }
    }
    node.given.send_replace(chosen(node, None));
}

/// Keeps which links the platform means, if that is news.
pub(super) async fn keep_fits(node: &Node) {
    let Some(kept) = node.fits.borrow_mut().to_be_kept() else { return };
    if node.state.get().is_some_and(|state| state.persistent) {
        let written = tokio::task::spawn_blocking(move || state::write_json(&fits_file(), &kept));
        if let Ok(Err(error)) = written.await {
            let error = report::chain(&error);
            tracing::error!(error, "keeping which links the platform means failed");
        }
    }
}

/// What the command line says. It is read once, and what is wrong with it told once.
pub(super) fn command_line(node: &Node) -> &CommandLine {
    node.command_line.get_or_init(|| {
        let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let physical = physical().unwrap_or_else(|error| {
            let error = report::chain(&error);
            tracing::warn!(error, "which links the command line can mean is not known");
            Vec::new()
        });
        let Read { documents, by_dhcp, hostname, complaints } = arguments::read(&line, &physical);
        for complaint in complaints {
            tracing::error!(target: report::CONSOLE, "{complaint}");
        }
        let bytes = serde_json::to_vec(&documents).unwrap_or_default();
        let said = !documents.is_empty();
        let documents = said.then(|| understood(&bytes, "the kernel command line")).flatten();
        let documents = documents.unwrap_or_default();
        let sets_links = by_dhcp || !documents.links().is_empty();
        CommandLine { sets_links, documents, hostname }
    })
}

/// The links with a device behind them.
fn physical() -> Result<Vec<String>, NetError> {
    let observed = kernel::observe(&mut Netlink::new(), &mut BTreeMap::new())?;
    let physical = observed.links.into_iter().filter(|link| link.physical);
    Ok(physical.map(|link| link.name).collect())
}

fn understood(bytes: &[u8], by: &'static str) -> Option<NetworkDocuments> {
    match canonical::read_network(bytes) {
        Ok(documents) => {
            let links = documents.links().len();
            tracing::info!(by, links, "the network is described by others than the configuration");
            Some(documents)
        }
        Err(findings) => {
            let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
            let findings = findings.join("; ");
            tracing::error!(target: report::CONSOLE, by, findings, "a description of the network can't be followed");
            None
        }
    }
}
