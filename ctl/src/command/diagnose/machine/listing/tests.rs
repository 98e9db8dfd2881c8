// SPDX-License-Identifier: Apache-2.0
//! Lists as they are shown.

use super::*;
use crate::output::{Paint, Table};
use expect_test::{Expect, expect};

fn check<T: Listing>(list: &T, expected: &Expect) {
    let mut table = Table::new(T::HEADER.iter().copied());
    for row in list.rows() {
        assert_eq!(row.len(), T::HEADER.len());
        table.row(row);
    }
    expected.assert_eq(&table.render(Paint::new(false)));
}

#[test]
fn processes() {
    let apid = Process {
        pid: 200,
        parent: 1,
        name: "apid".into(),
        state: "S".into(),
        uid: 201,
        threads: 4,
        memory_bytes: 12 << 20,
        cpu_us: 1_234_567,
        age_us: 3_700_000_000,
        cgroup: "/stele/apid".into(),
        ..Process::default()
    };
    let arguments = vec!["/usr/lib/stele/agent".into(), "dhcp".into(), "eth0".into()];
    let dhcp = Process { pid: 210, arguments, ..apid.clone() };
    let thread = Process { kernel_thread: true, name: "kthreadd".into(), ..Process::default() };
    let list = ProcessesResponse { processes: vec![apid, dhcp, thread], left_off: 0 };
    check(
        &list,
        &expect![[r#"
        PID  PARENT  UID  STATE  THREADS  MEMORY    CPU    AGE   GROUP        PROCESS
        200  1       201  S      4        12.0 MiB  1.23s  1h1m  /stele/apid  apid
        210  1       201  S      4        12.0 MiB  1.23s  1h1m  /stele/apid  /usr/lib/stele/agent dhcp eth0
        0    0       0    -      0        -         0.00s  0s    -            [kthreadd]
    "#]],
    );
    assert_eq!(list.value()[0]["cpuUs"], 1_234_567);
}

#[test]
fn memory() {
    let memory = MemoryResponse { total: 2 << 30, free: 5, ..MemoryResponse::default() };
    assert_eq!(memory.rows()[0], ["all of it", "2.0 GiB"]);
    assert_eq!((&memory.value()["free"], &memory.value()["swapTotal"]), (&json!(5), &json!(0)));
}

#[test]
fn groups_and_what_they_wait_for() {
    let stall = |threads: &str, average_10| Stall {
        resource: "io".into(),
        threads: threads.into(),
        average_10,
        ..Stall::default()
    };
    let group = ControlGroup {
        path: "/stele/apid".into(),
        tasks: 4,
        tasks_max: 16,
        memory_bytes: 12 << 20,
        cpu_us: 10_000,
        pressure: vec![stall("some", 1.5), stall("full", 1.0)],
        ..ControlGroup::default()
    };
    check(
        &CgroupsResponse { groups: vec![group], left_off: 0 },
        &expect![[r#"
        GROUP        TASKS  OF  MEMORY    OF  PEAK  CPU    THROTTLED  OOM KILLS  PRESSURE
        /stele/apid  4      16  12.0 MiB  -   -     0.01s  -          -          io 1.50%
    "#]],
    );
    check(
        &PressureResponse { stalls: vec![stall("some", 1.5)] },
        &expect![[r#"
        RESOURCE  THREADS  10 S   1 MIN  5 MIN  ALL
        io        some     1.50%  0.00%  0.00%  0.00s
    "#]],
    );
}

#[test]
fn sockets_mounts_and_disks() {
    let socket = Socket {
        protocol: "tcp6".into(),
        local: "[::]:50000".into(),
        state: "listen".into(),
        uid: 201,
        service: "apid".into(),
        ..Socket::default()
    };
    check(
        &SocketsResponse { sockets: vec![socket], left_off: 0 },
        &expect![[r#"
        PROTOCOL  LOCAL       REMOTE  STATE   UID  SERVICE  TO READ  TO SEND
        tcp6      [::]:50000  -       listen  201  apid     -        -
    "#]],
    );
    let root = Mount {
        target: "/".into(),
        source: "/dev/loop0".into(),
        r#type: "squashfs".into(),
        options: vec!["ro".into(), "nodev".into()],
        size: 40 << 20,
        free: 0,
    };
    let proc = Mount { target: "/proc".into(), r#type: "proc".into(), ..Mount::default() };
    check(
        &MountsResponse { mounts: vec![root, proc], left_off: 0 },
        &expect![[r#"
        TARGET  SOURCE      TYPE      SIZE      FREE  OPTIONS
        /       /dev/loop0  squashfs  40.0 MiB  0 B   ro,nodev
        /proc   -           proc      -         -     -
    "#]],
    );
    let partition = Partition { name: "vda1".into(), start: 1 << 20, size: 1 << 30 };
    let disk = Disk {
        name: "vda".into(),
        size: 8 << 30,
        removable: true,
        partitions: vec![partition],
        read_bytes: 4096,
        ..Disk::default()
    };
    check(
        &DisksResponse { disks: vec![disk], left_off: 0 },
        &expect![[r#"
        DISK    SIZE     MODEL  SERIAL  IS         READ     WRITTEN  BUSY
        vda     8.0 GiB  -      -       removable  4.0 KiB  0 B      0.00s
          vda1  1.0 GiB  -      -       -          -        -        -
    "#]],
    );
}
