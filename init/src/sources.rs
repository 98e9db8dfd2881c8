// SPDX-License-Identifier: Apache-2.0
//! Where a machine without a saved configuration looks for one, in this order:
//!
//! 1. QEMU's fw_cfg, at `opt/stele/config`
//! 2. a drive labelled `cidata` (NoCloud), its file `user-data`
//! 3. the URL in `stele.config=` on the kernel command line
//!
//! The first that is there decides: one that is there and is not valid is not passed over in silence. What was found is
//! the resource `Source`. Each source is one function from the node to bytes; further platforms are further functions.

use crate::{
    configuration::{self, AcceptError, Intent, LARGEST, Understood},
    node::Node,
    one_shot, report,
    store::Kind,
};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_kernel::{
    mount::{self, Forbid},
    process::Exit,
};

const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/stele/config/raw";
const SEED_MOUNT: &str = "/run/stele/cidata";
/// How long the URL is tried before the machine takes a configuration from whoever brings one, too.
const URL_PATIENCE: Duration = Duration::from_secs(30);
const URL_DEADLINE: Duration = Duration::from_secs(30);

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("reading {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("mounting {}", device.display())]
    Mount { device: PathBuf, source: io::Error },
    #[error("fetching {url}: {complaint}")]
    Fetch { url: String, complaint: String },
    #[error("fetching {url}")]
    Agent { url: String, source: one_shot::OneShotError },
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

/// What fw_cfg holds, if anything.
pub(crate) type FwCfg = Option<Result<Understood, AcceptError>>;

/// Reads fw_cfg. This needs no disk, so it is done while the disks are waited for; whether it counts is decided later.
pub(crate) async fn read_fw_cfg(node: Rc<Node>) -> FwCfg {
    if let Some(devices) = node.devices.get() {
        devices.coldplugged_but_storage().await;
    }
    match read(Path::new(FW_CFG)) {
        Ok(documents) => Some(configuration::understand(&node, &documents).await),
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
pub(crate) async fn search(node: &Rc<Node>, fw_cfg: FwCfg) {
    match fw_cfg {
        Some(Ok(understood)) => {
            let intent = Intent::of_source("fw_cfg");
            let accepted = node.configuration.accept_understood(node, understood, &intent).await;
            return conclude(node, "fw_cfg", accepted.map(drop));
        }
        Some(Err(error)) => return conclude(node, "fw_cfg", Err(error)),
        None => {}
    }
    if let Some(devices) = node.devices.get() {
        devices.settled().await;
    }
    for module in ["isofs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1"] {
        node.load_module(module).await;
    }
    match tokio::task::spawn_blocking(read_cidata).await {
        Ok(Some(Ok(documents))) => return take(node, "cidata", &documents).await,
        Ok(Some(Err(error))) => say(node, "cidata", State::Failed, &report::chain(&error)),
        Ok(None) => say(node, "cidata", State::Absent, ""),
        Err(error) => say(node, "cidata", State::Failed, &error.to_string()),
    }
    if let Some(url) = url() {
        let background = Rc::clone(node);
        let trying = tokio::task::spawn_local(async move { try_url(&background, &url).await });
        // After that it is tried on, beside maintenance mode.
        let _patience_is_over = tokio::time::timeout(URL_PATIENCE, trying).await;
    } else {
        say(node, "url", State::Absent, "");
    }
}

async fn take(node: &Rc<Node>, name: &str, documents: &[u8]) {
    let intent = Intent::of_source(name);
    conclude(node, name, node.configuration.accept(node, documents, &intent).await.map(drop));
}

fn conclude(node: &Node, name: &str, accepted: Result<(), AcceptError>) {
    match accepted {
        Ok(()) => say(node, name, State::Used, ""),
        Err(error) => refuse(node, name, &error),
    }
}

fn refuse(node: &Node, name: &str, error: &AcceptError) {
    let reason = report::chain(error);
    for line in reason.lines().take(8) {
        tracing::error!(source = name, "{line}");
    }
    say(node, name, State::Refused, &reason);
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

/// The URL on the kernel command line.
fn url() -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    line.split_whitespace().find_map(|word| word.strip_prefix("stele.config=")).map(str::to_owned)
}

/// Fetches until there is something, waiting longer each time.
async fn try_url(node: &Rc<Node>, url: &str) {
    let mut wait = Duration::from_millis(500);
    while node.configuration.active().is_none() {
        let mut identity = node.identity.subscribe();
        // The machine does not go away; without an address there is nobody to ask.
        let _never_closed = identity.wait_for(|identity| !identity.addresses.is_empty()).await;
        say(node, "url", State::Trying, url);
        match fetch(node, url).await {
            Ok(documents) => return take(node, "url", &documents).await,
            Err(error) => say(node, "url", State::Failed, &report::chain(&error)),
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(Duration::from_secs(30));
    }
}

async fn fetch(node: &Node, url: &str) -> Result<Vec<u8>, SourceError> {
    let arguments = [url.to_owned(), "--max".to_owned(), LARGEST.to_string()];
    let output = one_shot::run(node, "fetch", &arguments, &[], LARGEST, URL_DEADLINE)
        .await
        .map_err(|source| SourceError::Agent { url: url.to_owned(), source })?;
    match output.exit {
        Exit::Code(0) => Ok(output.stdout),
        exit => {
            let complaint =
                if output.complaint.is_empty() { exit.to_string() } else { output.complaint };
            Err(SourceError::Fetch { url: url.to_owned(), complaint })
        }
    }
}

/// Reads `user-data` from the drive labelled cidata, if there is one.
fn read_cidata() -> Option<Result<Vec<u8>, SourceError>> {
    let (device, fstype) = fs::read_dir("/sys/class/block").ok()?.flatten().find_map(|entry| {
        let device = Path::new("/dev").join(entry.file_name());
        label_says_cidata(&device).map(|fstype| (device, fstype))
    })?;
    Some(read_seed(&device, fstype))
}

fn read_seed(device: &Path, fstype: &str) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Mount { device: device.to_owned(), source };
    fs::create_dir_all(SEED_MOUNT).map_err(failed)?;
    mount::mount(&device.to_string_lossy(), Path::new(SEED_MOUNT), fstype, Forbid::READ_ONLY, "")
        .map_err(failed)?;
    let documents = read(&Path::new(SEED_MOUNT).join("user-data"));
    if let Err(error) = mount::unmount(Path::new(SEED_MOUNT), true) {
        tracing::warn!(error = %error, "unmounting the cidata drive failed");
    }
    documents
}

/// The type of the file system on a device whose volume label is cidata, in any case.
fn label_says_cidata(device: &Path) -> Option<&'static str> {
    let mut file = File::open(device).ok()?;
    // ISO 9660: the volume identifier of the primary descriptor (ECMA-119, 8.4). FAT32 and FAT16: BS_VolLab, checked
    // by BS_FilSysType behind it.
    for (at, fstype, magic_at, magic) in [
        (0x8028, "iso9660", 0x8001, &b"CD001"[..]),
        (0x47, "vfat", 0x52, b"FAT32"),
        (0x2b, "vfat", 0x36, b"FAT1"),
    ] {
        let matches = read_at(&mut file, magic_at, magic.len()).is_some_and(|found| found == magic)
            && read_at(&mut file, at, 6).is_some_and(|label| label.eq_ignore_ascii_case(b"cidata"));
        if matches {
            return Some(fstype);
        }
    }
    None
}

fn read_at(file: &mut File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
