// SPDX-License-Identifier: Apache-2.0
//! The processes, out of proc(5).

use super::{DiagnoseError, plain, read, text};
use std::{fs, io::Read as _, path::Path};
use stele_proto::v1::Process;

/// `USER_HZ` and the size of a page: fixed for x86-64.
const MICROS_PER_TICK: u64 = 10_000;
const PAGE: u64 = 4096;
/// `PF_KTHREAD` of linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Bytes of a command line that are read.
const LONGEST_ARGUMENTS: u64 = 1024;

/// All of them, lowest number first.
pub(super) fn all(proc: &Path, arguments: bool) -> Result<Vec<Process>, DiagnoseError> {
    let uptime = micros_up(&read(proc.join("uptime"))?);
    let listed = fs::read_dir(proc)
        .map_err(|source| DiagnoseError::Read { file: proc.to_owned(), source })?;
    let mut pids: Vec<u32> =
        listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    // One that has ended since is none any more.
    Ok(pids.into_iter().filter_map(|pid| one(proc, pid, uptime, arguments)).collect())
}

fn one(proc: &Path, pid: u32, uptime: u64, arguments: bool) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let mut process = parse(&text(folder.join("stat")), uptime)?;
    let status = text(folder.join("status"));
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    process.uid = uid?.split_whitespace().nth(1)?.parse().ok()?;
    let cgroups = text(folder.join("cgroup"));
    process.cgroup =
        plain(cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default());
    if arguments {
        process.arguments = command_line(&folder.join("cmdline"));
    }
    Some(process)
}

/// /proc/PID/stat.
fn parse(stat: &str, uptime: u64) -> Option<Process> {
    // The name may hold anything, brackets and spaces as well.
    let (before, after) = stat.rsplit_once(") ")?;
    let (pid, name) = before.split_once(" (")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // The manual counts from 1, and the state is its third.
    let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<u64>().ok();
    let started = number(22)?.saturating_mul(MICROS_PER_TICK);
    Some(Process {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(4)?).ok()?,
        name: plain(name),
        state: plain(fields.first()?),
        uid: 0,
        threads: u32::try_from(number(20)?).ok()?,
        memory_bytes: number(24)?.saturating_mul(PAGE),
        cpu_us: number(14)?.saturating_add(number(15)?).saturating_mul(MICROS_PER_TICK),
        age_us: uptime.saturating_sub(started),
        cgroup: String::new(),
        kernel_thread: number(9)? & KERNEL_THREAD != 0,
        arguments: Vec::new(),
    })
}

fn micros_up(text: &str) -> u64 {
    let (seconds, hundredths) =
        text.split_whitespace().next().and_then(|up| up.split_once('.')).unwrap_or(("0", "0"));
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    number(seconds)
        .saturating_mul(1_000_000)
        .saturating_add(number(hundredths).saturating_mul(10_000))
}

fn command_line(file: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    // What was read until it ended is what there is.
    let read =
        fs::File::open(file).and_then(|file| file.take(LONGEST_ARGUMENTS).read_to_end(&mut bytes));
    if read.is_err() || bytes.is_empty() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    bytes.split(|byte| *byte == 0).map(|word| plain(&String::from_utf8_lossy(word))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets() {
        let stat = "12 (a) R (b) S 1 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1000 99 7 18446744073709551615 0";
        let process = parse(stat, 30_000_000).unwrap();
        assert_eq!(
            process,
            Process {
                pid: 12,
                parent: 1,
                name: "a) R (b".into(),
                state: "S".into(),
                threads: 3,
                memory_bytes: 7 * 4096,
                cpu_us: 3_000_000,
                age_us: 20_000_000,
                ..Process::default()
            }
        );
        assert_eq!((parse("", 0), parse("1 (a) S", 0)), (None, None));
        assert_eq!(micros_up("12.34 5.67\n"), 12_340_000);
    }

    #[test]
    fn this_process_is_among_those_of_this_machine() {
        let pid = std::process::id();
        let found = |arguments| {
            let all = all(Path::new("/proc"), arguments).unwrap();
            assert!(all.is_sorted_by_key(|process| process.pid));
            all.into_iter().find(|process| process.pid == pid).unwrap()
        };
        let process = found(true);
        assert!(process.memory_bytes > 100_000 && process.age_us < 1_000_000_000);
        assert!(!process.kernel_thread && process.threads > 1);
        let own: Vec<String> = std::env::args().collect();
        assert_eq!(process.arguments, own);
        assert_eq!(found(false).arguments, [""; 0]);
    }
}
