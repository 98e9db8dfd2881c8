// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::stage::pe::tests::{stele, uki};
use proptest::prelude::*;

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("stele-stage-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn run(folder: &Folder, announced: &Announced, mut bytes: &[u8]) -> Result<Staged, String> {
    stage(&folder.0, announced, &mut bytes, |_| {}).map_err(|error| error.to_string())
}

fn announced(bytes: &[u8]) -> Announced {
    Announced { size: Some(bytes.len() as u64), sha256: Some(Sha256::digest(bytes).into()) }
}

const NOTHING: Announced = Announced { size: None, sha256: None };

#[test]
fn a_good_image() {
    let folder = Folder::new("good");
    let image = stele("1.1.0");
    for announced in [announced(&image), NOTHING] {
        let staged = run(&folder, &announced, &image).unwrap();
        assert_eq!(staged.size, image.len() as u64);
        assert_eq!(folder.names(), ["stele_1.1.0.efi.staged"]);
        assert_eq!(std::fs::read(folder.0.join("stele_1.1.0.efi.staged")).unwrap(), image);
    }
}

#[test]
fn what_a_killed_attempt_left_is_replaced() {
    let folder = Folder::new("left");
    std::fs::write(folder.0.join(INCOMING), b"half").unwrap();
    let image = stele("1.1.0");
    run(&folder, &announced(&image), &image).unwrap();
    assert_eq!(folder.names(), ["stele_1.1.0.efi.staged"]);
}

#[test]
fn every_refusal_has_numbers_and_leaves_nothing() {
    let folder = Folder::new("bad");
    std::fs::write(folder.0.join("stele_1.0.0.efi"), b"running").unwrap();
    let image = stele("1.1.0");
    let length = image.len();
    let good = announced(&image);
    let half = image.get(..length / 2).unwrap();
    let longer = [image.as_slice(), b"x"].concat();
    let mut flipped = image.clone();
    flipped[length - 1] ^= 1;
    let zeros = vec![0; 100_000];
    let elsewhere = uki(0xaa64, &[(".linux", &[0; 70_000])]);
    let foreign = uki(
        0x8664,
        &[
            (".osrel", b"IMAGE_ID=other\n"),
            (".cmdline", b"q"),
            (".linux", &[1; 70_000]),
            (".initrd", b"i"),
        ],
    );
    let huge = Announced { size: Some(u32::MAX.into()), sha256: None };

    let cases: Vec<(&Announced, &[u8], String)> = vec![
        (
            &good,
            half,
            format!(
                "the image was cut off: {length} bytes were to come, {} bytes came",
                half.len()
            ),
        ),
        (&good, &[], format!("the image was cut off: {length} bytes were to come, 0 bytes came")),
        (&good, b"MZ", format!("the image was cut off: {length} bytes were to come, 2 bytes came")),
        (
            &NOTHING,
            half,
            format!(
                "the image was cut off: {length} bytes were to come, {} bytes came",
                half.len()
            ),
        ),
        (&NOTHING, &[], "an image has between 1 and 4294967295 bytes, this one has 0".into()),
        (&good, &longer, format!("{length} bytes were announced, and more came")),
        (&NOTHING, &zeros, "the file is not a UKI: it doesn't start like an EFI program".into()),
        (&NOTHING, b"#!", "the file is not a UKI: it doesn't start like an EFI program".into()),
        (&NOTHING, &foreign, "the image is of \"other\", not of stele".into()),
    ];
    for (announced, bytes, expected) in cases {
        assert_eq!(run(&folder, announced, bytes).unwrap_err(), expected);
        assert_eq!(folder.names(), ["stele_1.0.0.efi"], "{expected}");
    }
    assert!(
        run(&folder, &good, &flipped)
            .unwrap_err()
            .starts_with("the image arrived damaged: its SHA-256 is ")
    );
    if cfg!(target_arch = "x86_64") {
        assert_eq!(
            run(&folder, &NOTHING, &elsewhere).unwrap_err(),
            "the image is for aarch64, this machine is x86-64"
        );
    }
    if free(&folder.0).unwrap() < u64::from(u32::MAX) {
        assert!(
            run(&folder, &huge, &image)
                .unwrap_err()
                .starts_with("the image has 4294967295 bytes, and the boot partition has ")
        );
    }
    assert_eq!(folder.names(), ["stele_1.0.0.efi"]);
}

#[test]
fn input_that_fails_leaves_nothing() {
    struct Breaks(Vec<u8>);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::other("told to stop"));
            }
            let length = buffer.len().min(self.0.len());
            buffer[..length].copy_from_slice(&self.0.drain(..length).collect::<Vec<_>>());
            Ok(length)
        }
    }
    let folder = Folder::new("breaks");
    let image = stele("1.1.0");
    let result = stage(
        &folder.0,
        &announced(&image),
        &mut Breaks(image.get(..100_000).unwrap().to_vec()),
        |_| {},
    );
    assert!(matches!(result, Err(StageError::Input(_))));
    assert_eq!(folder.names(), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_damaged_image_is_never_half_there(at in 0..0x600usize, value in any::<u8>(), cut in 0..300_000usize) {
        let folder = Folder::new("damaged");
        let mut image = stele("1.1.0");
        image[at] = value;
        image.truncate(cut);
        let result = run(&folder, &NOTHING, &image);
        let names = folder.names();
        match result {
            Ok(staged) => prop_assert_eq!(names, vec![staged.file.to_string()]),
            Err(_) => prop_assert_eq!(names, Vec::<String>::new()),
        }
    }
}
