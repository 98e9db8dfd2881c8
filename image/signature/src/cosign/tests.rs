// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::tests::PUBLIC;
use proptest::prelude::*;

/// By cosign 3.1.1, `cosign sign --key` without a transparency log, of a manifest with this SHA-256.
const MANIFEST: &str = "7e26d6404485f036a9d680299480a04f29c7322001e986c39ddb8366d1fac236";
const OF_COSIGN: &str = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"NGFfkHjAWgRuH9IYztXJv8Y/RTgyGtKmfz3j4ShJn7k="}},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiN2UyNmQ2NDA0NDg1ZjAzNmE5ZDY4MDI5OTQ4MGEwNGYyOWM3MzIyMDAxZTk4NmMzOWRkYjgzNjZkMWZhYzIzNiJ9LCJhbm5vdGF0aW9ucyI6e319XSwicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIiwicHJlZGljYXRlIjp7fX0=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEYCIQDPuJrq9BF6wzUrWNap5nylVVlXcPbdaW0g4oTW0dZ2MwIhAOEoKomf4zF65pPSP4ppvrOsjdM8YSPtCWOr8b/qLSHj"}]}}"#;
/// The same with `--new-bundle-format=false`.
const PAYLOAD_OF_COSIGN: &str = r#"{"critical":{"identity":{"docker-reference":"127.0.0.1:5055/stele/os"},"image":{"docker-manifest-digest":"sha256:7e26d6404485f036a9d680299480a04f29c7322001e986c39ddb8366d1fac236"},"type":"cosign container image signature"},"optional":null}"#;
const SIGNATURE_OF_COSIGN: &str = "MEYCIQD6oNOo0sdaJ3PKZyX5oxxW485JnKifrDsPlNram25hMwIhAKELnqeC2uPypaSLqLjlOXviO+VZD2rC3xO7BTfXoN+l";

fn keys() -> Vec<PublicKey> {
    vec![PublicKey::from_pem(PUBLIC).unwrap()]
}

fn simple() -> Document {
    Document::Simple { payload: PAYLOAD_OF_COSIGN.into(), signature: SIGNATURE_OF_COSIGN.into() }
}

#[test]
fn what_cosign_signs_is_verified() {
    for document in [Document::Bundle(OF_COSIGN.into()), simple()] {
        let vouched = verify(&document, &keys()).unwrap();
        assert_eq!(vouched, Vouched { manifest: MANIFEST.into(), key: keys()[0].id() });
        assert_eq!(verify(&document, &[]), Err(CosignError::Untrusted));
    }
}

#[test]
fn what_was_altered_is_not() {
    let payload = PAYLOAD_OF_COSIGN.replace(MANIFEST, &MANIFEST.replace('7', "8"));
    let altered = Document::Simple { payload, signature: SIGNATURE_OF_COSIGN.into() };
    assert_eq!(verify(&altered, &keys()), Err(CosignError::Untrusted));
    let other = Document::Bundle(OF_COSIGN.replace("MEY", "MEQ"));
    assert_eq!(verify(&other, &keys()), Err(CosignError::Untrusted));
    let retyped = Document::Bundle(OF_COSIGN.replace(PAYLOAD, "text/plain"));
    assert_eq!(verify(&retyped, &keys()), Err(CosignError::Untrusted));
    let nothing = Document::Bundle("{}".into());
    assert!(verify(&nothing, &keys()).unwrap_err().to_string().starts_with("a signature can't be"));
}

#[cfg(feature = "sign")]
#[test]
fn bundles_of_ours_are_verified() {
    let key = crate::SigningKey::generate().unwrap();
    let document = Document::Bundle(bundle(&key, &[0xab; 32]).unwrap());
    let vouched = verify(&document, &[keys().remove(0), key.public()]).unwrap();
    assert_eq!(vouched, Vouched { manifest: "ab".repeat(32), key: key.public().id() });
    assert_eq!(verify(&document, &keys()), Err(CosignError::Untrusted));
}

#[cfg(feature = "sign")]
#[test]
fn a_statement_about_something_else_vouches_for_nothing() {
    let key = crate::SigningKey::generate().unwrap();
    let payload = format!(
        r#"{{"_type":"{STATEMENT}","subject":[{{"digest":{{"sha256":"{MANIFEST}"}}}}],"predicateType":"https://spdx.dev/Document"}}"#
    );
    let signed = Sha256::digest(pre_authentication(PAYLOAD, payload.as_bytes())).into();
    let sig = Base64::encode_string(&key.sign(&signed).unwrap());
    let payload = Base64::encode_string(payload.as_bytes());
    let text = format!(
        r#"{{"mediaType":"{BUNDLE}","verificationMaterial":{{}},"dsseEnvelope":{{"payload":"{payload}","payloadType":"{PAYLOAD}","signatures":[{{"sig":"{sig}"}}]}}}}"#
    );
    let error = verify(&Document::Bundle(text), &[key.public()]).unwrap_err();
    assert!(error.to_string().contains("about something else"), "{error}");
}

proptest! {
    #[test]
    fn no_damage_panics(at in 0..1000usize, byte in any::<char>()) {
        let mut text: Vec<char> = OF_COSIGN.chars().collect();
        let at = at % text.len();
        text[at] = byte;
        let text: String = text.into_iter().collect();
        if let Ok(vouched) = verify(&Document::Bundle(text), &keys()) {
            prop_assert_eq!(vouched.manifest, MANIFEST);
        }
    }
}
