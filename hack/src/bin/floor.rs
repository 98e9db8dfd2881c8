// SPDX-License-Identifier: Apache-2.0
//! The floor under every figure: an init that does nothing.
//!
//! It powers the machine off at once. With `floor=memory` on the kernel command line it first waits a minute and prints
//! what memory the kernel alone has taken, in KiB: `floor: memory 12345`.

#![forbid(unsafe_code)]

use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot},
};
use std::{env, fs, thread, time::Duration};

fn main() {
    if env::var_os("floor").is_some_and(|what| what == "memory") {
        thread::sleep(Duration::from_secs(60));
        match memory_in_use() {
            Ok(kib) => println!("floor: memory {kib}"),
            Err(error) => println!("floor: {error}"),
        }
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("floor: powering off: {error}");
    }
}

/// MemTotal − MemAvailable.
fn memory_in_use() -> std::io::Result<u64> {
    fs::create_dir_all("/proc")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| -> u64 {
        let line = meminfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    Ok(field("MemTotal:").saturating_sub(field("MemAvailable:")))
}
