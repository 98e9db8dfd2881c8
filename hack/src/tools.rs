// SPDX-License-Identifier: Apache-2.0
//! Programs that tests run against: a real registry and a real signer, and who really collects figures and logs, from the Debian
//! packages that the lock names. They are unpacked, not installed: nothing of them is left on this machine but files in a folder.
//! What is not static runs with the libraries, and by the loader, of its own Debian.

use crate::build::Builder;
use anyhow::{Context as _, Result};
use image::{
    apt::Apt,
    cache::write_atomically,
    deb,
    lock::{Lock, Purpose},
    tree::Node,
};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// What is taken, by path in its package.
const PROGRAMS: [&str; 5] = [
    "usr/bin/docker-registry",
    "usr/bin/cosign",
    "usr/bin/prometheus",
    "usr/bin/promtool",
    "usr/sbin/rsyslogd",
];

/// Where libraries are in their packages.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu/";
/// The loader among them.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// The C library's package: the image's own, which the lock has already.
const LIBC: &str = "libc6";

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

    /// Who collects figures.
    #[must_use]
    pub fn prometheus(&self) -> PathBuf {
        self.dir.join("prometheus")
    }

    /// Who judges them.
    #[must_use]
    pub fn promtool(&self) -> PathBuf {
        self.dir.join("promtool")
    }

    /// Who collects logs, with its modules.
    #[must_use]
    pub fn rsyslogd(&self) -> Vec<OsString> {
        let libraries = self.dir.join("lib");
        let modules = libraries.join("rsyslog");
        vec![
            libraries.join(LOADER).into(),
            "--library-path".into(),
            libraries.into(),
            self.dir.join("rsyslogd").into(),
            "-M".into(),
            modules.into(),
        ]
    }

    /// Fetches and unpacks what is not there in the locked version.
    pub fn prepare(&self, builder: &Builder) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("Making {}", self.dir.display()))?;
        let lock = Lock::read(&builder.workspace.lock())?;
        let packages = || {
            lock.of(Purpose::Harness)
                .chain(lock.of(Purpose::Tools).filter(|package| package.name == LIBC))
        };
        let wanted: Vec<String> = packages().map(|package| package.sha256.clone()).collect();
        let (wanted, done) = (wanted.join("\n"), self.dir.join("done"));
        if fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
            return Ok(());
        }
        for (package, file) in Apt::new()?.files(packages(), &builder.cache, &builder.progress)? {
            builder.progress.step(format!("Unpacking {} {}", package.name, package.version));
            let library = |path: &str| path.starts_with(LIBRARIES) && path.contains(".so");
            let files = deb::unpack(&file, |path| PROGRAMS.contains(&path) || library(path))?;
            for (path, node) in files.iter() {
                let to = path.strip_prefix(LIBRARIES).map(|name| Path::new("lib").join(name));
                let name = || Path::new(path).file_name().map(PathBuf::from);
                let to = to.or_else(name).context("A program has a name")?;
                match node {
                    Node::File { data, .. } => self.write(&to, data)?,
                    // To the same folder, as all of them.
                    Node::Link(_) => {
                        let target = files.resolve(path).context("A library is a dead link")?;
                        self.write(&to, files.data(&target).context("A library is no file")?)?;
                    }
                    Node::Folder => {}
                }
            }
        }
        let _took = builder.progress.finish();
        write_atomically(&done, wanted.as_bytes())
    }

    fn write(&self, path: &Path, program: &[u8]) -> Result<()> {
        let to = self.dir.join(path);
        let folder = to.parent().context("A program is in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("Making {}", folder.display()))?;
        write_atomically(&to, program)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("Making {} a program", to.display()))
    }
}
