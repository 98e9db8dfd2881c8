// SPDX-License-Identifier: Apache-2.0
use std::io::Read;

use super::*;
use crate::stage::pe::tests::{stele, uki};
use base64ct::{Base64, Encoding as _};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use stele_layout::slot::INCOMING;
use stele_signature::SigningKey;
use stele_signature::cosign::{self, Document};

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

fn sum(bytes: &[u8]) -> Sha256Sum {
    Sha256Sum(Sha256::digest(bytes).into())
}

/// The key of these tests.
fn key() -> SigningKey {
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmb2+J/Pw1AzYqonf\n\
HkaNp+WZ2O3pHogbuHwUsNLTzVyhRANCAATCiJBbmgfpYff2gevkbfDihcNY+R/H\n\
1nAlZmkTnnw6TEIfaNkrv0Pi3JQiMcyTwWhU1udO35gIEGertgnrr6Ns\n\
-----END PRIVATE KEY-----";
    SigningKey::from_pem(PEM).unwrap()
}

fn request(folder: &Folder, image: &[u8]) -> receive::Request {
    receive::Request {
        part: folder.0.join("image.part"),
        from: 0,
        size: Some(image.len() as u64),
        sha256: Some(sum(image)),
        signature: Some(stele_signature::write(&key().sign(&sum(image).0).unwrap())),
        vouched: None,
        keys: vec![key().public().to_pem().unwrap()],
    }
}

/// The same without size and digest, as it is with a URL.
fn unannounced(folder: &Folder, image: &[u8]) -> receive::Request {
    receive::Request { size: None, sha256: None, ..request(folder, image) }
}

fn run(request: &receive::Request, mut bytes: &[u8]) -> Result<receive::Received, String> {
    receive::receive(request, &mut bytes, |_| {}).map_err(|error| report::sentence(&error))
}

#[test]
fn a_good_image_arrives_and_is_written() {
    let folder = Folder::new("good");
    let image = stele("1.1.0");
    for request in [request(&folder, &image), unannounced(&folder, &image)] {
        let received = run(&request, &image).unwrap();
        assert_eq!((received.size, received.sha256), (image.len() as u64, sum(&image)));
        assert_eq!(received.key, key().public().id());
        assert_eq!(received.anatomy.release.version.as_str(), "1.1.0");
        assert_eq!(std::fs::read(&request.part).unwrap(), image);
        let esp = Folder::new("esp");
        std::fs::write(esp.0.join(INCOMING), b"half").unwrap();
        let order = write::Request {
            part: request.part.clone(),
            directory: esp.0.clone(),
            version: "1.1.0".into(),
            size: received.size,
            sha256: received.sha256,
        };
        write::write(&order, |_| {}).unwrap();
        assert_eq!(esp.names(), ["stele_1.1.0.efi.staged"]);
        assert_eq!(std::fs::read(esp.0.join("stele_1.1.0.efi.staged")).unwrap(), image);

        // What changed on the way to the ESP does not stay there.
        for order in [
            write::Request { sha256: sum(b"other"), ..order.clone() },
            write::Request { size: 100, ..order.clone() },
            write::Request { part: folder.0.join("nothing"), ..order.clone() },
        ] {
            let esp = Folder::new("esp-bad");
            assert!(
                write::write(&write::Request { directory: esp.0.clone(), ..order }, |_| {})
                    .is_err()
            );
            assert_eq!(esp.names(), Vec::<String>::new());
        }
        std::fs::remove_file(&request.part).unwrap();
    }
}

#[test]
fn what_breaks_off_is_kept_and_gone_on_from() {
    let folder = Folder::new("resume");
    let image = stele("1.1.0");
    for mut request in [request(&folder, &image), unannounced(&folder, &image)] {
        let length = image.len();
        for (from, to) in [(0, 10), (10, 70_000), (70_000, length - 1)] {
            request.from = from as u64;
            let expected = if to == 10 && request.size.is_none() {
                // Nobody knows yet how many bytes there are, and ten are no image.
                continue;
            } else {
                format!("the image was cut off: {length} bytes were to come, {to} bytes came")
            };
            let start = std::fs::metadata(&request.part).map_or(0, |metadata| metadata.len());
            request.from = start;
            assert_eq!(run(&request, &image[start as usize..to]).unwrap_err(), expected);
            assert_eq!(std::fs::metadata(&request.part).unwrap().len(), to as u64);
        }
        request.from = length as u64 - 1;
        assert_eq!(run(&request, &image[length - 1..]).unwrap().sha256, sum(&image));
        // All is here already.
        request.from = length as u64;
        assert_eq!(run(&request, &[]).unwrap().sha256, sum(&image));
        // Going back to an earlier byte is fine too.
        request.from = 100;
        assert_eq!(run(&request, &image[100..]).unwrap().sha256, sum(&image));
        std::fs::remove_file(&request.part).unwrap();
    }
}

#[test]
fn every_refusal_has_its_reason_and_leaves_nothing() {
    let folder = Folder::new("bad");
    let image = stele("1.1.0");
    let length = image.len();
    let good = request(&folder, &image);
    let longer = [image.as_slice(), b"x"].concat();
    let mut flipped = image.clone();
    flipped[length - 1] ^= 1;
    let zeros = vec![0; 100_000];
    let empty: Vec<u8> = Vec::new();
    let foreign = uki(
        if cfg!(target_arch = "x86_64") { 0x8664 } else { 0xaa64 },
        &[
            (".osrel", b"IMAGE_ID=other\n"),
            (".cmdline", b"q"),
            (".linux", &[1; 70_000]),
            (".initrd", b"i"),
        ],
    );
    let signed = |bytes: &[u8]| unannounced(&folder, bytes);
    let cases: Vec<(receive::Request, &[u8], &str)> = vec![
        (good.clone(), &longer, "bytes were announced, and more came"),
        (good.clone(), &flipped, "the image arrived damaged: its SHA-256 is "),
        (signed(&image), &flipped, "the image is not signed by a key that this machine trusts"),
        (signed(&zeros), &zeros, "the file is not a UKI: it doesn't start like an EFI program"),
        (signed(&empty), &empty, "the file is empty"),
        (signed(b"#!"), b"#!", "the file is not a UKI: it doesn't start like an EFI program"),
        (signed(&foreign), &foreign, "the image is of \"other\", not of stele"),
        (
            receive::Request { size: Some(0), ..good.clone() },
            &[],
            "an image has between 1 and 4294967295 bytes, this one has 0",
        ),
    ];
    for (request, bytes, expected) in cases {
        let error = run(&request, bytes).unwrap_err();
        assert!(error.contains(expected), "{error}: {expected}");
        assert_eq!(folder.names(), Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn what_is_not_signed_is_refused_before_a_byte_is_read() {
    struct Nobody;
    impl Read for Nobody {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a byte was read");
        }
    }
    let folder = Folder::new("unsigned");
    let image = stele("1.1.0");
    let good = request(&folder, &image);
    let strange = SigningKey::generate().unwrap();
    let theirs = stele_signature::write(&strange.sign(&sum(&image).0).unwrap());
    let strange = strange.public().to_pem().unwrap();
    for (request, expected) in [
        (
            receive::Request { signature: None, ..good.clone() },
            "the image is not signed, and this machine takes signed images only",
        ),
        (
            receive::Request { signature: Some(" \n".into()), ..good.clone() },
            "the image is not signed, and this machine takes signed images only",
        ),
        (
            receive::Request { signature: Some("<html>".into()), ..good.clone() },
            "the image's signature can't be used: this is not a signature in base64",
        ),
        (
            receive::Request { signature: Some(theirs), ..good.clone() },
            "the image is not signed by a key that this machine trusts",
        ),
        (
            receive::Request { keys: vec![strange], ..good.clone() },
            "after it was signed; trusted: ",
        ),
        (receive::Request { keys: vec![], ..good.clone() }, "trusted: no key at all"),
        (
            receive::Request { size: Some(u32::MAX.into()), sha256: None, ..good.clone() },
            "the image needs 4294967295 bytes more on the data volume, which has ",
        ),
    ] {
        if request.size > Some(1 << 31) && free(&folder.0).unwrap().0 > u32::MAX.into() {
            continue;
        }
        let error = report::sentence(&receive::receive(&request, &mut Nobody, |_| {}).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert_eq!(folder.names(), Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn what_somebody_vouched_for_needs_no_signature_but_the_digest() {
    let folder = Folder::new("vouched");
    let image = stele("1.1.0");
    let vouched = receive::Request {
        signature: None,
        vouched: Some("someone".into()),
        ..request(&folder, &image)
    };
    assert_eq!(run(&vouched, &image).unwrap().key, "someone");
    let mut flipped = image.clone();
    flipped[70_000] ^= 1;
    assert!(run(&vouched, &flipped).unwrap_err().starts_with("the image arrived damaged"));
    // Who vouches for nothing in particular vouches for nothing.
    let error = run(&receive::Request { sha256: None, ..vouched }, &image).unwrap_err();
    assert!(error.contains("not signed"), "{error}");
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn documents_of_a_registry() {
    let manifest = format!(
        r#"{{"layers":[{{"mediaType":"application/vnd.stele.image.efi","digest":"sha256:{}","size":7}}]}}"#,
        sum(b"image..")
    );
    let keys = [key().public().to_pem().unwrap()];
    let judge = |manifest: &str, signatures: Vec<Document>| {
        let manifest = Base64::encode_string(manifest.as_bytes());
        let documents = serde_json::to_vec(&judge::Documents { manifest, signatures }).unwrap();
        judge::judge(&keys, &documents).map_err(|error| report::sentence(&error))
    };
    let bundle = |manifest: &str| {
        Document::Bundle(cosign::bundle(&key(), &sum(manifest.as_bytes()).0).unwrap())
    };
    let vouched = judge(&manifest, vec![bundle("another"), bundle(&manifest)]).unwrap();
    assert_eq!((vouched.sha256, vouched.size), (sum(b"image.."), 7));
    assert_eq!(vouched.key, key().public().id());

    let strange = cosign::bundle(&SigningKey::generate().unwrap(), &sum(manifest.as_bytes()).0);
    let empty = r#"{"layers":[]}"#;
    let list = r#"{"manifests":[]}"#;
    for (manifest, signatures, expected) in [
        (manifest.as_str(), vec![], "the image is not signed"),
        (
            &manifest,
            vec![bundle("another")],
            "the artifact was altered: its manifest's SHA-256 is ",
        ),
        (&manifest, vec![Document::Bundle(strange.unwrap())], "not signed by a key that this"),
        (&manifest, vec![Document::Bundle("{}".into())], "a signature can't be understood"),
        (empty, vec![bundle(empty)], "an image is an artifact with one layer, this one has 0"),
        (list, vec![bundle(list)], "this is a list of artifacts, not one artifact"),
        ("no json", vec![bundle("no json")], "the artifact's manifest can't be understood"),
    ] {
        let error = judge(manifest, signatures).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(judge::judge(&keys, b"<html>").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nothing_but_the_signed_bytes_is_ever_received(
        at in 0..0x600usize, value in any::<u8>(), cut in 0..300_000usize,
    ) {
        let folder = Folder::new("damaged");
        let good = stele("1.1.0");
        let mut image = good.clone();
        image[at] = value;
        image.truncate(cut);
        match run(&unannounced(&folder, &good), &image) {
            Ok(_) => prop_assert_eq!(image, good),
            Err(error) if error.contains("cut off: ") => {}
            Err(_) => prop_assert_eq!(folder.names(), Vec::<String>::new()),
        }
    }

    #[test]
    fn no_documents_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = judge::judge(&[key().public().to_pem().unwrap()], &bytes);
    }
}
