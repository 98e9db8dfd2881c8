// SPDX-License-Identifier: Apache-2.0
//! Keys in files: made, read, and signed with.
//!
//! ```text
//! NAME.key   signs: PKCS#8 PEM, mode 0600; it never leaves the machine that builds
//! NAME.pub   verifies: goes into the root of every image that takes its owner's word
//! FILE.sig   the signature of FILE
//! ```

use crate::cache::write_atomically;
use crate::tree::digest_of_file;
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use stele_signature::{PublicKey, SigningKey};

/// Where a root keeps the keys that it trusts.
pub const TRUSTED: &str = "usr/share/stele/keys";

/// What images are signed with, under the name of its file.
#[derive(Debug, Clone)]
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl Signer {
    /// Reads `NAME.key`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("Reading the key {}", path.display()))?;
        let key = SigningKey::from_pem(&text)
            .with_context(|| format!("Reading the key {}", path.display()))?;
        Ok(Self { name: name_of(path)?, key })
    }

    /// What verifies its signatures.
    #[must_use]
    pub fn public(&self) -> Trusted {
        Trusted { name: self.name.clone(), key: self.key.public() }
    }

    /// The text of `FILE.sig` for content with this digest.
    pub fn sign(&self, sha256: &[u8; 32]) -> Result<String> {
        Ok(stele_signature::write(&self.key.sign(sha256).context("Signing")?))
    }

    /// The bundle by which it vouches for the manifest of an artifact in a registry.
    pub fn vouch(&self, manifest: &[u8; 32]) -> Result<String> {
        stele_signature::cosign::bundle(&self.key, manifest).context("Signing")
    }

    /// Writes `FILE.sig` beside a file; the path of what was written.
    pub fn sign_file(&self, file: &Path) -> Result<PathBuf> {
        let path = beside(file);
        write_atomically(&path, self.sign(&digest_of_file(file)?)?.as_bytes())?;
        Ok(path)
    }
}

/// A key that an image trusts, under the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The name, for people.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

impl Trusted {
    /// Reads `NAME.pub`.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let key = PublicKey::from_pem(&fs::read_to_string(path)?)?;
            Ok(Self { name: name_of(path)?, key })
        };
        read().with_context(|| format!("Reading the key {}", path.display()))
    }

    /// Where it stands in a root.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{TRUSTED}/{}.pub", self.name)
    }

    /// Fails unless each name stands for one key.
    pub fn check(keys: &[Trusted]) -> Result<()> {
        for (at, key) in keys.iter().enumerate() {
            let other = keys.iter().take(at).find(|other| other.name == key.name);
            ensure!(
                other.is_none_or(|other| other.key == key.key),
                "Two keys are called {}: rename the file of one of them",
                key.name
            );
        }
        Ok(())
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.key.id())
    }
}

/// Makes a key pair: `NAME.key` and `NAME.pub`. What is there is never overwritten.
pub fn generate(name: &Path) -> Result<(PathBuf, PathBuf)> {
    let with = |suffix: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (secret, public) = (with(".key"), with(".pub"));
    name_of(&secret)?;
    for path in [&secret, &public] {
        ensure!(!path.exists(), "{} is there already; it is left as it is", path.display());
    }
    let key = SigningKey::generate()?;
    write_new(&secret, 0o600, &key.to_pem()?)?;
    write_new(&public, 0o644, &key.public().to_pem()?)?;
    Ok((secret, public))
}

/// The name of a file's signature.
#[must_use]
pub fn beside(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".sig");
    PathBuf::from(path)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("Writing {}", path.display()))
}

/// A key's name is that of its file, and becomes one in the root.
fn name_of(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if stem.is_empty() || stem.starts_with('.') || !stem.bytes().all(plain) {
        bail!(
            "A key is called what its file is called: letters, digits and . - _, not {stem:?} ({})",
            path.display()
        );
    }
    Ok(stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pair_is_made_once_and_works() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("release-1");
        let (secret, public) = generate(&name).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        let (signer, trusted) = (Signer::read(&secret).unwrap(), Trusted::read(&public).unwrap());
        assert_eq!(signer.public(), trusted);
        assert_eq!(trusted.path(), "usr/share/stele/keys/release-1.pub");

        let before = fs::read(&secret).unwrap();
        assert!(generate(&name).unwrap_err().to_string().contains("is there already"));
        fs::remove_file(&public).unwrap();
        assert!(generate(&name).is_err());
        assert_eq!(fs::read(&secret).unwrap(), before);

        let file = folder.path().join("stele.efi");
        fs::write(&file, b"an image").unwrap();
        let signed = signer.sign_file(&file).unwrap();
        assert_eq!(signed, folder.path().join("stele.efi.sig"));
        let der = stele_signature::read(&fs::read_to_string(signed).unwrap()).unwrap();
        assert!(trusted.key.verify(&digest_of_file(&file).unwrap(), &der));
    }

    #[test]
    fn a_key_has_a_name_that_can_stand_in_the_root() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", ".hidden", "two words", "ümlaut"] {
            assert!(generate(&folder.path().join(name)).is_err(), "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_name_is_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            let (_, public) = generate(&folder.path().join(name).join("key")).unwrap();
            Trusted::read(&public).unwrap()
        };
        let (one, other) = (make("one"), make("other"));
        Trusted::check(&[one.clone(), one.clone()]).unwrap();
        assert!(Trusted::check(&[one, other]).unwrap_err().to_string().contains("called key"));
    }

    #[test]
    fn a_public_key_does_not_sign() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = generate(&folder.path().join("key")).unwrap();
        assert!(Signer::read(&public).is_err());
        assert!(Trusted::read(&secret).is_err());
    }
}
