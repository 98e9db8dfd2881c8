// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::stage::cpio::tests::archive;
use crate::stage::pe::MACHINE;
use crate::stage::pe::tests::{stele, uki};
use proptest::prelude::*;

/// What passes for a kernel.
pub(crate) fn kernel() -> Vec<u8> {
    let mut kernel = vec![7; 200_000];
    let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(4, b"zimg");
    put(SETUP_SECTS, &[3]);
    put(SYSSIZE, &((200_000u32 - 4 * 512) / 16).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS");
    kernel
}

/// What passes for a root file system.
fn rootfs() -> Vec<u8> {
    let mut rootfs = vec![9; 20_000];
    let mut put = |at: usize, bytes: &[u8]| rootfs[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"hsqs");
    put(22, &17u16.to_le_bytes());
    put(28, &4u16.to_le_bytes());
    put(30, &0u16.to_le_bytes());
    put(40, &19_000u64.to_le_bytes());
    for at in [48, 64, 72] {
        put(at, &18_000u64.to_le_bytes());
    }
    rootfs
}

pub(crate) fn initrd() -> Vec<u8> {
    archive(&[
        ("dev", 0o040_755, b""),
        ("init", 0o100_755, b"\x7fELF and more"),
        ("rootfs.sqsh", 0o100_444, &rootfs()),
    ])
}

fn with(kernel: &[u8], initrd: &[u8]) -> Vec<u8> {
    let osrel = b"IMAGE_ID=stele\nIMAGE_VERSION=1\n";
    let machine = if MACHINE == pe::Machine::X86_64 { 0x8664 } else { 0xaa64 };
    uki(machine, &[(".osrel", osrel), (".cmdline", b"q"), (".linux", kernel), (".initrd", initrd)])
}

fn why(image: &[u8]) -> String {
    examine(&image).unwrap_err().to_string()
}

#[test]
fn a_good_image() {
    let image = stele("1.1.0");
    let Anatomy { release, rootfs: Extent { offset, length } } =
        examine(&image.as_slice()).unwrap();
    assert_eq!(release.version.as_str(), "1.1.0");
    assert_eq!(&image[offset as usize..][..length as usize], rootfs());
}

#[test]
fn the_image_that_was_built_last() {
    // Where one was built, it must pass.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../out/stele.efi");
    if let Ok(file) = std::fs::File::open(path) {
        examine(&file).unwrap();
    }
}

#[test]
fn each_damage_is_named() {
    let good = stele("1.1.0");
    assert_eq!(why(b""), "the file is empty");
    assert_eq!(why(&[0; 100_000]), "the file holds nothing but zeros, 100000 of them");
    let late = [vec![0; 100_000], b"x".to_vec()].concat();
    assert_eq!(why(&late), "the file is not a UKI: it doesn't start like an EFI program");
    assert_eq!(
        why(&good[..100_000]),
        "the file is cut off: its section .linux ends at byte 202240, and the file has 100000 bytes"
    );
    assert_eq!(
        why(&good[..good.len() - 1000]),
        format!(
            "the file is cut off: its section .initrd ends at byte {}, and the file has {} bytes",
            good.len(),
            good.len() - 1000
        )
    );
    assert_eq!(
        why(&with(&kernel(), b"\x28\xb5\x2f\xfd")),
        "the initrd is damaged: at its byte 0 there is no cpio entry"
    );
    let broken = initrd();
    assert_eq!(
        why(&with(&kernel(), &broken[..10_000])),
        "the initrd breaks off: its entry rootfs.sqsh ends 10372 bytes behind the end"
    );
    let no_init = archive(&[("rootfs.sqsh", 0o100_444, &rootfs())]);
    assert_eq!(why(&with(&kernel(), &no_init)), "its initrd holds no /init");
    let text = archive(&[("init", 0o100_755, b"#!/bin/sh")]);
    assert!(why(&with(&kernel(), &text)).starts_with("the /init in its initrd is no program"));
    let no_root = archive(&[("init", 0o100_755, b"\x7fELF")]);
    assert_eq!(why(&with(&kernel(), &no_root)), "its initrd holds no /rootfs.sqsh");
    for (at, cause) in [
        (0, "the magic number hsqs is missing"),
        (28, "it is of another version than 4.0"),
        (22, "its block size makes no sense"),
        (47, "its size is not that of the file"),
        (71, "a table lies outside the file system"),
    ] {
        let mut damaged = rootfs();
        damaged[at] ^= 0x55;
        let initrd =
            archive(&[("init", 0o100_755, b"\x7fELF"), ("rootfs.sqsh", 0o100_444, &damaged)]);
        assert_eq!(
            why(&with(&kernel(), &initrd)),
            format!("the superblock of its root file system is damaged: {cause}")
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_that_are_none() {
    assert_eq!(
        why(&with(&[7; 100_000], &initrd())),
        "its section .linux holds no kernel for this machine: the boot flag is missing"
    );
    let mut other = kernel();
    other[0x202] = b'h';
    assert_eq!(
        why(&with(&other, &initrd())),
        "its section .linux holds no kernel for this machine: the magic number HdrS is missing"
    );
    assert_eq!(
        why(&with(&kernel()[..100_000], &initrd())),
        "its kernel is cut off: it has 200000 bytes by its header, and the section 100000"
    );
}

proptest! {
    #[test]
    fn no_damage_panics(at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>()) {
        let mut image = stele("1");
        // Most of the file means nothing: the headers, the kernel's, the initrd's.
        let places = [0..0x800, 0x800..0xc00, 203_000..203_600];
        let range = places[at % 3].clone();
        let place = range.start + at / 3 % range.len();
        image[place] = byte;
        let _ = examine(&image.as_slice());
        image.truncate(cut % image.len());
        let _ = examine(&image.as_slice());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = examine(&bytes.as_slice());
        let _ = examine(&[b"MZ".as_slice(), &bytes].concat().as_slice());
    }
}
