// SPDX-License-Identifier: Apache-2.0
//! The smaller kinds: that the example of every kind is good, and what the reader says to what is not.

use crate::findings::check;
use crate::pki;
use expect_test::expect;
use stele_config::{reference, schema, yaml};

#[test]
fn every_example_is_good() {
    let identity = pki::make("authority").yaml();
    let schema = jsonschema::validator_for(&schema::json()).unwrap();
    for (kind, example) in reference::examples() {
        let document: serde_json::Value = serde_yaml::from_str(example).unwrap();
        assert_eq!(document["kind"], kind);
        assert!(schema.is_valid(&document), "{kind}");
        // That of Identity leaves its secrets out.
        if kind != "Identity" {
            let read = yaml::parse(format!("{identity}---\n{example}").as_bytes());
            assert!(read.is_ok(), "{kind}: {read:?}");
        }
    }
}

#[test]
fn sysctls() {
    check(
        "
apiVersion: stele/v1
kind: Sysctl
name: net.ipv4.ip_forward
value: 1
---
apiVersion: stele/v1
kind: Sysctl
name: net.ipv4.tcp_rmem
value: 4096 131072 6291456
",
        &expect![[r#"
            good
        "#]],
    );
    check(
        "
apiVersion: stele/v1
kind: Sysctl
name: kernel.modprobe
value: /bin/sh
---
apiVersion: stele/v1
kind: Sysctl
name: kernel.core_pattern
value: '|/bin/sh'
---
apiVersion: stele/v1
kind: Sysctl
name: fs.binfmt_misc.register
value: 1.5
---
apiVersion: stele/v1
kind: Sysctl
name: ../etc
value: [1]
---
apiVersion: stele/v1
kind: Sysctl
name: vm.swappiness
value: 1
---
apiVersion: stele/v1
kind: Sysctl
name: vm.swappiness
value: \"a\\nb\"
---
apiVersion: stele/v1
kind: Sysctl
name: vm.swappiness
value: 2
",
        &expect![[r#"
            document 2 (Sysctl), line 5, name: kernel.modprobe can't be set: the kernel starts no programs; KernelModule loads modules; expected another setting
            document 3 (Sysctl), line 11, value: has the kernel start a program for each crash, as root and outside of every sandbox; expected the name of a file
            document 4 (Sysctl), line 16, value: is the number 1.5; expected text on one line or a whole number, such as 1
            document 5 (Sysctl), line 20, name: "../etc" is not the name of a kernel setting: a part of it is empty; expected the name of a kernel setting, such as vm.swappiness
            document 5 (Sysctl), line 21, value: is a list; expected text on one line or a whole number, such as 1
            document 7 (Sysctl), line 31, value: "a\nb" is no setting: '\n' has no place in it; expected text on one line or a whole number, such as 1
            document 8 (Sysctl), line 35, name: there is another Sysctl vm.swappiness, on line 50; expected one Sysctl for each setting
        "#]],
    );
}

#[test]
fn kernel_modules() {
    check(
        "
apiVersion: stele/v1
kind: KernelModule
name: br-netfilter
---
apiVersion: stele/v1
kind: KernelModule
name: br_netfilter
parameters: [a b, 'a=1 b=2', a=1, a=1]
---
apiVersion: stele/v1
kind: KernelModule
name: ../x.ko
",
        &expect![[r#"
            document 3 (KernelModule), line 10, parameters[0]: "a b" is not a parameter of a module: it has no =; expected a parameter of a module, such as numdummies=2
            document 3 (KernelModule), line 10, parameters[1]: "a=1 b=2" is not a parameter of a module: ' ' has no place in its value; expected a parameter of a module, such as numdummies=2
            document 3 (KernelModule), line 10, parameters[3]: is the same as item [2]; expected each item once
            document 4 (KernelModule), line 14, name: "../x.ko" is not the name of a kernel module: '.' is not a letter, a digit, - or _; expected the name of a kernel module, such as br_netfilter
        "#]],
    );
}
