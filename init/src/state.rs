// SPDX-License-Identifier: Apache-2.0
//! What a machine keeps in `/state`: its configuration's generations, its boots, its random seed.
//!
//! ```text
//! /state/boot                 the number of the last boot
//! /state/boots/N.json         what is known of each boot
//! /state/identity.json        who the node is, for when no configuration can be read
//! /state/images.json          what is remembered of the images
//! /state/instance.json        what the platform calls the machine
//! /state/wireguard/NAME.key    the private keys that the machine made for its tunnels
//! /state/seed                 random bytes for the next boot
//! /state/generations/N.json   every accepted configuration
//! /state/clock.json          the last time that the machine knew, and the last that was proven to it
//! /state/network.json         what the platform says of the network
//! /state/links.json           which links it means
//! /state/hostname             the name that the platform has for the machine
//! /state/probation.json       the one that is not the machine's own yet
//! ```
//!
//! Every file is written beside its name, synced, and renamed over it: a power cut leaves the old one or the new one.

use crate::configuration::Withdrawn;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use stele_config::WireGuardSecret;
use stele_kernel::random;
use stele_machine::{instance::Instance, probation::Probation};

/// Where it is mounted.
pub(crate) const ROOT: &str = "/state";
/// Generations that are kept.
const GENERATIONS_KEPT: usize = 20;
/// The largest file that is read back.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("reading {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("understanding {}", file.display())]
    Parse { file: PathBuf, source: serde_json::Error },
    #[error("writing {}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("{}: its digest is not the one it was written with", file.display())]
    Digest { file: PathBuf },
}

/// One accepted configuration, as it lies on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stored {
    pub(crate) number: u64,
    /// SHA-256 of the canonical documents.
    pub(crate) sha256: String,
    /// Seconds since the epoch.
    pub(crate) time: i64,
    /// Who brought it: a certificate's subject and serial number, or a source.
    pub(crate) author: String,
    pub(crate) serial: String,
    /// The request that brought it, as in the audit log.
    pub(crate) request: String,
    /// The version of the image that accepted it.
    pub(crate) image: String,
    /// Why it is not the machine's own, when it could not stay.
    pub(crate) withdrawn: Option<Withdrawn>,
    /// The canonical documents.
    pub(crate) documents: String,
}

/// The state of this boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// The number of this boot; 0 on a machine that keeps none.
    pub(crate) boot: u64,
    /// Whether what is written here is there after a restart.
    pub(crate) persistent: bool,
}

impl State {
    /// Begins a boot: keeps its number, and turns the seed of the last one into entropy.
    pub(crate) fn begin(persistent: bool, boot: u64) -> State {
        if persistent {
            if let Err(error) = write(&boot_file(), boot.to_string().as_bytes()) {
                tracing::error!(error = %error, "counting this boot failed");
            }
            if let Err(error) = use_seed() {
                tracing::warn!(error = %error, "using the saved random seed failed");
            }
        }
        State { boot, persistent }
    }
}

fn boot_file() -> PathBuf {
    Path::new(ROOT).join("boot")
}

/// The number of the last boot.
pub(crate) fn last_boot() -> u64 {
    fs::read_to_string(boot_file()).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Credits the saved seed, once: it is replaced before it is used, so that no two boots use the same.
fn use_seed() -> io::Result<()> {
    let file = Path::new(ROOT).join("seed");
    let mut seed = [0; random::SEED_BYTES];
    let found = match File::open(&file) {
        Ok(mut open) => open.read_exact(&mut seed).is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if found {
        fs::remove_file(&file)?;
        File::open(ROOT)?.sync_all()?;
        random::credit(seed)?;
    }
    Ok(())
}

/// Saves a seed for the next boot.
pub(crate) fn save_seed() -> io::Result<()> {
    let mut seed = [0; random::SEED_BYTES];
    random::fill(&mut seed)?;
    write(&Path::new(ROOT).join("seed"), &seed)
}

fn generations() -> PathBuf {
    Path::new(ROOT).join("generations")
}

fn file_of(number: u64) -> PathBuf {
    generations().join(format!("{number}.json"))
}

/// Every generation there is, oldest first, the unreadable ones as errors.
pub(crate) fn read_generations() -> Vec<(u64, Result<Stored, StateError>)> {
    numbers().into_iter().map(|number| (number, read_generation(number))).collect()
}

/// One generation.
pub(crate) fn read_generation(number: u64) -> Result<Stored, StateError> {
    let file = file_of(number);
    let stored: Stored = read_json(&file)?;
    if stored.sha256 != sha256(stored.documents.as_bytes()) || stored.number != number {
        return Err(StateError::Digest { file });
    }
    Ok(stored)
}

fn identity_file() -> PathBuf {
    Path::new(ROOT).join("identity.json")
}

/// Who the node is: the Identity document alone.
pub(crate) fn read_identity() -> Result<Stored, StateError> {
    read_json(&identity_file())
}

/// Keeps who the node is.
pub(crate) fn write_identity(stored: &Stored) -> Result<(), StateError> {
    if read_identity().is_ok_and(|kept| kept.sha256 == stored.sha256) {
        return Ok(());
    }
    write_json(&identity_file(), stored)
}

/// Keeps a generation, and lets the oldest go but those that are needed. Returns those that there are now.
pub(crate) fn write_generation(stored: &Stored, needed: &[u64]) -> Result<Vec<u64>, StateError> {
    fs::create_dir_all(generations())
        .map_err(|source| StateError::Write { file: generations(), source })?;
    rewrite_generation(stored)?;
    let numbers = numbers();
    let surplus = numbers.len().saturating_sub(GENERATIONS_KEPT);
    for number in numbers.iter().take(surplus).filter(|number| !needed.contains(number)) {
        // One that can't be removed is tried again with the next.
        let _kept = fs::remove_file(file_of(*number));
    }
    Ok(self::numbers())
}

/// Writes a generation in place of what was kept of it.
pub(crate) fn rewrite_generation(stored: &Stored) -> Result<(), StateError> {
    write_json(&file_of(stored.number), stored)
}

fn instance_file() -> PathBuf {
    Path::new(ROOT).join("instance.json")
}

/// What the platform was heard to call the machine.
pub(crate) fn read_instances() -> Result<Vec<Instance>, StateError> {
    if instance_file().exists() { read_json(&instance_file()) } else { Ok(Vec::new()) }
}

/// Keeps what the platform calls the machine.
pub(crate) fn write_instances(instances: &[Instance]) -> Result<(), StateError> {
    write_json(&instance_file(), &instances)
}

fn wireguard_file(link: &str) -> PathBuf {
    Path::new(ROOT).join("wireguard").join(format!("{link}.key"))
}

/// The private key that was made for a link, if one was.
pub(crate) fn read_wireguard_key(link: &str) -> Result<Option<WireGuardSecret>, StateError> {
    let file = wireguard_file(link);
    let failed = |source| StateError::Read { file: file.clone(), source };
    match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map(Some).map_err(|error| failed(io::Error::other(error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Keeps the private key that was made for a link.
pub(crate) fn write_wireguard_key(link: &str, key: &WireGuardSecret) -> Result<(), StateError> {
    let file = wireguard_file(link);
    let failed = |source| StateError::Write { file: file.clone(), source };
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    write(&file, key.reveal().as_bytes()).map_err(failed)
}

fn probation_file() -> PathBuf {
    Path::new(ROOT).join("probation.json")
}

/// The configuration on probation, if there is one.
pub(crate) fn read_probation() -> Result<Option<Probation>, StateError> {
    if probation_file().exists() { read_json(&probation_file()).map(Some) } else { Ok(None) }
}

/// Keeps which configuration is on probation.
pub(crate) fn write_probation(probation: &Probation) -> Result<(), StateError> {
    write_json(&probation_file(), probation)
}

/// No configuration is on probation.
pub(crate) fn remove_probation() -> Result<(), StateError> {
    remove(&probation_file()).map_err(|source| StateError::Write { file: probation_file(), source })
}

/// The number that the next generation gets: above every file there is, readable or not.
pub(crate) fn next_number() -> u64 {
    numbers().last().copied().unwrap_or(0).saturating_add(1)
}

fn numbers() -> Vec<u64> {
    let mut numbers: Vec<u64> = fs::read_dir(generations())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// SHA-256, in lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T, StateError> {
    let failed = |source| StateError::Read { file: file.to_owned(), source };
    let mut text = Vec::new();
    File::open(file).map_err(failed)?.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text)
        .map_err(|source| StateError::Parse { file: file.to_owned(), source })
}

/// Writes a value so that [`read_json`] finds it, whole or as it was before.
pub(crate) fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<(), StateError> {
    let text = serde_json::to_vec(value)
        .map_err(|source| StateError::Parse { file: file.to_owned(), source })?;
    write(file, &text).map_err(|source| StateError::Write { file: file.to_owned(), source })
}

/// Writes a file so that a power cut leaves the old one or the new one; only root may read it.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut new =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The same, unless that is what is there already: what a platform says at each start is mostly what it said before.
pub(crate) fn write_anew(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(file).is_ok_and(|kept| kept == bytes) { Ok(()) } else { write(file, bytes) }
}

/// Removes a file of `/state` for good, if it is there.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::open(ROOT)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_lower_case_hex() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let file = std::env::temp_dir().join(format!("stele-state-{}", std::process::id()));
        write(&file, b"old and longer").unwrap();
        write(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        fs::remove_file(&file).unwrap();
    }
}
