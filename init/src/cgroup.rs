// SPDX-License-Identifier: Apache-2.0
//! Control groups: one for each service and each process that runs once, under `/sys/fs/cgroup/stele`; see the kernel's
//! Documentation/admin-guide/cgroup-v2.rst.

use crate::unit::Sandbox;
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
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

/// Names of groups that somebody has for himself.
#[derive(Debug, Default)]
pub(crate) struct Names(Rc<RefCell<BTreeSet<String>>>);

/// A name that nobody else gets. Its group ends with it, and what is left in there.
#[derive(Debug)]
pub(crate) struct Own {
    name: String,
    taken: Rc<RefCell<BTreeSet<String>>>,
}

impl Names {
    /// Takes this name, or the first of `name-2`, `name-3` and so on that is free.
    pub(crate) fn take(&self, name: &str) -> Own {
        let mut taken = self.0.borrow_mut();
        let more = (2_u64..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(more);
        // There are more of them than processes.
        let name = names.find(|name| !taken.contains(name)).unwrap_or_else(|| name.to_owned());
        taken.insert(name.clone());
        Own { name, taken: Rc::clone(&self.0) }
    }
}

impl Own {
    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let cgroup = Cgroup::of(&self.name);
        cgroup.kill();
        cgroup.remove();
        self.taken.borrow_mut().remove(&self.name);
    }
}

/// A service's group, or that of a process that runs once.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    own: Option<Rc<Own>>,
}

impl Cgroup {
    /// Makes the group of this name with these limits; what is there already is used again.
    pub(crate) fn make(name: &str, limits: &Sandbox) -> Result<Cgroup, CgroupError> {
        let path = Path::new(OURS).join(name);
        make(&path)?;
        write(path.join("memory.max"), &limits.memory_max.to_string())?;
        // When one process of a service is out of memory the service is: no half-dead ones.
        write(path.join("memory.oom.group"), "1")?;
        write(path.join("pids.max"), &limits.tasks_max.to_string())?;
        Ok(Cgroup { path, own: None })
    }

    /// The group of this name, whether or not it is there.
    pub(crate) fn of(name: &str) -> Cgroup {
        Cgroup { path: Path::new(OURS).join(name), own: None }
    }

    /// It keeps its name, which is this one, for as long as somebody has it.
    pub(crate) fn keep(&mut self, own: Own) {
        self.own = Some(Rc::new(own));
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends SIGKILL to everything in it.
    pub(crate) fn kill(&self) {
        // A group that is gone has nothing to kill.
        let _gone = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Processor time that was used in it.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        used.parse().ok().map(Duration::from_micros)
    }

    /// How often the kernel ended something in it for want of memory.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }

    /// Removes it, when nothing is in it.
    pub(crate) fn remove(&self) {
        // One that still holds a dying process stays, and is used again.
        let _busy = fs::remove_dir(&self.path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_one_name_are_two_groups_for_as_long_as_anybody_has_them() {
        let names = Names::default();
        let first = names.take("fetch");
        let second = names.take("fetch");
        assert_eq!((first.name(), second.name()), ("fetch", "fetch-2"));
        assert_eq!(names.take("metadata").name(), "metadata");
        let mut group = Cgroup::of(first.name());
        group.keep(first);
        let watched = group.clone();
        drop(group);
        assert_eq!(names.take("fetch").name(), "fetch-3");
        drop(watched);
        assert_eq!(names.take("fetch").name(), "fetch");
        drop(second);
        assert!(names.0.borrow().is_empty());
    }
}
