// SPDX-License-Identifier: Apache-2.0
//! What memory is used for, and what threads wait for, out of proc(5) and the kernel's Documentation/accounting/psi.rst.

use super::text;
use std::path::Path;
use stele_proto::v1::{MemoryResponse, Stall};

/// What the kernel counts waiting for.
const RESOURCES: [&str; 4] = ["cpu", "memory", "io", "irq"];

/// /proc/meminfo.
pub(super) fn parse(text: &str) -> MemoryResponse {
    let bytes = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kibibytes =
            value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or(0).saturating_mul(1024)
    };
    MemoryResponse {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        free: bytes("MemFree"),
        buffers: bytes("Buffers"),
        cached: bytes("Cached"),
        shared: bytes("Shmem"),
        anonymous: bytes("AnonPages"),
        dirty: bytes("Dirty"),
        writeback: bytes("Writeback"),
        slab: bytes("Slab"),
        slab_reclaimable: bytes("SReclaimable"),
        page_tables: bytes("PageTables"),
        kernel_stacks: bytes("KernelStack"),
        committed: bytes("Committed_AS"),
        swap_total: bytes("SwapTotal"),
        swap_free: bytes("SwapFree"),
    }
}

/// /proc/pressure.
pub(super) fn stalls(proc: &Path) -> Vec<Stall> {
    let file = |resource| text(proc.join("pressure").join(resource));
    RESOURCES.into_iter().flat_map(|resource| stalls_in(resource, &file(resource))).collect()
}

/// What such a file says, a control group's too.
pub(super) fn stalls_in(resource: &str, text: &str) -> Vec<Stall> {
    let stall = |line: &str| {
        let (threads, rest) = line.split_once(' ')?;
        let value = |key: &str| {
            rest.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
        };
        Some(Stall {
            resource: resource.to_owned(),
            threads: threads.to_owned(),
            average_10: value("avg10")?.parse().ok()?,
            average_60: value("avg60")?.parse().ok()?,
            average_300: value("avg300")?.parse().ok()?,
            total_us: value("total")?.parse().ok()?,
        })
    };
    text.lines().filter_map(stall).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel() {
        let memory = parse("MemTotal:  2048 kB\nSwapCached: 9 kB\nCached: 4 kB\nDirty: x kB\n");
        let expected =
            MemoryResponse { total: 2_097_152, cached: 4096, ..MemoryResponse::default() };
        assert_eq!(memory, expected);
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=15\nfull avg10=x\nnonsense\n";
        let stall = Stall {
            resource: "io".into(),
            threads: "some".into(),
            average_10: 1.5,
            average_60: 0.0,
            average_300: 0.25,
            total_us: 15,
        };
        assert_eq!(stalls_in("io", text), [stall]);
    }

    #[test]
    fn memory_of_this_machine() {
        let memory = parse(&std::fs::read_to_string("/proc/meminfo").unwrap());
        assert!(memory.total > memory.available && memory.available > 0 && memory.slab > 0);
    }
}
