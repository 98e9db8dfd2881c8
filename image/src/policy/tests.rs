// SPDX-License-Identifier: Apache-2.0
//! Every refusal, with real programs of the machine that runs the tests where a program is needed.

use super::*;
use std::path::Path;
use std::process::Command;

fn root_with(path: &str, mode: u32, data: Vec<u8>) -> Tree {
    let mut root = Tree::default();
    root.file(path, mode, data);
    root
}

fn allow(text: &str) -> AllowList {
    AllowList::parse(text).unwrap()
}

/// The findings for one file, which the allow-list names unless it is told not to.
fn judge(path: &str, mode: u32, data: Vec<u8>) -> String {
    findings(&root_with(path, mode, data), &allow(&format!("/{path} # a test"))).join("\n")
}

/// Compiles a small C program with the flags given.
fn compile(flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, output) = (folder.path().join("a.c"), folder.path().join("a"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let status = Command::new("cc").args(flags).arg("-o").arg(&output).arg(&source).status();
    assert!(status.unwrap().success());
    std::fs::read(output).unwrap()
}

const HARDENED: [&str; 5] =
    ["-static-pie", "-fPIE", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"];

#[test]
fn a_hardened_static_program_on_the_list_is_welcome() {
    assert_eq!(judge("sbin/init", 0o755, compile(&HARDENED)), "");
}

#[test]
fn shells_are_refused_by_name() {
    for path in ["bin/sh", "usr/bin/bash", "busybox"] {
        assert!(judge(path, 0o644, b"x".to_vec()).contains("is a shell by its name"), "{path}");
    }
    let mut root = Tree::default();
    root.link("bin/sh", "/sbin/init");
    assert!(findings(&root, &AllowList::default())[0].contains("a shell"));
}

#[test]
fn a_shell_under_another_name_is_refused_by_its_content() {
    for shell in ["/bin/sh", "/bin/bash"] {
        let Ok(data) = std::fs::read(shell) else { continue };
        let found = judge("sbin/init", 0o755, data);
        assert!(found.contains("/sbin/init is a shell by its content"), "{shell}: {found}");
    }
}

#[test]
fn interpreters_are_refused() {
    for path in ["usr/bin/python3.13", "usr/bin/perl", "usr/bin/lua5.4", "usr/bin/awk"] {
        assert!(judge(path, 0o755, b"x".to_vec()).contains("an interpreter"), "{path}");
    }
    if Path::new("/usr/bin/perl").exists() {
        let found = judge("sbin/init", 0o755, std::fs::read("/usr/bin/perl").unwrap());
        assert!(found.contains("by its content"), "{found}");
    }
}

#[test]
fn what_only_begins_like_an_interpreter_is_none() {
    for path in ["usr/lib/stele/nodes", "usr/lib/stele/perlite", "lib/modules/1/ruby.ko"] {
        assert_eq!(by_name(path), None, "{path}");
    }
}

#[test]
fn package_managers_are_refused() {
    assert!(judge("usr/bin/dpkg", 0o755, b"x".to_vec()).contains("a package manager"));
}

#[test]
fn scripts_are_refused() {
    assert!(judge("usr/lib/stele/helper", 0o755, b"#!/bin/sh\n".to_vec()).contains("is a script"));
}

#[test]
fn setuid_and_setgid_are_refused() {
    for mode in [0o4755, 0o2755, 0o6644] {
        assert!(judge("usr/share/x", mode, b"x".to_vec()).contains("setuid or setgid"), "{mode:o}");
    }
}

#[test]
fn an_executable_off_the_list_is_refused() {
    let root = root_with("usr/lib/stele/extra", 0o755, compile(&HARDENED));
    assert!(findings(&root, &AllowList::default())[0].contains("image/allowlist does not name"));
    // The bits of the mode do not matter: it is a program all the same.
    let root = root_with("usr/lib/stele/extra", 0o644, compile(&HARDENED));
    assert!(findings(&root, &AllowList::default())[0].contains("image/allowlist does not name"));
}

#[test]
fn a_name_on_the_list_that_the_root_lacks_is_refused() {
    assert!(
        findings(&Tree::default(), &allow("/gone # once"))[0]
            .contains("/gone is in the allow-list but not in the root")
    );
}

#[test]
fn each_missing_hardening_is_named() {
    let cases: [(&[&str], &str); 3] = [
        (&["-static", "-no-pie", "-Wl,-z,relro", "-Wl,-z,now"], "is not position independent"),
        (&["-pie", "-fPIE", "-fplt", "-Wl,-z,norelro"], "is not full RELRO"),
        (
            &["-static-pie", "-fPIE", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,execstack"],
            "is not without an executable stack",
        ),
    ];
    for (flags, expected) in cases {
        let found = judge("sbin/init", 0o755, compile(flags));
        assert!(found.contains(expected), "{flags:?}: {found}");
    }
}

#[test]
fn a_listed_lack_is_accepted_and_an_unneeded_one_is_not() {
    let plain = compile(&["-static", "-no-pie", "-Wl,-z,relro", "-Wl,-z,now"]);
    let root = root_with("x", 0o755, plain);
    let listed = findings(&root, &allow("/x lacks=pie # a test"));
    assert!(!listed.iter().any(|finding| finding.contains("position independent")), "{listed:?}");
    let root = root_with("x", 0o755, compile(&HARDENED));
    assert!(findings(&root, &allow("/x lacks=pie # a test"))[0].contains("but has it"));
}

#[test]
fn a_dynamic_program_needs_its_loader_and_its_libraries() {
    let found =
        judge("usr/sbin/tool", 0o755, compile(&["-pie", "-fPIE", "-Wl,-z,relro", "-Wl,-z,now"]));
    assert!(found.contains("wants the loader /lib64/ld-linux-x86-64.so.2"), "{found}");
    assert!(found.contains("needs libc.so.6"), "{found}");
}

#[test]
fn a_truncated_program_is_named_as_broken() {
    assert!(judge("sbin/init", 0o755, compile(&HARDENED)[..100].to_vec()).contains("broken ELF"));
}

#[test]
fn the_list_wants_reasons() {
    for (text, expected) in [
        ("/x\n", "gives no reason"),
        ("/x #  \n", "an empty reason"),
        ("x # why\n", "no absolute path"),
        ("/x lacks=aslr # why\n", "none of pie, relro, nx"),
        ("/x # a\n/x # b\n", "twice"),
    ] {
        let error = format!("{:#}", AllowList::parse(text).unwrap_err());
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}
