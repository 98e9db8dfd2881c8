// SPDX-License-Identifier: Apache-2.0
//! Encryption to a key of age's: <https://age-encryption.org/v1>, for one X25519 recipient.

use age::x25519;
use anyhow::{Context as _, Result, anyhow, bail};

/// A recipient: `age1…`.
#[derive(Clone, Debug)]
pub(crate) struct Recipient(x25519::Recipient);

impl Recipient {
    /// Reads what `age-keygen` prints as the public key.
    pub(crate) fn parse(text: &str) -> Result<Recipient> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            bail!("this is a secret key. Give its public key, age1…, which age-keygen -y prints");
        }
        let example = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let key = text.parse();
        key.map(Recipient)
            .map_err(|why| anyhow!("this is no public key of age's, such as {example}: {why}"))
    }

    /// Encrypts.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        age::encrypt(&self.0, plain).context("Encrypting for the recipient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // From the manual of age.
    const KNOWN: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn recipients_are_read_and_mistyped_ones_are_not() {
        assert!(Recipient::parse(KNOWN).is_ok());
        let mistyped = KNOWN.replace("ql3z", "ql3y");
        for text in ["", "age1", "age", &mistyped, &KNOWN[..40], "ssh-ed25519 AAAA"] {
            assert!(Recipient::parse(text).is_err(), "{text}");
        }
        let error = Recipient::parse("AGE-SECRET-KEY-1GFPYYSJZ").unwrap_err().to_string();
        assert!(error.contains("secret key"), "{error}");
    }

    #[test]
    fn the_recipient_reads_what_was_encrypted() {
        let identity = x25519::Identity::generate();
        let recipient = Recipient(identity.to_public());
        let plain = vec![7; 200_000];
        let sealed = recipient.encrypt(&plain).unwrap();
        assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
        assert_eq!(age::decrypt(&identity, &sealed).unwrap(), plain);
    }
}
