// SPDX-License-Identifier: Apache-2.0
//! The machine's memory, from proc_meminfo(5).

use crate::{node::Node, store::Kind};
use serde::Serialize;

/// What `ctl get memory` shows, in bytes.
#[derive(Serialize)]
struct Status {
    total: u64,
    available: u64,
}

/// Looks, now.
pub(crate) fn refresh(node: &Node) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (Some(total), Some(available)) = (field(&text, "MemTotal:"), field(&text, "MemAvailable:"))
    else {
        tracing::warn!("the kernel does not say how much memory there is");
        return;
    };
    node.store.put(Kind::Memory, "system", &Status { total, available });
}

/// A field in bytes.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_in_bytes() {
        assert_eq!(
            super::field("MemTotal:  2048 kB\nMemFree: 1 kB\n", "MemTotal:"),
            Some(2_097_152)
        );
        assert_eq!(super::field("", "MemTotal:"), None);
    }
}
