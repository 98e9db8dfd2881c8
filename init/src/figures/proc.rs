// SPDX-License-Identifier: Apache-2.0
//! Figures of the kernel, out of proc(5).

use stele_machine::figures::{Page, Type};

/// `USER_HZ`, in which /proc/stat counts: fixed for x86-64.
const TICKS: f64 = 100.0;
/// What /proc/diskstats counts in, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// /proc/stat: processors, processes and the start of the machine.
pub(super) fn stat(page: &mut Page, text: &str) {
    const MODES: [&str; 8] =
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    let mut cpu = page.family(
        "stele_cpu_seconds",
        Type::Counter,
        "Time that a processor has spent, by what on.",
    );
    for line in text.lines() {
        let Some((number, ticks)) = line.strip_prefix("cpu").and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        // The line without a number is their sum.
        if number.is_empty() {
            continue;
        }
        for (mode, ticks) in MODES.into_iter().zip(ticks.split_whitespace()) {
            let Ok(ticks) = ticks.parse::<f64>() else { continue };
            cpu.add(&[("cpu", number), ("mode", mode)], ticks / TICKS);
        }
    }
    for (key, name, kind, help) in [
        (
            "btime",
            "stele_boot_time_seconds",
            Type::Gauge,
            "When the machine started, since the epoch.",
        ),
        ("processes", "stele_forks", Type::Counter, "Processes and threads that were started."),
        ("procs_running", "stele_threads_runnable", Type::Gauge, "Threads that run or could."),
        ("procs_blocked", "stele_threads_blocked", Type::Gauge, "Threads that wait for a disk."),
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        if let Some(value) = value.and_then(|value| value.trim().parse::<u64>().ok()) {
            page.family(name, kind, help).add(&[], value);
        }
    }
}

/// /proc/loadavg.
pub(super) fn load(page: &mut Page, text: &str) {
    let mut load = page.family(
        "stele_load",
        Type::Gauge,
        "Threads that run, could, or wait for a disk, on average over so many minutes.",
    );
    for (minutes, value) in ["1", "5", "15"].into_iter().zip(text.split_whitespace()) {
        if let Ok(value) = value.parse::<f64>() {
            load.add(&[("minutes", minutes)], value);
        }
    }
}

/// /proc/meminfo.
pub(super) fn memory(page: &mut Page, text: &str) {
    for (key, name, help) in [
        ("MemTotal:", "stele_memory_size_bytes", "Memory of the machine."),
        ("MemAvailable:", "stele_memory_available_bytes", "Memory that programs could have."),
        ("MemFree:", "stele_memory_free_bytes", "Memory that nothing uses."),
        ("Cached:", "stele_memory_cached_bytes", "Memory that holds files."),
    ] {
        if let Some(bytes) = crate::memory::field(text, key) {
            page.family(name, Type::Gauge, help).add(&[], bytes);
        }
    }
}

/// /proc/pressure: what each of the resources says.
pub(super) fn pressure(page: &mut Page, texts: &[(&str, String)]) {
    let mut waited = page.family(
        "stele_pressure_seconds",
        Type::Counter,
        "Time that some or all threads have waited for a resource.",
    );
    for (resource, text) in texts {
        for line in text.lines() {
            let Some((threads, rest)) = line.split_once(' ') else { continue };
            let total = rest.split(' ').find_map(|field| field.strip_prefix("total="));
            if let Some(microseconds) = total.and_then(|total| total.parse::<f64>().ok()) {
                let labels = [("resource", *resource), ("threads", threads)];
                waited.add(&labels, microseconds / 1e6);
            }
        }
    }
}

/// /proc/net/dev.
pub(super) fn links(page: &mut Page, text: &str) {
    // The columns after the link's name, in the order of dev_seq_printf_stats() in net/core/net-procfs.c.
    for (column, name, help) in [
        (0, "stele_link_received_bytes", "Bytes that a link has received."),
        (1, "stele_link_received_packets", "Packets that a link has received."),
        (2, "stele_link_receive_errors", "Packets that a link could not receive."),
        (3, "stele_link_receive_drops", "Packets that a link has received and dropped."),
        (8, "stele_link_sent_bytes", "Bytes that a link has sent."),
        (9, "stele_link_sent_packets", "Packets that a link has sent."),
        (10, "stele_link_send_errors", "Packets that a link could not send."),
        (11, "stele_link_send_drops", "Packets that a link has dropped instead of sending."),
    ] {
        let mut family = page.family(name, Type::Counter, help);
        for line in text.lines() {
            let Some((link, counts)) = line.rsplit_once(": ") else { continue };
            let count = counts.split_whitespace().nth(column);
            if let Some(count) = count.and_then(|count| count.parse::<u64>().ok()) {
                family.add(&[("link", link.trim())], count);
            }
        }
    }
}

/// /proc/diskstats, as far as it is about these disks.
pub(super) fn disks(page: &mut Page, text: &str, is_disk: impl Fn(&str) -> bool) {
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    let count = |fields: &[&str], at: usize| fields.get(at)?.parse::<u64>().ok();
    // The kernel's Documentation/admin-guide/iostats.rst; fields 0 to 2 are the device.
    for (at, unit, name, help) in [
        (3, 1, "stele_disk_reads", "Reads that a disk has done."),
        (5, SECTOR, "stele_disk_read_bytes", "Bytes that were read from a disk."),
        (7, 1, "stele_disk_writes", "Writes that a disk has done."),
        (9, SECTOR, "stele_disk_written_bytes", "Bytes that were written to a disk."),
    ] {
        let mut family = page.family(name, Type::Counter, help);
        for fields in &lines {
            let Some(disk) = fields.get(2).filter(|disk| is_disk(disk)) else { continue };
            if let Some(count) = count(fields, at) {
                family.add(&[("disk", disk)], count.saturating_mul(unit));
            }
        }
    }
    let mut busy = page.family(
        "stele_disk_busy_seconds",
        Type::Counter,
        "Time that a disk has had something to do.",
    );
    for fields in &lines {
        let Some(disk) = fields.get(2).filter(|disk| is_disk(disk)) else { continue };
        if let Some(milliseconds) = fields.get(12).and_then(|field| field.parse::<f64>().ok()) {
            busy.add(&[("disk", disk)], milliseconds / 1e3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use stele_machine::figures::Format;

    fn check(add: impl Fn(&mut Page), expected: &Expect) {
        let mut page = Page::new(Format::Text);
        add(&mut page);
        let samples: Vec<_> = page
            .finish()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        expected.assert_eq(&samples.join("\n"));
    }

    #[test]
    fn processors_and_processes() {
        let text = "cpu  2 0 4 6 0 0 0 0 0 0\ncpu0 1 0 2 312 0 0 0 4 0 0\nintr 1 2 3\nbtime 1700000000\nprocesses 42\nprocs_running 2\nprocs_blocked 0\n";
        check(
            |page| stat(page, text),
            &expect![[r#"
            stele_cpu_seconds_total{cpu="0",mode="user"} 0.01
            stele_cpu_seconds_total{cpu="0",mode="nice"} 0
            stele_cpu_seconds_total{cpu="0",mode="system"} 0.02
            stele_cpu_seconds_total{cpu="0",mode="idle"} 3.12
            stele_cpu_seconds_total{cpu="0",mode="iowait"} 0
            stele_cpu_seconds_total{cpu="0",mode="irq"} 0
            stele_cpu_seconds_total{cpu="0",mode="softirq"} 0
            stele_cpu_seconds_total{cpu="0",mode="steal"} 0.04
            stele_boot_time_seconds 1700000000
            stele_forks_total 42
            stele_threads_runnable 2
            stele_threads_blocked 0"#]],
        );
        check(
            |page| load(page, "0.10 1.20 0.00 1/80 99\n"),
            &expect![[r#"
            stele_load{minutes="1"} 0.1
            stele_load{minutes="5"} 1.2
            stele_load{minutes="15"} 0"#]],
        );
        check(|page| stat(page, "nonsense\ncpu\ncpu0 x\nbtime\n"), &expect![[""]]);
    }

    #[test]
    fn memory_and_pressure() {
        let text = "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\nCached: 4 kB\nSwapCached: 9 kB\n";
        check(
            |page| memory(page, text),
            &expect![[r#"
            stele_memory_size_bytes 2097152
            stele_memory_available_bytes 3072
            stele_memory_free_bytes 1024
            stele_memory_cached_bytes 4096"#]],
        );
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        check(
            |page| pressure(page, &[("io", text.to_owned()), ("cpu", "x".to_owned())]),
            &expect![[r#"
                stele_pressure_seconds_total{resource="io",threads="some"} 1.5
                stele_pressure_seconds_total{resource="io",threads="full"} 0"#]],
        );
    }

    #[test]
    fn links_and_disks() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:      10       1    0    0    0     0          0         0      10       1    0    0    0     0       0          0\n  eth0:1\n";
        check(
            |page| links(page, text),
            &expect![[r#"
            stele_link_received_bytes_total{link="lo"} 10
            stele_link_received_packets_total{link="lo"} 1
            stele_link_receive_errors_total{link="lo"} 0
            stele_link_receive_drops_total{link="lo"} 0
            stele_link_sent_bytes_total{link="lo"} 10
            stele_link_sent_packets_total{link="lo"} 1
            stele_link_send_errors_total{link="lo"} 0
            stele_link_send_drops_total{link="lo"} 0"#]],
        );
        let text = " 254       0 vda 5 0 16 7 3 0 8 2 0 1500 9 0 0 0 0 0 0\n 254       1 vda1 1 0 2 3 4 5 6 7 8 9 10\n";
        check(
            |page| disks(page, text, |disk| disk == "vda"),
            &expect![[r#"
            stele_disk_reads_total{disk="vda"} 5
            stele_disk_read_bytes_total{disk="vda"} 8192
            stele_disk_writes_total{disk="vda"} 3
            stele_disk_written_bytes_total{disk="vda"} 4096
            stele_disk_busy_seconds_total{disk="vda"} 1.5"#]],
        );
    }
}
