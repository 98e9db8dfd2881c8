// SPDX-License-Identifier: Apache-2.0
//! Names, and the judgement of the tools of Debian where the machine has them.

use super::*;
use std::process::Command;

fn short(name: &str) -> String {
    String::from_utf8(short_name(name, &mut BTreeMap::new()).unwrap().to_vec()).unwrap()
}

#[test]
fn names_are_shortened_as_everyone_does() {
    assert_eq!(short("BOOTX64.EFI"), "BOOTX64 EFI");
    assert_eq!(short("loader.conf"), "LOADER~1CON");
    assert_eq!(short("stele_0.1.0+3-0.efi"), "STELE_~1EFI");
    assert_eq!(short("EFI"), "EFI        ");
    assert!(short_name("a/b", &mut BTreeMap::new()).is_err());
}

#[test]
fn the_same_short_name_is_not_given_twice() {
    let mut taken = BTreeMap::new();
    let names: BTreeSet<[u8; 11]> =
        (0..20).map(|n| short_name(&format!("stele_0.1.{n}.efi"), &mut taken).unwrap()).collect();
    assert_eq!(names.len(), 20);
    assert!(names.contains(b"STELE~10EFI"));
}

#[test]
fn a_name_that_fills_its_entries_has_no_terminator() {
    assert_eq!(long_entries("thirteen.conf", 0).unwrap().len(), 32);
    assert_eq!(long_entries("fourteen.confi", 0).unwrap().len(), 64);
}

fn sample(path: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let files: Vec<(String, Vec<u8>)> = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![1; 100_000]),
        (
            "EFI/Linux/stele_1.2.3.efi".to_owned(),
            (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect(),
        ),
        ("EFI/Linux/stele_1.2.4+3-0.efi".to_owned(), vec![7; 4096]),
        ("loader/loader.conf".to_owned(), b"timeout 0\n".to_vec()),
        ("loader/empty".to_owned(), Vec::new()),
    ];
    let borrowed: Vec<(String, &[u8])> =
        files.iter().map(|(path, data)| (path.clone(), &data[..])).collect();
    let file = std::fs::File::create(path).unwrap();
    file.set_len(512 << 20).unwrap();
    let fat = Fat {
        size: 512 << 20,
        start: 0,
        label: "ESP",
        serial: 0x1234_5678,
        epoch: 1_700_000_000,
        files: &borrowed,
    };
    fat.write(&mut &file).unwrap();
    files
}

/// Runs a tool of Debian; nothing where the machine does not have it.
fn tool(name: &str, arguments: &[&str]) -> Option<std::process::Output> {
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    Command::new(name).args(arguments).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1").output().ok()
}

#[test]
fn fsck_has_nothing_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("esp");
    sample(&path);
    let Some(output) = tool("fsck.fat", &["-n", path.to_str().unwrap()]) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn another_program_reads_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("esp");
    for (name, data) in sample(&path) {
        let Some(output) = tool("mtype", &["-i", path.to_str().unwrap(), &format!("::{name}")])
        else {
            return;
        };
        assert!(output.stdout == data, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let data = vec![0; 3 << 20];
    let files = [("a".to_owned(), &data[..])];
    let mut out = std::io::Cursor::new(Vec::new());
    let mut fat = Fat { size: 1 << 20, start: 0, label: "ESP", serial: 0, epoch: 0, files: &files };
    assert!(fat.write(&mut out).unwrap_err().to_string().contains("no size for FAT32"));
    let large = vec![0; 300 << 20];
    let files = [("a".to_owned(), &large[..])];
    fat = Fat { size: 260 << 20, files: &files, ..fat };
    assert!(
        fat.write(&mut out).unwrap_err().to_string().contains("The files need 314576896 bytes")
    );
}
