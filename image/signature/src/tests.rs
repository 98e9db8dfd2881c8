// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

/// Made with `openssl ecparam -name prime256v1 -genkey | openssl pkcs8 -topk8 -nocrypt`.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmb2+J/Pw1AzYqonf\n\
HkaNp+WZ2O3pHogbuHwUsNLTzVyhRANCAATCiJBbmgfpYff2gevkbfDihcNY+R/H\n\
1nAlZmkTnnw6TEIfaNkrv0Pi3JQiMcyTwWhU1udO35gIEGertgnrr6Ns\n\
-----END PRIVATE KEY-----";
pub(crate) const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwoiQW5oH6WH39oHr5G3w4oXDWPkf\n\
x9ZwJWZpE558OkxCH2jZK79D4tyUIjHMk8FoVNbnTt+YCBBnq7YJ66+jbA==\n\
-----END PUBLIC KEY-----";
/// By `printf 'an image\n' | openssl dgst -sha256 -sign key.pem | base64 -w0`.
const OF_OPENSSL: &str = "MEYCIQCDPkKr/hRouZQw0Oi4XakR7zRwz3XWqW9oAdUTexX7SAIhANVKnY/ATWyB8KHVNtzwcEnHHPqEJqsRg2PFL2Q8GWWd";

fn digest() -> [u8; 32] {
    Sha256::digest(b"an image\n").into()
}

#[test]
fn what_openssl_signs_is_verified() {
    let key = PublicKey::from_pem(PUBLIC).unwrap();
    let signature = read(OF_OPENSSL).unwrap();
    assert!(key.verify(&digest(), &signature));
    assert!(!key.verify(&Sha256::digest(b"another image\n").into(), &signature));
    assert_eq!(write(&signature).trim(), OF_OPENSSL);
    assert_eq!(key.to_pem().unwrap().trim(), PUBLIC);
    assert_eq!(key.id().len(), 16);
}

#[test]
fn keys_of_other_kinds_are_named() {
    for pem in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", PRIVATE] {
        let error = PublicKey::from_pem(pem).unwrap_err().to_string();
        assert!(
            error.starts_with("this is not a public key for ECDSA on P-256 in PEM: "),
            "{error}"
        );
    }
}

#[test]
fn texts_that_are_no_signatures() {
    assert_eq!(read("no signature"), Err(SignatureError::Text));
    assert_eq!(read("AAAA"), Err(SignatureError::Der));
    assert_eq!(read(""), Err(SignatureError::Der));
    assert_eq!(read(&"A".repeat(4000)), Err(SignatureError::Der));
}

proptest! {
    #[test]
    fn no_bytes_panic(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(&text);
        let _ = read(&write(&bytes));
        let _ = PublicKey::from_pem(&text);
        prop_assert!(!PublicKey::from_pem(PUBLIC).unwrap().verify(&digest(), &bytes));
    }
}

#[cfg(feature = "sign")]
mod signing {
    use super::*;
    use std::process::Command;

    #[test]
    fn keys_come_back_as_they_went() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(key.public(), again.public());
        let other = SigningKey::from_pem(PRIVATE).unwrap();
        assert_ne!(key.public(), other.public());
        assert_eq!(other.public(), PublicKey::from_pem(PUBLIC).unwrap());
        assert_eq!(format!("{other:?}"), format!("SigningKey({:?})", other.public().id()));
    }

    #[test]
    fn signatures_are_alike_each_time_and_openssl_verifies_them() {
        let key = SigningKey::from_pem(PRIVATE).unwrap();
        let signature = key.sign(&digest()).unwrap();
        assert_eq!(signature, key.sign(&digest()).unwrap());
        assert!(key.public().verify(&digest(), &signature));
        assert!(!SigningKey::generate().unwrap().public().verify(&digest(), &signature));
        assert!(signature.len() <= LONGEST);

        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let verified = Command::new("openssl")
            .args(["dgst", "-sha256", "-verify"])
            .arg(file("key.pub", key.public().to_pem().unwrap().as_bytes()))
            .arg("-signature")
            .arg(file("image.der", &signature))
            .arg(file("image", b"an image\n"))
            .output();
        // A machine without openssl has nothing to compare with.
        if let Ok(verified) = verified {
            assert_eq!(String::from_utf8_lossy(&verified.stdout).trim(), "Verified OK");
        }
    }
}
