// SPDX-License-Identifier: Apache-2.0
//! The smaller kinds: that the example of every kind is good, and what the reader says to what is not.

use crate::findings::check;
use crate::pki;
use expect_test::expect;
use stele_config::{canonical, reference, schema, yaml};

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
value: true
---
apiVersion: stele/v1
kind: Sysctl
name: kernel.yama.ptrace_scope
value: 3
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
            document 4 (Sysctl), line 16, value: is true; expected text on one line or a number, such as 1
            document 5 (Sysctl), line 21, value: can't be taken back before the next boot; expected another value
            document 6 (Sysctl), line 25, name: "../etc" is not the name of a kernel setting: a part of it is empty; expected the name of a kernel setting, such as vm.swappiness
            document 6 (Sysctl), line 26, value: is a list; expected text on one line or a number, such as 1
            document 8 (Sysctl), line 36, value: "a\nb" is no setting: '\n' has no place in it; expected text on one line or a number, such as 1
            document 9 (Sysctl), line 40, name: there is another Sysctl vm.swappiness, on line 55; expected one Sysctl for each setting
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

#[test]
fn registries_and_secrets() {
    check(
        "
apiVersion: stele/v1
kind: RegistryMirror
name: https://registry.example
endpoints: [mirror.example, 'https://mirror.example/?a=b']
---
apiVersion: stele/v1
kind: RegistryAuth
name: registry.example:0
username: 'a:b'
password: 42
---
apiVersion: stele/v1
kind: RegistryAuth
name: registry.example
username: me
password: \"[redacted]\"
---
apiVersion: stele/v1
kind: RegistryAuth
name: registry.example
username: me
password: \"s3cret\\n\"
",
        &expect![[r#"
            document 2 (RegistryMirror), line 5, name: "https://registry.example" is not a registry: the port is no number from 1 to 65535; expected a registry, such as registry.example.com:5000
            document 2 (RegistryMirror), line 6, endpoints[0]: "mirror.example" is not a URL: it does not begin with http:// or https://; expected a URL, such as http://127.0.0.1:8080/healthz
            document 3 (RegistryAuth), line 10, name: "registry.example:0" is not a registry: the port is no number from 1 to 65535; expected a registry, such as registry.example.com:5000
            document 3 (RegistryAuth), line 12, password: is not text; expected a password, such as a long one
            document 4 (RegistryAuth), line 18, password: is redacted: this configuration was shown without its secrets; expected a password, such as a long one
            document 5 (RegistryAuth), line 24, password: is no password; expected text on one line, not empty
        "#]],
    );
}

#[test]
fn passwords_are_redacted() {
    let auth = "apiVersion: stele/v1\nkind: RegistryAuth\nname: R.example\nusername: me\npassword: s3cret\n";
    let stream = format!("{}---\n{auth}", pki::make("authority").yaml());
    let config = yaml::parse(stream.as_bytes()).unwrap();
    assert_eq!(config.registry_auths()[0].password(), "s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
    let odd = yaml::parse(stream.replace("s3cret", "'7e913'").as_bytes()).unwrap();
    assert_eq!(yaml::parse(yaml::print(&canonical::write(&odd)).as_bytes()).unwrap(), odd);
    let redacted = String::from_utf8(canonical::redact(&config)).unwrap();
    assert!(redacted.contains(r#""name":"r.example","username":"me","password":"[redacted]""#));
}

#[test]
fn trusted_roots_are_authorities() {
    let leaf = pki::make("authority").leaf.replace('\n', "\n  ");
    check(
        &format!(
            "apiVersion: stele/v1\nkind: TrustedRoots\nname: ours\ncertificates: |\n  {leaf}\n"
        ),
        &expect![[r#"
            document 2 (TrustedRoots), line 5, certificates: is no certificate of an authority; expected basicConstraints with CA:TRUE
        "#]],
    );
}

#[test]
fn files() {
    check(
        "
apiVersion: stele/v1
kind: Files
name: app
files:
- {path: /etc/opt/app/a, content: a}
- {path: /etc/opt/app/a/b, content: b}
- {path: /etc/container/x, content: c}
- {path: /etc/opt/../passwd, content: d}
- {path: /etc/opt, content: e}
- {path: /etc/shadow, content: f, mode: \"0755\"}
- {path: /etc/cni/x, content: 42, mode: 644}
---
apiVersion: stele/v1
kind: Files
name: one
files: [{path: /etc/cdi/a, content: a}]
---
apiVersion: stele/v1
kind: Files
name: other
files: [{path: /etc/cdi/a, content: a}, {path: /etc/cdi/a/b, content: b}]
",
        &expect![[r#"
            document 2 (Files), line 9, files[2].path: "/etc/container/x" is not the path of a file: it is not below /etc/opt, /etc/containers, /etc/cni or /etc/cdi (did you mean "containers"?); expected the path of a file, such as /etc/opt/app/app.conf
            document 2 (Files), line 10, files[3].path: "/etc/opt/../passwd" is not the path of a file: ".." is no name of a file or folder; expected the path of a file, such as /etc/opt/app/app.conf
            document 2 (Files), line 11, files[4].path: "/etc/opt" is not the path of a file: "" is no name of a file or folder; expected the path of a file, such as /etc/opt/app/app.conf
            document 2 (Files), line 12, files[5].path: "/etc/shadow" is not the path of a file: it is not below /etc/opt, /etc/containers, /etc/cni or /etc/cdi; expected the path of a file, such as /etc/opt/app/app.conf
            document 2 (Files), line 12, files[5].mode: "0755" is not the mode of a file: nothing in /etc is executed; expected the mode of a file, such as "0640"
            document 2 (Files), line 13, files[6].content: is not text; expected the text of a file, such as what it says
            document 2 (Files), line 13, files[6].mode: is the number 644; expected the mode of a file, such as "0640"
            document 4 (Files), line 23, files[1]: /etc/cdi/a/b can't be there together with /etc/cdi/a; expected each file once, and none in another
            document 4 (Files), line 23, files[0]: is also the file /etc/cdi/a of Files one; expected each file once
            document 4 (Files), line 23, files[1]: can't be there together with /etc/cdi/a of Files one: one would be the other's folder; expected each file once
        "#]],
    );
}

#[test]
fn environments() {
    check(
        "
apiVersion: stele/v1
kind: Environment
name: bad
services: [apid]
variables: [A, 1A=x, NOTIFY_SOCKET=/x, \"A=s3cret\\n\", \"B=[redacted]\"]
---
apiVersion: stele/v1
kind: Environment
name: one
services: [probe, x]
variables: [A=1, NOTIFY_SOCKET=/x]
---
apiVersion: stele/v1
kind: Environment
name: other
services: [probe]
variables: [A=2, A=3]
",
        &expect![[r#"
            document 2 (Environment), line 7, variables[0]: has no =; expected a variable, such as NAME=value
            document 2 (Environment), line 7, variables[1]: has a name that is not of letters, digits and _; expected a variable, such as NAME=value
            document 2 (Environment), line 7, variables[3]: has a value of more than one line; expected a variable, such as NAME=value
            document 2 (Environment), line 7, variables[4]: is redacted: this configuration was shown without its secrets; expected a variable, such as NAME=value
            document 3 (Environment), line 13, variables[1]: NOTIFY_SOCKET is what PID 1 sets; expected another variable
            document 4 (Environment), line 19, variables[1]: A is there twice; expected another variable
            document 4 (Environment), line 19, variables[0]: A is also given to probe by Environment one; expected each variable of a service once
            document 4 (Environment), line 19, variables[1]: A is also given to probe by Environment one; expected each variable of a service once
        "#]],
    );
}

#[test]
fn kernel_args() {
    check(
        "
apiVersion: stele/v1
kind: KernelArgs
args: [mitigations=auto, transparent-hugepage=never, isolcpus=2-3, nosmt]
",
        &expect![[r#"
            good
        "#]],
    );
    check(
        "
apiVersion: stele/v1
kind: KernelArgs
args: [init=/bin/sh, hugepage=64, mitigations=off, stele.args=1, 'nosmt root=/dev/vda', loglevel=7, loglevel=7]
---
apiVersion: stele/v1
kind: KernelArgs
args: []
",
        &expect![[r#"
            document 2 (KernelArgs), line 5, args[0]: "init=/bin/sh" is not a kernel argument: init can't be given: it starts another program in the place of PID 1; expected a kernel argument, such as mitigations=auto
            document 2 (KernelArgs), line 5, args[1]: "hugepage=64" is not a kernel argument: hugepage is not among what this image allows (did you mean "hugepages"?); expected a kernel argument, such as mitigations=auto
            document 2 (KernelArgs), line 5, args[2]: "mitigations=off" is not a kernel argument: this image allows mitigations with auto or auto,nosmt alone; expected a kernel argument, such as mitigations=auto
            document 2 (KernelArgs), line 5, args[3]: "stele.args=1" is not a kernel argument: stele.args can't be given: the system says it to itself; expected a kernel argument, such as mitigations=auto
            document 2 (KernelArgs), line 5, args[4]: "nosmt root=/dev/vda" is not a kernel argument: its name is not of letters, digits, ., - and _; expected a kernel argument, such as mitigations=auto
            document 2 (KernelArgs), line 5, args[6]: is the same as item [5]; expected each item once
            document 3 (KernelArgs), line 9, args: has 0 items; expected a list of 1 to 64, each a kernel argument, such as mitigations=auto
        "#]],
    );
}
