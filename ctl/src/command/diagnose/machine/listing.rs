// SPDX-License-Identifier: Apache-2.0
//! Lists of what a kernel says, as rows for people and as values for programs.

use crate::span::{format_bytes, format_duration};
use serde_json::{Value, json};
use std::time::Duration;
use stele_proto::v1::{
    CgroupsResponse, ControlGroup, Disk, DisksResponse, MemoryResponse, Mount, MountsResponse,
    Partition, PressureResponse, Process, ProcessesResponse, Socket, SocketsResponse, Stall,
};

/// A list.
pub(super) trait Listing {
    /// The headings of its columns.
    const HEADER: &'static [&'static str];

    /// For people.
    fn rows(&self) -> Vec<Vec<String>>;

    /// For programs.
    fn value(&self) -> Value;

    /// How much is not in it.
    fn left_off(&self) -> u32 {
        0
    }
}

/// A number of bytes; nothing for none.
fn bytes(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format_bytes(bytes) }
}

fn count(count: u64) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

/// A processor time or a time of waiting.
fn seconds(micros: u64) -> String {
    format!("{}.{:02}s", micros / 1_000_000, micros / 10_000 % 100)
}

fn percent(part: f64) -> String {
    format!("{part:.2}%")
}

impl Listing for ProcessesResponse {
    const HEADER: &'static [&'static str] =
        &["PID", "PARENT", "UID", "STATE", "THREADS", "MEMORY", "CPU", "AGE", "GROUP", "PROCESS"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |process: &Process| {
            let what = match process.arguments.as_slice() {
                [] if process.kernel_thread => format!("[{}]", process.name),
                [] => process.name.clone(),
                arguments => arguments.join(" "),
            };
            vec![
                process.pid.to_string(),
                process.parent.to_string(),
                process.uid.to_string(),
                process.state.clone(),
                process.threads.to_string(),
                bytes(process.memory_bytes),
                seconds(process.cpu_us),
                format_duration(Duration::from_micros(process.age_us)),
                process.cgroup.clone(),
                what,
            ]
        };
        self.processes.iter().map(row).collect()
    }

    fn value(&self) -> Value {
        let value = |process: &Process| {
            json!({
                "pid": process.pid,
                "parent": process.parent,
                "name": process.name,
                "state": process.state,
                "uid": process.uid,
                "threads": process.threads,
                "memory": process.memory_bytes,
                "cpuUs": process.cpu_us,
                "ageUs": process.age_us,
                "cgroup": process.cgroup,
                "kernelThread": process.kernel_thread,
                "arguments": process.arguments,
            })
        };
        self.processes.iter().map(value).collect()
    }

    fn left_off(&self) -> u32 {
        self.left_off
    }
}

impl Listing for SocketsResponse {
    const HEADER: &'static [&'static str] =
        &["PROTOCOL", "LOCAL", "REMOTE", "STATE", "UID", "SERVICE", "TO READ", "TO SEND"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |socket: &Socket| {
            vec![
                socket.protocol.clone(),
                socket.local.clone(),
                socket.remote.clone(),
                socket.state.clone(),
                socket.uid.to_string(),
                socket.service.clone(),
                count(socket.receive_queue),
                count(socket.send_queue),
            ]
        };
        self.sockets.iter().map(row).collect()
    }

    fn value(&self) -> Value {
        let value = |socket: &Socket| {
            json!({
                "protocol": socket.protocol,
                "local": socket.local,
                "remote": socket.remote,
                "state": socket.state,
                "uid": socket.uid,
                "service": socket.service,
                "inode": socket.inode,
                "receiveQueue": socket.receive_queue,
                "sendQueue": socket.send_queue,
            })
        };
        self.sockets.iter().map(value).collect()
    }

    fn left_off(&self) -> u32 {
        self.left_off
    }
}

impl Listing for MountsResponse {
    const HEADER: &'static [&'static str] =
        &["TARGET", "SOURCE", "TYPE", "SIZE", "FREE", "OPTIONS"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |mount: &Mount| {
            vec![
                mount.target.clone(),
                mount.source.clone(),
                mount.r#type.clone(),
                bytes(mount.size),
                if mount.size == 0 { String::new() } else { format_bytes(mount.free) },
                mount.options.join(","),
            ]
        };
        self.mounts.iter().map(row).collect()
    }

    fn value(&self) -> Value {
        let value = |mount: &Mount| {
            json!({
                "target": mount.target,
                "source": mount.source,
                "type": mount.r#type,
                "size": mount.size,
                "free": mount.free,
                "options": mount.options,
            })
        };
        self.mounts.iter().map(value).collect()
    }

    fn left_off(&self) -> u32 {
        self.left_off
    }
}

/// What memory is used for: the name for programs, the words for people.
fn uses(memory: &MemoryResponse) -> [(&'static str, &'static str, u64); 16] {
    [
        ("total", "all of it", memory.total),
        ("available", "what programs could have", memory.available),
        ("free", "what nothing uses", memory.free),
        ("anonymous", "programs", memory.anonymous),
        ("cached", "files", memory.cached),
        ("shared", "tmpfs and shared memory, a part of files", memory.shared),
        ("buffers", "block devices", memory.buffers),
        ("dirty", "waits to be written", memory.dirty),
        ("writeback", "is being written", memory.writeback),
        ("slab", "the kernel's data", memory.slab),
        ("slabReclaimable", "what it could give back of that", memory.slab_reclaimable),
        ("pageTables", "page tables", memory.page_tables),
        ("kernelStacks", "the kernel's stacks", memory.kernel_stacks),
        ("committed", "promised to programs", memory.committed),
        ("swapTotal", "swap", memory.swap_total),
        ("swapFree", "free swap", memory.swap_free),
    ]
}

impl Listing for MemoryResponse {
    const HEADER: &'static [&'static str] = &["MEMORY", "SIZE"];

    fn rows(&self) -> Vec<Vec<String>> {
        let rows = uses(self).into_iter();
        rows.map(|(_, words, bytes)| vec![words.to_owned(), format_bytes(bytes)]).collect()
    }

    fn value(&self) -> Value {
        let values = uses(self).into_iter();
        Value::Object(values.map(|(name, _, bytes)| (name.to_owned(), bytes.into())).collect())
    }
}

impl Listing for CgroupsResponse {
    const HEADER: &'static [&'static str] = &[
        "GROUP",
        "TASKS",
        "OF",
        "MEMORY",
        "OF",
        "PEAK",
        "CPU",
        "THROTTLED",
        "OOM KILLS",
        "PRESSURE",
    ];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |group: &ControlGroup| {
            let some = group.pressure.iter().filter(|stall| stall.threads == "some");
            let pressure: Vec<String> = some
                .filter(|stall| stall.average_10 > 0.0)
                .map(|stall| format!("{} {}", stall.resource, percent(stall.average_10)))
                .collect();
            vec![
                group.path.clone(),
                count(group.tasks),
                count(group.tasks_max),
                bytes(group.memory_bytes),
                bytes(group.memory_max),
                bytes(group.memory_peak),
                seconds(group.cpu_us),
                if group.throttled_us == 0 { String::new() } else { seconds(group.throttled_us) },
                count(group.out_of_memory_kills),
                pressure.join(", "),
            ]
        };
        self.groups.iter().map(row).collect()
    }

    fn value(&self) -> Value {
        let value = |group: &ControlGroup| {
            json!({
                "path": group.path,
                "tasks": group.tasks,
                "tasksMax": group.tasks_max,
                "memory": group.memory_bytes,
                "memoryMax": group.memory_max,
                "memoryPeak": group.memory_peak,
                "cpuUs": group.cpu_us,
                "throttledUs": group.throttled_us,
                "outOfMemoryKills": group.out_of_memory_kills,
                "pressure": group.pressure.iter().map(stall_value).collect::<Value>(),
            })
        };
        self.groups.iter().map(value).collect()
    }

    fn left_off(&self) -> u32 {
        self.left_off
    }
}

fn stall_value(stall: &Stall) -> Value {
    json!({
        "resource": stall.resource,
        "threads": stall.threads,
        "average10": stall.average_10,
        "average60": stall.average_60,
        "average300": stall.average_300,
        "totalUs": stall.total_us,
    })
}

impl Listing for PressureResponse {
    const HEADER: &'static [&'static str] =
        &["RESOURCE", "THREADS", "10 S", "1 MIN", "5 MIN", "ALL"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |stall: &Stall| {
            vec![
                stall.resource.clone(),
                stall.threads.clone(),
                percent(stall.average_10),
                percent(stall.average_60),
                percent(stall.average_300),
                seconds(stall.total_us),
            ]
        };
        self.stalls.iter().map(row).collect()
    }

    fn value(&self) -> Value {
        self.stalls.iter().map(stall_value).collect()
    }
}

impl Listing for DisksResponse {
    const HEADER: &'static [&'static str] =
        &["DISK", "SIZE", "MODEL", "SERIAL", "IS", "READ", "WRITTEN", "BUSY"];

    fn rows(&self) -> Vec<Vec<String>> {
        let rows = |disk: &Disk| {
            let is = [
                (disk.read_only, "read-only"),
                (disk.removable, "removable"),
                (disk.rotational, "rotational"),
            ];
            let is: Vec<&str> =
                is.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
            let mut rows = vec![vec![
                disk.name.clone(),
                bytes(disk.size),
                disk.model.clone(),
                disk.serial.clone(),
                is.join(", "),
                format_bytes(disk.read_bytes),
                format_bytes(disk.written_bytes),
                seconds(disk.busy_us),
            ]];
            rows.extend(disk.partitions.iter().map(|Partition { name, size, .. }| {
                let mut row = vec![format!("  {name}"), bytes(*size)];
                row.resize(Self::HEADER.len(), String::new());
                row
            }));
            rows
        };
        self.disks.iter().flat_map(rows).collect()
    }

    fn value(&self) -> Value {
        let partition = |partition: &Partition| json!({ "name": partition.name, "start": partition.start, "size": partition.size });
        let value = |disk: &Disk| {
            json!({
                "name": disk.name,
                "size": disk.size,
                "model": disk.model,
                "serial": disk.serial,
                "readOnly": disk.read_only,
                "removable": disk.removable,
                "rotational": disk.rotational,
                "partitions": disk.partitions.iter().map(partition).collect::<Value>(),
                "reads": disk.reads,
                "readBytes": disk.read_bytes,
                "writes": disk.writes,
                "writtenBytes": disk.written_bytes,
                "busyUs": disk.busy_us,
                "inFlight": disk.in_flight,
            })
        };
        self.disks.iter().map(value).collect()
    }

    fn left_off(&self) -> u32 {
        self.left_off
    }
}

#[cfg(test)]
mod tests;
