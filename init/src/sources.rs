// SPDX-License-Identifier: Apache-2.0
//! Where a machine without a saved configuration looks for one, in this order:
//!
//! 1. QEMU's fw_cfg, at `opt/stele/config`
//! 2. a drive that a platform's tools have made, by its label
//! 3. the metadata service of the platform, if that is one that has one, or its hypervisor, if that hands something over
//! 4. the URL in `stele.config=` on the kernel command line, or the folder in `ds=nocloud;s=` there or in the machine's serial number
//!
//! The first that is there decides: one that is there and is not valid is not passed over in silence. What was found is
//! the resource `Source`. Each source is one function from the node to bytes, which may be wrapped as clouds pass things
//! on, or say that the configuration is elsewhere.
//!
//! A machine with a saved configuration looks on drives and asks its platform only to hear whether it is another instance now
//! ([`instance`]): then it takes its configuration anew.

mod drives;
mod instance;
mod url;

use self::{
    drives::{About, Drive},
    url::Place,
};
use crate::{
    configuration::{self, AcceptError, Include, Intent, LARGEST, Refused, Unwrapped, UserData},
    network::given,
    node::Node,
    one_shot::{self, OneShotError},
    platform::{Here, METADATA, Said},
    report,
    store::Kind,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_kernel::process::Exit;

const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/stele/config/raw";
/// What a URL is called among the sources.
const URL: &str = "url";
/// How long a source in the network is tried before the machine takes a configuration from whoever brings one, too.
const PATIENCE: Duration = Duration::from_secs(30);
const URL_DEADLINE: Duration = Duration::from_secs(30);
/// The longest pause between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const OVERTAKEN: &str = "another configuration is in force meanwhile";

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("reading {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("mounting {}", device.display())]
    Mount { device: PathBuf, source: io::Error },
    #[error("{} has no file {files}", device.display())]
    NoFile { device: PathBuf, files: String },
    #[error("fetching {url}: {complaint}")]
    Fetch { url: String, complaint: String },
    #[error("looking for {url}: {complaint}")]
    Absent { url: String, complaint: String },
    #[error("fetching {url}")]
    Agent { url: String, source: OneShotError },
}

/// What `ctl get source` shows.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Absent,
    Used,
    Refused,
    Failed,
    Trying,
}

/// What became of what a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    InForce,
    /// It can't be, or not yet.
    Refused,
    /// There was nothing to be taken.
    Nothing,
}

/// What fw_cfg holds, if anything.
pub(crate) type FwCfg = Option<Result<UserData, AcceptError>>;

/// Reads fw_cfg. This needs no disk, so it is done while the disks are waited for; whether it counts is decided later.
pub(crate) async fn read_fw_cfg(node: Rc<Node>) -> FwCfg {
    if let Some(devices) = node.devices.get() {
        devices.coldplugged_but_storage().await;
    }
    match read(Path::new(FW_CFG)) {
        Ok(bytes) => Some(configuration::understand_user_data(&node, &bytes).await),
        Err(SourceError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            say(&node, "fw_cfg", State::Absent, "");
            None
        }
        Err(error) => {
            say(&node, "fw_cfg", State::Failed, &report::chain(&error));
            None
        }
    }
}

/// Looks everywhere, and puts the first configuration found in force.
pub(crate) async fn search(node: &Rc<Node>, fw_cfg: FwCfg, here: &Rc<Here>) {
    if let Some(understood) = fw_cfg
        && settle(node, "fw_cfg", understood, 0).await != Taken::Nothing
    {
        return learn(node, here);
    }
    for Drive { label, user_data, about, network } in look_at_drives(node, here).await {
        if let Some(About { form, bytes }) = network {
            given::take_file(node, form, &bytes).await;
        }
        let (id, _named) = instance::described(node, here, about, BTreeMap::new()).await;
        match user_data {
            Some(Ok(files)) => {
                match take(node, label, &files, 0).await {
                    Taken::Nothing => continue,
                    Taken::Refused => {}
                    Taken::InForce => instance::note(node, here, label, id).await,
                }
                return learn(node, here);
            }
            Some(Err(error)) => say(node, label, State::Failed, &report::chain(&error)),
            None => say(node, label, State::Absent, ""),
        }
    }
    let asked = Rc::clone(here);
    if in_time(node, async move |node| try_platform(&node, &asked).await).await == Some(true) {
        return;
    }
    let asked = Rc::clone(here);
    match url::given() {
        // After that it is tried on, beside maintenance mode.
        Some(place) => {
            let _elapsed =
                in_time(node, async move |node| try_url(&node, &asked, place).await).await;
        }
        None => say(node, URL, State::Absent, ""),
    }
}

async fn look_at_drives(node: &Node, here: &Here) -> Vec<Drive> {
    if let Some(devices) = node.devices.get() {
        devices.settled().await;
    }
    for module in ["isofs", "udf", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1"] {
        node.load_module(module).await;
    }
    // It fails only by panicking.
    let drives = tokio::task::spawn_blocking(drives::read_all).await.unwrap_or_default();
    let there = drives.iter().filter(|drive| drive.user_data.is_some());
    here.see_drives(node, there.map(|drive| drive.label.to_owned()).collect());
    drives
}

/// Does something for as long as it takes; waits for it for as long as there is patience.
async fn in_time<T: 'static>(
    node: &Rc<Node>,
    what: impl AsyncFnOnce(Rc<Node>) -> T + 'static,
) -> Option<T> {
    let background = Rc::clone(node);
    let trying = tokio::task::spawn_local(async move { what(background).await });
    tokio::time::timeout(PATIENCE, trying).await.ok()?.ok()
}

/// Asks the platform what it knows of a machine that has its configuration from elsewhere.
fn learn(node: &Rc<Node>, here: &Rc<Here>) {
    if let Some(source) = here.source() {
        let (node, here) = (Rc::clone(node), Rc::clone(here));
        tokio::task::spawn_local(async move {
            if let Ok(said) = here.ask(&node).await {
                instance::note(&node, &here, source, said.instance).await;
            }
        });
    }
}

/// Listens whether a machine with a saved configuration is another instance now.
pub(crate) fn revisit(node: &Rc<Node>, here: &Rc<Here>) {
    let (node, here) = (Rc::clone(node), Rc::clone(here));
    tokio::task::spawn_local(async move { instance::revisit(&node, &here).await });
}

/// Takes the user-data that the platform itself hands over. False if there is none.
async fn try_platform(node: &Rc<Node>, here: &Here) -> bool {
    let Some(source) = here.source() else {
        say(node, METADATA, State::Absent, "");
        return false;
    };
    say(node, source, State::Trying, "");
    let Said { instance, user_data, .. } = match here.ask(node).await {
        Ok(said) => said,
        Err(reason) => {
            say(node, source, State::Failed, &reason);
            return false;
        }
    };
    if user_data.is_empty() {
        say(node, source, State::Absent, "the platform has no user-data for this machine");
        return false;
    }
    match take(node, source, &user_data, 0).await {
        Taken::Nothing => return false,
        Taken::Refused => {}
        Taken::InForce => {
            instance::note(node, here, source, instance).await;
            here.forget_user_data(node, source).await;
        }
    }
    true
}

/// Understands what a source has, the first of its files that is neither empty nor for others, and puts it in force in place of
/// the generation `base`, or as the first. Whose user-data is for others has nothing for us; what others leave beside none is
/// nobody's wish.
async fn take(node: &Rc<Node>, name: &str, files: &[Vec<u8>], base: u64) -> Taken {
    let mut left = None;
    for (index, bytes) in files.iter().enumerate() {
        match configuration::understand_user_data(node, bytes).await {
            Ok(UserData::Nothing) => {}
            Ok(UserData::Foreign(reason)) => {
                tracing::info!(
                    source = name,
                    reason = report::chain(&reason),
                    "user-data for others is left alone"
                );
                left = left.or(Some(reason).filter(|_| index == 0));
            }
            found => return settle(node, name, found, base).await,
        }
    }
    let found = left.map_or(UserData::Nothing, UserData::Foreign);
    settle(node, name, Ok(found), base).await
}

/// Puts what was found in force, wherever it is in the end.
async fn settle(
    node: &Rc<Node>,
    name: &str,
    found: Result<UserData, AcceptError>,
    base: u64,
) -> Taken {
    match found {
        Ok(UserData::Nothing) => {
            say(node, name, State::Absent, "its user-data is empty");
            Taken::Nothing
        }
        Ok(UserData::Here(unwrapped)) => put_in_force(node, name, *unwrapped, base).await,
        Ok(UserData::Elsewhere(include)) => {
            let name = name.to_owned();
            // After that it is tried on, beside maintenance mode.
            let followed =
                in_time(node, async move |node| follow(&node, &name, &include, base).await).await;
            followed.unwrap_or(Taken::Refused)
        }
        Ok(UserData::Foreign(error)) | Err(error) => refuse(node, name, &error),
    }
}

/// Fetches what user-data includes, until it is there.
async fn follow(node: &Rc<Node>, name: &str, include: &Include, base: u64) -> Taken {
    let fetched = fetch_at_last(node, name, || include.url.clone());
    let Some(bytes) = unless_configured(node, name, base, fetched).await else {
        return Taken::Refused;
    };
    match configuration::understand_included(node, &bytes, &include.sha256).await {
        Ok(unwrapped) => put_in_force(node, name, unwrapped, base).await,
        Err(error) => refuse(node, name, &error),
    }
}

async fn put_in_force(
    node: &Rc<Node>,
    name: &str,
    Unwrapped { understood, left }: Unwrapped,
    base: u64,
) -> Taken {
    if generation(node) != base {
        say(node, name, State::Refused, OVERTAKEN);
        return Taken::Refused;
    }
    let intent = Intent::of_source(name, base);
    let mut accepted =
        node.configuration.accept_understood(node, understood.clone(), &intent).await;
    if matches!(accepted, Err(AcceptError::Refused(Refused::NeedsRestart { .. }))) {
        let intent = intent.with_restart();
        accepted = node.configuration.accept_understood(node, understood, &intent).await;
    }
    match accepted {
        Ok(_) => {
            say(node, name, State::Used, &left);
            Taken::InForce
        }
        Err(error) => refuse(node, name, &error),
    }
}

/// The generation in force; 0 for none.
fn generation(node: &Node) -> u64 {
    node.configuration.active().map_or(0, |active| active.stored.number)
}

/// What comes by the network, if it comes before somebody brings another configuration than the generation `base`: after that it
/// has no say over the machine.
async fn unless_configured<T>(
    node: &Node,
    name: &str,
    base: u64,
    coming: impl Future<Output = T>,
) -> Option<T> {
    let mut active = node.configuration.subscribe();
    let overtaken =
        active.wait_for(|active| active.as_ref().is_some_and(|active| active.stored.number > base));
    tokio::select! {
        biased;
        () = async { drop(overtaken.await) } => {
            say(node, name, State::Refused, OVERTAKEN);
            None
        }
        come = coming => Some(come),
    }
}

fn refuse(node: &Node, name: &str, error: &AcceptError) -> Taken {
    let reason = report::chain(error);
    for line in reason.lines().take(8) {
        tracing::error!(source = name, "{line}");
    }
    say(node, name, State::Refused, &reason);
    Taken::Refused
}

fn say(node: &Node, name: &str, state: State, reason: &str) {
    #[derive(Serialize)]
    struct Status<'a> {
        state: State,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
    }
    if matches!(state, State::Failed) {
        tracing::warn!(source = name, reason, "a source of configuration failed");
    }
    node.store.put(Kind::Source, name, &Status { state, reason });
}

fn read(file: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed tells too much from just enough.
    let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

async fn try_url(node: &Rc<Node>, here: &Here, place: Place) {
    match place {
        Place::File(template) => {
            let fetched = fetch_at_last(node, URL, || url::fill(node, &template));
            if let Some(bytes) = unless_configured(node, URL, 0, fetched).await {
                take(node, URL, &[bytes], 0).await;
            }
        }
        Place::Folder(folder, attributes) => {
            let read = read_folder(node, here, &folder, attributes, 0).await;
            let Some(Said { instance, user_data, .. }) = read else { return };
            if take(node, URL, &user_data, 0).await == Taken::InForce {
                instance::note(node, here, URL, instance).await;
            }
        }
    }
}

/// Takes what is in a folder of NoCloud's, in place of the generation `base`; nothing once there is a later one. Its user-data
/// has to be there; the others may be.
async fn read_folder(
    node: &Rc<Node>,
    here: &Here,
    folder: &str,
    attributes: BTreeMap<String, String>,
    base: u64,
) -> Option<Said> {
    let at = |file: &str| format!("{}/{file}", url::fill(node, folder));
    let fetched = async {
        let user_data = fetch_at_last(node, URL, || at("user-data")).await;
        let vendor_data = fetch_if_there(node, URL, || at("vendor-data")).await;
        let about = fetch_if_there(node, URL, || at("meta-data")).await;
        let network = fetch_if_there(node, URL, || at("network-config")).await;
        (user_data, vendor_data, about, network)
    };
    let (user_data, vendor_data, about, network) =
        unless_configured(node, URL, base, fetched).await?;
    let describes_network = network.is_some();
    if let Some(bytes) = network {
        given::take_file(node, "nocloud", &bytes).await;
    }
    let about = about.map(|bytes| About { form: "nocloud", bytes });
    let (instance, names_machine) = instance::described(node, here, about, attributes).await;
    let user_data = [user_data].into_iter().chain(vendor_data).collect();
    Some(Said { instance, describes_network, names_machine, user_data })
}

/// Fetches until there is something, waiting longer each time.
async fn fetch_at_last(node: &Rc<Node>, name: &str, url: impl Fn() -> String) -> Vec<u8> {
    node.ask_until_answered(LONGEST_WAIT, async || {
        let url = url();
        say(node, name, State::Trying, &url);
        let fetched = fetch(node, &url).await;
        fetched.inspect_err(|error| say(node, name, State::Failed, &report::chain(error))).ok()
    })
    .await
}

/// The same of what need not be there.
async fn fetch_if_there(node: &Rc<Node>, name: &str, url: impl Fn() -> String) -> Option<Vec<u8>> {
    node.ask_until_answered(LONGEST_WAIT, async || {
        let url = url();
        say(node, name, State::Trying, &url);
        match fetch(node, &url).await {
            Ok(bytes) => Some(Some(bytes)),
            Err(SourceError::Absent { .. }) => Some(None),
            Err(error) => {
                say(node, name, State::Failed, &report::chain(&error));
                None
            }
        }
    })
    .await
}

async fn fetch(node: &Rc<Node>, url: &str) -> Result<Vec<u8>, SourceError> {
    let arguments = [url.to_owned(), "--max".to_owned(), LARGEST.to_string()];
    let background = Rc::clone(node);
    // It comes to its end in order, also when nobody waits for it any more.
    let fetching = tokio::task::spawn_local(async move {
        one_shot::run(&background, "fetch", &arguments, &[], LARGEST, URL_DEADLINE).await
    });
    let output = fetching
        .await
        // It fails only by panicking.
        .unwrap_or_else(|error| {
            Err(OneShotError::Talk { name: "fetch".to_owned(), source: error.into() })
        })
        .map_err(|source| SourceError::Agent { url: url.to_owned(), source })?;
    match output.exit {
        Exit::Code(0) => Ok(output.stdout),
        Exit::Code(3) => {
            Err(SourceError::Absent { url: url.to_owned(), complaint: output.complaint })
        }
        exit => {
            let complaint =
                if output.complaint.is_empty() { exit.to_string() } else { output.complaint };
            Err(SourceError::Fetch { url: url.to_owned(), complaint })
        }
    }
}
