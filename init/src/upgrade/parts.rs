// SPDX-License-Identifier: Apache-2.0
//! Images that are still arriving: files on the data volume, at most one at a time, to go on from after an interruption.

use super::agent::Received;
use crate::{
    api::{Code, Refusal},
    state,
};
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};
use stele_kernel::mount;

/// Where they are.
const DIRECTORY: &str = "/var/lib/stele/images";
/// The user id of the stage agent.
const STAGE: u32 = 205;
const SUFFIX: &str = ".part";

/// A file that an image arrives in; removed by [`Part::remove`], and otherwise kept for the next attempt.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Bytes of it that are there.
    pub(super) from: u64,
}

impl Part {
    /// The file of the image with this digest.
    pub(super) fn of_digest(sha256: &str) -> Result<Part, Refusal> {
        Part::named(sha256)
    }

    /// The file of the image at this URL.
    pub(super) fn of_url(url: &str) -> Result<Part, Refusal> {
        Part::named(&format!("url-{}", state::sha256(url.as_bytes())))
    }

    fn named(name: &str) -> Result<Part, Refusal> {
        let prepare = || -> io::Result<Part> {
            fs::create_dir_all(DIRECTORY)?;
            fs::set_permissions(DIRECTORY, fs::Permissions::from_mode(0o700))?;
            chown(DIRECTORY, Some(STAGE), Some(STAGE))?;
            let path = Path::new(DIRECTORY).join(format!("{name}{SUFFIX}"));
            sweep(Some(&path))?;
            let from = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                Ok(_) => return Err(io::Error::other("something else is in its place")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            Ok(Part { path, from })
        };
        prepare().map_err(|error| {
            let free = mount::usage(Path::new("/var")).map_or(0, |usage| usage.free);
            let message = format!(
                "the data volume can't take an image, in {DIRECTORY}: {error}; {free} bytes are free there"
            );
            Refusal::new(Code::FailedPrecondition, message)
        })
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) {
        self.remove();
        self.from = 0;
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.path.display(), error = %error, "removing what arrived of an image failed");
            }
            _ => {}
        }
    }

    /// What stage is to write, once it was received.
    pub(super) fn order(&self, received: &Received, directory: &Path) -> String {
        let Received { version, size, sha256, .. } = received;
        serde_json::json!({
            "part": self.path, "directory": directory, "version": version, "size": size, "sha256": sha256,
        })
        .to_string()
    }
}

/// Removes all parts but one.
fn sweep(keep: Option<&Path>) -> io::Result<()> {
    for entry in fs::read_dir(DIRECTORY)? {
        let path = entry?.path();
        if Some(path.as_path()) != keep {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
