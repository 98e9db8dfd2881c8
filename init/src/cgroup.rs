// SPDX-License-Identifier: Apache-2.0
//! Control groups: one for each service, under `/sys/fs/cgroup/stele`; see the kernel's
//! Documentation/admin-guide/cgroup-v2.rst.

use crate::unit::Sandbox;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "/sys/fs/cgroup/stele";

/// Why a control group could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("setting up the control group: writing {value:?} to {}", file.display())]
pub(crate) struct CgroupError {
    file: PathBuf,
    value: String,
    source: io::Error,
}

/// Makes the group that holds all others, and hands the controllers down to it.
pub(crate) fn prepare() -> Result<(), CgroupError> {
    write(Path::new(ROOT).join("cgroup.subtree_control"), "+cpu +memory +pids")?;
    make(Path::new(OURS))?;
    write(Path::new(OURS).join("cgroup.subtree_control"), "+cpu +memory +pids")
}

/// A service's group.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes the group of this name with these limits; what is there already is used again.
    pub(crate) fn make(name: &str, limits: &Sandbox) -> Result<Cgroup, CgroupError> {
        let path = Path::new(OURS).join(name);
        make(&path)?;
        write(path.join("memory.max"), &limits.memory_max.to_string())?;
        // When one process of a service is out of memory the service is: no half-dead ones.
        write(path.join("memory.oom.group"), "1")?;
        write(path.join("pids.max"), &limits.tasks_max.to_string())?;
        Ok(Cgroup(path))
    }

    /// The group of this name, whether or not it is there.
    pub(crate) fn of(name: &str) -> Cgroup {
        Cgroup(Path::new(OURS).join(name))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Sends SIGKILL to everything in it.
    pub(crate) fn kill(&self) {
        // A group that is gone has nothing to kill.
        let _gone = fs::write(self.0.join("cgroup.kill"), "1");
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(&self) -> Option<u64> {
        fs::read_to_string(self.0.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Processor time that was used in it.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.0.join("cpu.stat")).ok()?;
        let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        used.parse().ok().map(Duration::from_micros)
    }

    /// How often the kernel ended something in it for want of memory.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }

    /// Removes it, when nothing is in it.
    pub(crate) fn remove(&self) {
        // One that still holds a dying process stays, and is used again.
        let _busy = fs::remove_dir(&self.0);
    }
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(CgroupError { file: path.to_owned(), value: String::new(), source }),
    }
}

fn write(file: PathBuf, value: &str) -> Result<(), CgroupError> {
    fs::write(&file, value).map_err(|source| CgroupError { file, value: value.to_owned(), source })
}
