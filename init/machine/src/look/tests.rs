// SPDX-License-Identifier: Apache-2.0
use super::{Fault, Machine, Nic, Setting, listening, look};
use expect_test::{Expect, expect};
use std::{collections::BTreeMap, time::Duration};
use stele_config::{Device, MachineConfig, Places, canonical};

fn config(documents: &[&str]) -> MachineConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let mut all = vec![format!(
        r#"{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}}"#
    )];
    let version = |document: &str| if document.contains("\"match\"") { "v2" } else { "v1" };
    all.extend(
        documents.iter().map(|document| {
            format!(r#"{{"apiVersion":"stele/{}",{document}}}"#, version(document))
        }),
    );
    canonical::read(format!("[{}]", all.join(",")).as_bytes()).unwrap()
}

fn check(machine: &Machine, documents: &[&str], expected: &Expect) {
    let findings = Places::default().find(look(&config(documents), machine));
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

fn machine() -> Machine {
    Machine {
        up: true,
        links: BTreeMap::from([
            (
                "eth0".to_owned(),
                Nic {
                    device: Device {
                        mac: "52:54:00:12:34:56".parse().ok(),
                        path: "pci-0000:00:03.0".parse().ok(),
                        driver: "virtio_net".parse().ok(),
                    },
                    max_mtu: Some(1500),
                },
            ),
            ("lo".to_owned(), Nic::default()),
        ]),
        addresses: vec!["10.0.2.15".parse().unwrap(), "::1".parse().unwrap()],
        listening: vec!["0.0.0.0:50000".parse().unwrap(), "10.0.2.15:9100".parse().unwrap()],
        memory: Some(1 << 30),
        huge_page: Some(2 << 20),
        room: Some(1 << 20),
        size: 100_000,
        ..Machine::default()
    }
}

#[test]
fn links() {
    check(
        &machine(),
        &[
            r#""kind":"Link","name":"eth0","mtu":9000,"addresses":["10.0.0.1/24","fe80::1/64"]"#,
            r#""kind":"Link","name":"eth9","addresses":["10.0.0.1/16","fe80::1/64"]"#,
        ],
        &expect![[r#"
            Link, mtu: eth0 carries no packets of 9000 bytes; expected at most 1500
            warning: Link, name: this machine has no interface eth9 now (did you mean "eth0"?); expected one of eth0, lo
            warning: Link, addresses[0]: 10.0.0.1 is an address of eth0 as well; expected each address on one link"#]],
    );
    check(
        &machine(),
        &[
            r#""kind":"Link","name":"bond0","addresses":["10.0.0.1/24"]"#,
            r#""kind":"Bond","name":"bond0","links":["eth0","eht1"]"#,
            r#""kind":"VLAN","name":"storage","link":"bond0","id":5"#,
        ],
        &expect![
            "warning: Bond, links: this machine has no interface eht1 now; expected one of eth0, lo"
        ],
    );
    check(&Machine::default(), &[r#""kind":"Link","name":"lo","mtu":9000"#], &expect![""]);
}

#[test]
fn links_by_hardware_address() {
    let by = |name: &str, mac: &str| {
        format!(r#""kind":"Link","name":"{name}","mtu":9000,"match":{{"mac":"{mac}"}}"#)
    };
    check(
        &machine(),
        &[
            r#""kind":"Link","name":"eth0""#,
            &by("up", "52:54:00:12:34:56"),
            &by("x", "52:54:00:00:00:01"),
        ],
        &expect![[r#"
            Link, mtu: eth0 carries no packets of 9000 bytes; expected at most 1500
            Link, match: eth0 is the interface of Link eth0 too; expected one Link for each interface
            warning: Link, match: this machine has no interface with 52:54:00:00:00:01 now; expected one of 52:54:00:12:34:56"#]],
    );
}

#[test]
fn where_figures_can_be_had() {
    let at = |address: &str| format!(r#""kind":"Metrics","address":"{address}""#);
    for good in ["0.0.0.0:9101", "[::]:9101", "10.0.2.15:9101", "127.0.0.1:9100"] {
        check(&machine(), &[&at(good)], &expect![""]);
    }
    check(
        &machine(),
        &[&at("10.0.2.16:9101")],
        &expect![
            "warning: Metrics, address: this machine does not have the address 10.0.2.16 now; expected 0.0.0.0, [::] or one of 10.0.2.15, ::1"
        ],
    );
    let link = r#""kind":"Link","name":"eth0","addresses":["10.0.2.16/24"]"#;
    check(&machine(), &[&at("10.0.2.16:9101"), link], &expect![""]);
    for taken in ["0.0.0.0:9100", "10.0.2.15:9100"] {
        check(
            &machine(),
            &[&at(taken)],
            &expect![
                "warning: Metrics, address: something on this machine listens on 10.0.2.15:9100 now; expected another port"
            ],
        );
    }
}

#[test]
fn settings() {
    let beside = vec!["vm.swappiness".to_owned(), "vm.panic_on_oom".to_owned()];
    let absent = |name: &str| (name.to_owned(), Setting::Absent(beside.clone()));
    let with = |name: &str| Machine { settings: BTreeMap::from([absent(name)]), ..machine() };
    let swap = r#""kind":"Sysctl","name":"vm.swapiness","value":"1""#;
    check(
        &with("vm.swapiness"),
        &[swap],
        &expect![[
            r#"Sysctl, name: this kernel has no setting vm.swapiness (did you mean "vm.swappiness"?); expected the name of a file in /proc/sys, with dots"#
        ]],
    );
    let early = Machine { up: false, ..with("vm.swapiness") };
    let module = r#""kind":"KernelModule","name":"br_netfilter""#;
    for (machine, documents) in [(early, vec![swap]), (with("vm.swapiness"), vec![swap, module])] {
        check(
            &machine,
            &documents,
            &expect![[
                r#"warning: Sysctl, name: this kernel has no setting vm.swapiness now (did you mean "vm.swappiness"?); expected the name of a file in /proc/sys, with dots"#
            ]],
        );
    }
    check(
        &with("net.ipv4.conf.eth9.forwarding"),
        &[r#""kind":"Sysctl","name":"net.ipv4.conf.eth9.forwarding","value":"1""#],
        &expect![
            "warning: Sysctl, name: this kernel has no setting net.ipv4.conf.eth9.forwarding now; expected the name of a file in /proc/sys, with dots"
        ],
    );
    let told = BTreeMap::from([("kernel.version".to_owned(), Setting::ReadOnly)]);
    check(
        &Machine { settings: told, ..machine() },
        &[r#""kind":"Sysctl","name":"kernel.version","value":"1""#],
        &expect![
            "Sysctl, name: the kernel tells kernel.version, and does not let it be set; expected another setting"
        ],
    );
}

#[test]
fn memory_and_room() {
    let pages =
        |count: u32| format!(r#""kind":"Sysctl","name":"vm.nr_hugepages","value":"{count}""#);
    check(&machine(), &[&pages(512)], &expect![""]);
    check(
        &machine(),
        &[&pages(20_000), r#""kind":"Sysctl","name":"vm.min_free_kbytes","value":"1048577""#],
        &expect![[r#"
            warning: Sysctl, value: takes 1024 MiB, and the machine has 1024 MiB; expected less than 1048576
            warning: Sysctl, value: takes 39 GiB, and the machine has 1024 MiB; expected less than 512"#]],
    );
    check(
        &Machine { room: Some(4096), ..machine() },
        &[],
        &expect![
            "configuration: keeping it takes 97 KiB, and 4096 bytes are free on STATE; expected fewer or smaller documents"
        ],
    );
}

#[test]
fn modules_and_watchdogs() {
    let fault = Fault {
        path: "name".to_owned(),
        message: "this image has no module flopy".to_owned(),
        expected: "a module of the image".to_owned(),
    };
    let watchdogs = BTreeMap::from([("watchdog0".to_owned(), Duration::from_secs(45))]);
    let modules = BTreeMap::from([("flopy".to_owned(), fault)]);
    check(
        &Machine { modules, watchdogs, ..machine() },
        &[r#""kind":"KernelModule","name":"flopy""#, r#""kind":"Watchdog","timeout":"46s""#],
        &expect![[r#"
            warning: Watchdog, timeout: watchdog0 waits for 45 s at most, and is set to that; expected at most 45s
            KernelModule, name: this image has no module flopy; expected a module of the image"#]],
    );
}

#[test]
fn the_kernel_s_table_of_sockets_is_read() {
    let four = "  sl  local_address rem_address   st tx_queue\n   \
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
        1: 0F02000A:C350 0202000A:B5F0 01 00000000:00000000\n";
    let six = "  sl  local_address remote_address st\n   \
        0: 00000000000000000000000000000000:C350 00000000000000000000000000000000:0000 0A 0\n   \
        1: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0\n";
    let read = |table: &str| listening(table).map(|at| at.to_string()).collect::<Vec<_>>();
    assert_eq!(read(four), ["127.0.0.1:8080"]);
    assert_eq!(read(six), ["[::]:50000", "[2001:db8::1]:80"]);
    assert_eq!(read("\n 0: zz:1 x 0A\n\n 1: 00:1 y 0A"), [""; 0]);
}

#[test]
fn arguments_that_this_machine_cannot_have() {
    let pages = r#""kind":"KernelArgs","args":["hugepages=400"]"#;
    let few = r#""kind":"KernelArgs","args":["hugepages=64"]"#;
    let none =
        Machine { no_arguments: Some("it has no boot loader".to_owned()), ..Machine::default() };
    check(&machine(), &[few], &expect![""]);
    check(
        &machine(),
        &[pages],
        &expect![[
            r#"KernelArgs, args: the huge pages would take 800 MiB, and of the machine's 1024 MiB 512 have to be left; expected fewer huge pages"#
        ]],
    );
    check(
        &none,
        &[few],
        &expect!["KernelArgs, args: it has no boot loader; expected no KernelArgs"],
    );
    check(&none, &[], &expect![""]);
    let has = Machine { arguments: vec!["hugepages=64".to_owned()], ..none };
    check(
        &has,
        &[few],
        &expect!["warning: KernelArgs, args: it has no boot loader; expected no KernelArgs"],
    );
}
