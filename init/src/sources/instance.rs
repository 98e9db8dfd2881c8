// SPDX-License-Identifier: Apache-2.0
//! Which instance of its platform the machine is, as it is kept in `/state/instance.json`; what that means is decided in
//! `stele_machine::instance`.
//!
//! A machine that is another instance than the one that got the saved configuration takes its configuration anew, as on its
//! first boot, from the user-data. The saved one stays in force until then, and stays for good if there is no user-data or none
//! that is valid; it is kept as a generation in any case. Nothing else on the disk changes.
//!
//! Hardware of one's own is no instance of anything: there, a drive that somebody puts in has no say over a machine that is
//! someone's.

use super::{
    State, Taken, URL,
    drives::{About, Drive},
    generation, look_at_drives, read_folder, say, take,
    url::{self, Place},
};
use crate::{
    configuration,
    network::{called, given},
    node::Node,
    platform::{Here, INSTANCE, Said},
    report, state,
};
use std::{collections::BTreeMap, rc::Rc};
use stele_machine::{
    boots::Start,
    instance::{self, Instance, Verdict},
};

/// What becomes of a machine that is another instance, and is told nothing.
const KEPT: &str = "this instance has no user-data: the saved configuration stays, and with it whose machine this is";

/// Keeps which instance the machine is that has its configuration from here.
pub(super) async fn note(node: &Node, here: &Here, source: &str, id: Option<String>) {
    if let Some(now) = instance(here, source, id) {
        keep(node, &read().await, [now]).await;
    }
}

/// Takes what a file says of the machine, and what is said besides, which goes before. Returns which instance this is by that,
/// and whether it has a name.
pub(super) async fn described(
    node: &Node,
    here: &Here,
    about: Option<About>,
    besides: BTreeMap<String, String>,
) -> (Option<String>, bool) {
    let mut attributes = BTreeMap::new();
    if let Some(About { form, bytes }) = about {
        match configuration::understand_attributes(node, form, &bytes).await {
            Ok(understood) => attributes = understood,
            Err(error) => {
                let error = report::chain(&error);
                tracing::warn!(error, form, "what a platform says of the machine can't be read");
            }
        }
    }
    attributes.extend(besides);
    let id = attributes.get(INSTANCE).cloned();
    (id, here.take(node, attributes).await)
}

/// Listens whether a machine with a saved configuration is another instance now. As on a first boot, a drive comes first, and who
/// has no user-data leaves it to the URL, if the firmware says with it which instance this is.
pub(super) async fn revisit(node: &Rc<Node>, here: &Here) {
    if !here.is_known() {
        return;
    }
    let drive_decides = revisit_drives(node, here).await;
    // What it says of the network and the name counts in any case.
    let heard = match here.source() {
        Some(source) => here.ask(node).await.ok().map(|said| (source, said)),
        None => None,
    };
    if drive_decides {
        return;
    }
    let has_user_data = heard.as_ref().is_some_and(|(_, said)| !said.user_data.is_empty());
    match (heard, told_beside_folder()) {
        (heard, Some(told)) if !has_user_data => revisit_folder(node, here, told, heard).await,
        (Some((source, said)), _) => consider(node, here, source, said, None).await,
        (None, _) => {}
    }
}

/// Returns whether there is a drive that decides.
async fn revisit_drives(node: &Rc<Node>, here: &Here) -> bool {
    let drives = look_at_drives(node, here).await;
    let found = drives.into_iter().find_map(|drive| match drive {
        Drive { label, user_data: Some(Ok(files)), about, network } => {
            Some((label, files, about, network))
        }
        Drive { .. } => None,
    });
    let Some((label, user_data, about, network)) = found else { return false };
    let describes_network = network.is_some();
    if let Some(About { form, bytes }) = network {
        given::take_file(node, form, &bytes).await;
    }
    let (instance, names_machine) = described(node, here, about, BTreeMap::new()).await;
    let said = Said { instance, describes_network, names_machine, user_data };
    consider(node, here, label, said, None).await;
    true
}

/// The firmware says which instance this is. What is in the folder could say so as well, but it comes by the network, which has no
/// say over a machine that is someone's.
async fn revisit_folder(
    node: &Rc<Node>,
    here: &Here,
    (folder, told): (String, BTreeMap<String, String>),
    heard: Option<(&'static str, Said)>,
) {
    let Some(now) = instance(here, URL, told.get(INSTANCE).cloned()) else { return };
    let (source, heard) = heard.unwrap_or_default();
    let before = instance(here, source, heard.instance);
    let (kept, base) = (read().await, generation(node));
    let mut said = match instance::judge_behind(&kept, before.as_ref(), &now) {
        Verdict::Another(_) => match read_folder(node, here, &folder, told, base).await {
            Some(said) => said,
            // Somebody has configured the machine since it is this instance.
            None => return keep(node, &kept, before.into_iter().chain([now])).await,
        },
        Verdict::Same | Verdict::Unheard => {
            let names_machine = here.take(node, told).await;
            Said { instance: Some(now.id), names_machine, ..Said::default() }
        }
    };
    said.describes_network |= heard.describes_network;
    said.names_machine |= heard.names_machine;
    consider(node, here, URL, said, before).await;
}

fn instance(here: &Here, source: &str, id: Option<String>) -> Option<Instance> {
    let (platform, source) = (here.name().to_owned(), source.to_owned());
    let id = id.filter(|_| here.is_known())?;
    let assumed = match source.as_str() {
        // A folder is read once; what is told beside it comes with every start.
        URL => told_beside_folder().is_none(),
        _ => here.assumed().as_ref() == Some(&id),
    };
    let firmware = here.firmware_beside(&source);
    Some(Instance { platform, source, id, assumed, firmware })
}

/// The folder of NoCloud's, with what is told beside it, where that says which instance this is.
fn told_beside_folder() -> Option<(String, BTreeMap<String, String>)> {
    match url::given()? {
        Place::Folder(folder, told) => told.contains_key(INSTANCE).then_some((folder, told)),
        Place::File(_) => None,
    }
}

/// Takes what another instance has for its configuration. `before` is who was asked before this source, and has no user-data.
async fn consider(
    node: &Rc<Node>,
    here: &Here,
    source: &str,
    said: Said,
    before: Option<Instance>,
) {
    let Some(now) = instance(here, source, said.instance) else { return };
    let kept = read().await;
    let verdict = instance::judge_behind(&kept, before.as_ref(), &now);
    let ids = before.into_iter().chain([now.clone()]);
    let was = match verdict {
        Verdict::Same | Verdict::Unheard => return keep(node, &kept, ids).await,
        Verdict::Another(was) => was,
    };
    tracing::warn!(
        target: report::CONSOLE,
        before = was,
        now = now.id,
        "this machine is another instance now: it takes its configuration anew"
    );
    if node.boots.started() != Start::Ordinary || !node.configuration.is_settled() {
        // The next start looks again.
        return say(
            node,
            source,
            State::Failed,
            "the running image or configuration has something to prove first",
        );
    }
    if !said.describes_network {
        given::forget(node).await;
    }
    if !said.names_machine {
        called::forget(node).await;
    }
    let taken = match said.user_data.as_slice() {
        [] => Taken::Nothing,
        files => take(node, source, files, generation(node)).await,
    };
    match taken {
        Taken::InForce => {
            keep(node, &kept, ids).await;
            here.forget_user_data(node, source).await;
        }
        // The next start tries again.
        Taken::Refused => {}
        Taken::Nothing => {
            tracing::warn!(target: report::CONSOLE, "{KEPT}");
            say(node, source, State::Absent, KEPT);
            keep(node, &kept, ids).await;
        }
    }
}

async fn read() -> Vec<Instance> {
    // It fails only by panicking.
    match tokio::task::spawn_blocking(state::read_instances).await {
        Ok(Ok(kept)) => kept,
        Ok(Err(error)) => {
            let error = report::chain(&error);
            tracing::error!(error, "which instance this machine was is lost");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

async fn keep(node: &Node, kept: &[Instance], now: impl IntoIterator<Item = Instance>) {
    if !node.state.get().is_some_and(|state| state.persistent) {
        return;
    }
    let new = now.into_iter().fold(kept.to_vec(), |kept, now| instance::keep(&kept, now));
    if new == kept {
        return;
    }
    let written = tokio::task::spawn_blocking(move || state::write_instances(&new)).await;
    if let Ok(Err(error)) = written {
        let error = report::chain(&error);
        tracing::error!(error, "keeping which instance this machine is failed");
    }
}
