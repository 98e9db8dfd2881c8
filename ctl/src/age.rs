// SPDX-License-Identifier: Apache-2.0
//! Encryption to a key of age's: the format of <https://age-encryption.org/v1>, for one X25519 recipient.
//!
//! The crate `age` would bring a hundred others, and a second set of primitives. What is left of the format when one only
//! encrypts, to a key and not to a password, is this file.

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    hmac,
    rand::{self, SystemRandom},
};
use base64ct::{Base64Unpadded, Encoding as _};

/// Plain bytes of each chunk but the last.
const CHUNK: usize = 64 * 1024;

/// A recipient: `age1…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient([u8; 32]);

impl Recipient {
    /// Reads what `age-keygen` prints as the public key.
    pub(crate) fn parse(text: &str) -> Result<Recipient> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            bail!("this is a secret key. Give its public key, age1…, which age-keygen -y prints");
        }
        let key = bech32(text).and_then(|key| <[u8; 32]>::try_from(key).ok());
        key.map(Recipient).context("this is no public key of age's, such as age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
    }

    /// Encrypts.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        self.seal(plain).ok().context("Encrypting failed")
    }

    fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut file_key = [0; 16];
        rand::fill(&mut file_key)?;
        let mut out = self.header(&file_key)?.into_bytes();
        let mut nonce = [0; 16];
        rand::fill(&mut nonce)?;
        out.extend_from_slice(&nonce);
        let key = chacha(&derive(&nonce, &file_key, b"payload")?)?;
        // An empty text is one empty chunk.
        let last = plain.len().saturating_sub(1) / CHUNK;
        for index in 0..=last {
            let start = index * CHUNK;
            let chunk = plain.get(start..plain.len().min(start + CHUNK)).unwrap_or_default();
            let mut nonce = [0; NONCE_LEN];
            nonce[3..11].copy_from_slice(&(index as u64).to_be_bytes());
            nonce[11] = u8::from(index == last);
            let mut chunk = chunk.to_vec();
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::empty(), &mut chunk)?;
            out.append(&mut chunk);
        }
        Ok(out)
    }

    /// The header, which holds the key of the file for the recipient alone.
    fn header(&self, file_key: &[u8; 16]) -> Result<String, Unspecified> {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
        let share = private.compute_public_key()?;
        let salt = [share.as_ref(), &self.0].concat();
        let peer = UnparsedPublicKey::new(&X25519, self.0);
        let wrap = agreement::agree_ephemeral(private, peer, Unspecified, |shared| {
            derive(&salt, shared, b"age-encryption.org/v1/X25519")
        })?;
        let mut body = file_key.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        chacha(&wrap)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut body)?;
        let (share, body) =
            (Base64Unpadded::encode_string(share.as_ref()), Base64Unpadded::encode_string(&body));
        let text = format!("age-encryption.org/v1\n-> X25519 {share}\n{body}\n---");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(b"", file_key, b"header")?);
        let mac = Base64Unpadded::encode_string(hmac::sign(&key, text.as_bytes()).as_ref());
        Ok(format!("{text} {mac}\n"))
    }
}

fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Result<[u8; 32], Unspecified> {
    let mut key = [0; 32];
    let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
    prk.expand(&[info], HKDF_SHA256)?.fill(&mut key)?;
    Ok(key)
}

fn chacha(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?))
}

/// The bytes of a Bech32 text (BIP 173) whose first part is `age`; none if it is another or mistyped.
fn bech32(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let data = text.strip_prefix("age1")?;
    let values: Vec<u8> = data
        .chars()
        .map(|c| ALPHABET.find(c).and_then(|index| u8::try_from(index).ok()))
        .collect::<Option<_>>()?;
    let high = "age".bytes().map(|byte| byte >> 5);
    let low = "age".bytes().map(|byte| byte & 31);
    if checksum(high.chain([0]).chain(low).chain(values.iter().copied())) != 1 {
        return None;
    }
    let (values, _checksum) = values.split_at_checked(values.len().checked_sub(6)?)?;
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for value in values {
        bits = bits << 5 | u32::from(*value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.extend(u8::try_from(bits >> count & 0xff));
        }
        bits &= (1 << count) - 1;
    }
    // What is left pads the last value, and is zero.
    (count < 5 && bits == 0).then_some(bytes)
}

fn checksum(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, value| {
        let top = sum >> 25;
        let sum = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        let taps = GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
        taps.fold(sum, |sum, (_, generator)| sum ^ generator)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::agreement::PrivateKey;

    // From the manual of age.
    const KNOWN: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn recipients_are_read_and_mistyped_ones_are_not() {
        assert!(Recipient::parse(KNOWN).is_ok());
        let mistyped = KNOWN.replace("ql3z", "ql3y");
        for text in [
            "",
            "age1",
            "age1q",
            "age",
            &mistyped,
            &KNOWN[..40],
            &format!("{KNOWN}q"),
            "ssh-ed25519 AAAA",
        ] {
            assert!(Recipient::parse(text).is_err(), "{text}");
        }
        let error = Recipient::parse("AGE-SECRET-KEY-1GFPYYSJZ").unwrap_err().to_string();
        assert!(error.contains("secret key"), "{error}");
    }

    /// What a recipient does with it.
    fn open(private: &PrivateKey, public: &[u8], text: &[u8]) -> Vec<u8> {
        let end = text.windows(4).position(|window| window == b"--- ").unwrap();
        let header = std::str::from_utf8(&text[..end]).unwrap();
        let mut lines = header.lines().skip(1);
        let share =
            Base64Unpadded::decode_vec(lines.next().unwrap().rsplit(' ').next().unwrap()).unwrap();
        let mut wrapped = Base64Unpadded::decode_vec(lines.next().unwrap()).unwrap();
        let salt = [share.as_slice(), public].concat();
        let peer = UnparsedPublicKey::new(&X25519, &share);
        let wrap = agreement::agree(private, peer, Unspecified, |shared| {
            derive(&salt, shared, b"age-encryption.org/v1/X25519")
        });
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let file_key = chacha(&wrap.unwrap())
            .unwrap()
            .open_in_place(nonce, Aad::empty(), &mut wrapped)
            .unwrap()
            .to_vec();
        let payload = &text[end + 4 + 43 + 1..];
        let key = chacha(&derive(&payload[..16], &file_key, b"payload").unwrap()).unwrap();
        let chunks: Vec<_> = payload[16..].chunks(CHUNK + 16).collect();
        let mut plain = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            let mut nonce = [0; NONCE_LEN];
            nonce[3..11].copy_from_slice(&(index as u64).to_be_bytes());
            nonce[11] = u8::from(index + 1 == chunks.len());
            let nonce = Nonce::assume_unique_for_key(nonce);
            plain.extend_from_slice(
                key.open_in_place(nonce, Aad::empty(), &mut chunk.to_vec()).unwrap(),
            );
        }
        plain
    }

    #[test]
    fn the_recipient_reads_what_was_encrypted() {
        let private = PrivateKey::generate(&X25519).unwrap();
        let public = private.compute_public_key().unwrap();
        let recipient = Recipient(public.as_ref().try_into().unwrap());
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let text = recipient.encrypt(&plain).unwrap();
            assert!(open(&private, public.as_ref(), &text) == plain, "{length}");
        }
    }
}
