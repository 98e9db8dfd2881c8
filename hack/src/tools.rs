// SPDX-License-Identifier: Apache-2.0
//! Programs that tests run against: a real registry and a real signer, from the Debian packages that the lock names.
//! They are unpacked, not installed: nothing of them is left on this machine but files in a folder.

use crate::build::Builder;
use anyhow::{Context as _, Result};
use image::{
    apt::Apt,
    cache::write_atomically,
    deb,
    lock::{Lock, Purpose},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// What is taken, by path in its package.
const PROGRAMS: [&str; 2] = ["usr/bin/docker-registry", "usr/bin/cosign"];

/// Where they are.
#[derive(Clone, Debug)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Those in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The registry.
    #[must_use]
    pub fn docker_registry(&self) -> PathBuf {
        self.dir.join("docker-registry")
    }

    /// The signer.
    #[must_use]
    pub fn cosign(&self) -> PathBuf {
        self.dir.join("cosign")
    }

    /// Fetches and unpacks what is not there in the locked version.
    pub fn prepare(&self, builder: &Builder) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("Making {}", self.dir.display()))?;
        let lock = Lock::read(&builder.workspace.lock())?;
        let wanted: Vec<String> =
            lock.of(Purpose::Harness).map(|package| package.sha256.clone()).collect();
        let (wanted, done) = (wanted.join("\n"), self.dir.join("done"));
        if fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
            return Ok(());
        }
        let packages =
            Apt::new()?.files(lock.of(Purpose::Harness), &builder.cache, &builder.progress)?;
        for (package, file) in packages {
            builder.progress.step(format!("Unpacking {} {}", package.name, package.version));
            let files = deb::unpack(&file, |path| PROGRAMS.contains(&path))?;
            for path in PROGRAMS {
                if let Some(program) = files.data(path) {
                    self.write(path, program)?;
                }
            }
        }
        let _took = builder.progress.finish();
        write_atomically(&done, wanted.as_bytes())
    }

    fn write(&self, path: &str, program: &[u8]) -> Result<()> {
        let name = Path::new(path).file_name().context("A program has a name")?;
        let to = self.dir.join(name);
        write_atomically(&to, program)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("Making {} a program", to.display()))
    }
}
