// SPDX-License-Identifier: Apache-2.0
//! The control groups; see the kernel's Documentation/admin-guide/cgroup-v2.rst.

use super::{DiagnoseError, memory::stalls_in, number, plain, text};
use std::{fs, path::Path};
use stele_proto::v1::ControlGroup;

/// How deep groups are followed, and how many there may be.
const DEEPEST: usize = 16;
const MOST: usize = 4096;

/// All groups, each before those within it.
pub(super) fn all(root: &Path) -> Result<Vec<ControlGroup>, DiagnoseError> {
    fs::metadata(root.join("cgroup.procs"))
        .map_err(|source| DiagnoseError::Read { file: root.join("cgroup.procs"), source })?;
    let mut groups = Vec::new();
    add(root, "", 0, &mut groups);
    Ok(groups)
}

fn add(folder: &Path, path: &str, depth: usize, groups: &mut Vec<ControlGroup>) {
    if depth > DEEPEST || groups.len() >= MOST {
        return;
    }
    groups.push(one(folder, path));
    // One that has gone since has none within it.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut within: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name())
        .collect();
    within.sort();
    for name in within {
        let path = format!("{path}/{}", plain(&name.to_string_lossy()));
        add(&folder.join(name), &path, depth.saturating_add(1), groups);
    }
}

fn one(folder: &Path, path: &str) -> ControlGroup {
    let processor = text(folder.join("cpu.stat"));
    let events = text(folder.join("memory.events"));
    let pressure = ["cpu", "memory", "io"].into_iter();
    ControlGroup {
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        tasks: number(folder.join("pids.current")),
        // "max" is no number.
        tasks_max: number(folder.join("pids.max")),
        memory_bytes: number(folder.join("memory.current")),
        memory_max: number(folder.join("memory.max")),
        memory_peak: number(folder.join("memory.peak")),
        cpu_us: value(&processor, "usage_usec"),
        throttled_us: value(&processor, "throttled_usec"),
        out_of_memory_kills: value(&events, "oom_kill"),
        pressure: pressure
            .flat_map(|name| stalls_in(name, &text(folder.join(format!("{name}.pressure")))))
            .collect(),
    }
}

/// The number behind a word at the beginning of a line.
fn value(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_those_within() {
        let root = std::env::temp_dir().join(format!("stele-cgroups-{}", std::process::id()));
        let inner = root.join("stele/apid");
        fs::create_dir_all(&inner).unwrap();
        for (file, text) in [
            ("cgroup.procs", ""),
            ("stele/apid/memory.current", "4096\n"),
            ("stele/apid/memory.max", "max\n"),
            ("stele/apid/pids.max", "16\n"),
            ("stele/apid/cpu.stat", "usage_usec 12\nuser_usec 5\nthrottled_usec 3\n"),
            ("stele/apid/memory.events", "oom 2\noom_kill 1\n"),
            ("stele/apid/io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        let groups = all(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let paths: Vec<&str> = groups.iter().map(|group| group.path.as_str()).collect();
        assert_eq!(paths, ["/", "/stele", "/stele/apid"]);
        let group = &groups[2];
        assert_eq!((group.memory_bytes, group.memory_max, group.tasks_max), (4096, 0, 16));
        assert_eq!((group.cpu_us, group.throttled_us, group.out_of_memory_kills), (12, 3, 1));
        assert_eq!(group.pressure[0].total_us, 7);
        assert!(all(&root).is_err());
    }
}
