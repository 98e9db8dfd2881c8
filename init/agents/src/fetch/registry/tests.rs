// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::fetch::{client, sentence};
use proptest::prelude::*;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A registry that has these things, by path, and wants a token if it has one to give. Of who asks for that, it wants the
/// password if it has one; one that has no token wants it with each request.
fn registry(things: Vec<(String, String)>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let things: HashMap<String, String> = things.into_iter().collect();
    let closed = things.contains_key("/token");
    let password = things.get("/password").map(|text| format!("authorization: Basic {text}"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let line = lines.next().unwrap_or_default();
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let admitted = headers.iter().any(|line| line == "authorization: Bearer letmein");
            let knows = password.as_ref().is_none_or(|password| headers.contains(password));
            let plain = path.split('?').next().unwrap();
            let answer = match things.get(plain) {
                _ if !knows && !closed => {
                    "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"
                        .to_owned()
                }
                Some(_) if plain == "/token" && !knows => {
                    "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned()
                }
                Some(body) if plain == "/token" => {
                    assert!(
                        path.contains("scope=repository%3Aos%3Apull")
                            && path.contains("service=me")
                    );
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len()) + "\r\n" + body
                }
                _ if closed && !admitted => format!(
                    "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"me\"\r\nContent-Length: 0\r\n\r\n"
                ),
                Some(body) => {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                }
                None => "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            stream
                .write_all(answer.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())
                .unwrap();
        }
    });
    address
}

fn documents(things: Vec<(String, String)>, version: &str) -> Result<Documents, String> {
    let address = registry(things);
    let reference = Reference::parse(&format!("http://{address}/os{version}")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = client(b"").unwrap();
    runtime
        .block_on(Registry::new(reference, &Registries::default()).documents(&client))
        .map_err(|error| sentence(&error))
}

fn hex(text: &str) -> String {
    Sha256Sum(Sha256::digest(text).into()).to_string()
}

fn layer(kind: &str, text: &str, annotation: &str) -> String {
    format!(
        r#"{{"layers":[{{"mediaType":"{kind}","digest":"sha256:{}","size":1,"annotations":{{{annotation}}}}}]}}"#,
        hex(text)
    )
}

/// An artifact with a signature in each form.
fn things() -> Vec<(String, String)> {
    let manifest = "the manifest";
    let bundle = layer(BUNDLE, "a bundle", "");
    let simple = layer(SIMPLE, "a payload", &format!(r#""{ANNOTATION}":"abc""#));
    let other = layer("text/plain", "something else", "");
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"x","digest":"sha256:{}"}},{{"mediaType":"x","digest":"sha256:{}"}}]}}"#,
        hex(&other),
        hex(&bundle)
    );
    [
        ("manifests/1.1.0".to_owned(), manifest.to_owned()),
        (format!("manifests/sha256:{}", hex(manifest)), manifest.to_owned()),
        (format!("manifests/sha256-{}", hex(manifest)), index),
        (format!("manifests/sha256:{}", hex(&bundle)), bundle),
        (format!("manifests/sha256:{}", hex(&other)), other),
        (format!("manifests/sha256-{}.sig", hex(manifest)), simple),
        (format!("blobs/sha256:{}", hex("a bundle")), "a bundle".to_owned()),
        (format!("blobs/sha256:{}", hex("a payload")), "a payload".to_owned()),
    ]
    .into_iter()
    .map(|(path, body)| (format!("/v2/os/{path}"), body))
    .collect()
}

fn expected() -> Vec<Document> {
    vec![
        Document::Bundle("a bundle".into()),
        Document::Simple { payload: "a payload".into(), signature: "abc".into() },
    ]
}

#[test]
fn an_artifact_with_all_that_is_signed_about_it() {
    for version in [":1.1.0".to_owned(), format!("@sha256:{}", hex("the manifest"))] {
        let found = documents(things(), &version).unwrap();
        assert_eq!(Base64::decode_vec(&found.manifest).unwrap(), b"the manifest");
        assert_eq!(found.signatures, expected());
    }
    // A registry with the referrers API.
    let mut modern = things();
    for (path, _) in &mut modern {
        if *path == format!("/v2/os/manifests/sha256-{}", hex("the manifest")) {
            *path = format!("/v2/os/referrers/sha256:{}", hex("the manifest"));
        }
    }
    assert_eq!(documents(modern, ":1.1.0").unwrap().signatures, expected());
}

#[test]
fn a_token_is_asked_for_where_the_registry_says() {
    for name in ["token", "access_token"] {
        let mut things = things();
        things.push(("/token".into(), format!(r#"{{"{name}":"letmein"}}"#)));
        assert_eq!(documents(things, ":1.1.0").unwrap().signatures, expected());
    }
}

#[test]
fn what_is_missing_or_odd_is_named() {
    assert_eq!(documents(things(), ":2").unwrap_err(), "the server answered 404 Not Found");
    let unsigned = things().into_iter().take(2).collect();
    assert_eq!(documents(unsigned, ":1.1.0").unwrap().signatures, []);
    let other = things().remove(0).1;
    let path = format!("/v2/os/manifests/sha256:{}", hex("wanted"));
    let error = documents(vec![(path, other)], &format!("@sha256:{}", hex("wanted"))).unwrap_err();
    assert!(error.starts_with("the registry sent a manifest with the SHA-256 "), "{error}");
    let mut garbled = things();
    garbled[2].1 = "<html>".into();
    assert!(documents(garbled, ":1.1.0").unwrap_err().starts_with("what it lists of an artifact"));
}

/// What the configuration says: mirrors of this registry, and passwords.
fn registries(address: SocketAddr, mirrors: &[SocketAddr], password: &str) -> Registries {
    let mirrors: Vec<String> = mirrors.iter().map(|mirror| format!("http://{mirror}/")).collect();
    let mirrors = serde_json::json!({ address.to_string(): mirrors });
    let mut passwords = serde_json::json!({});
    if !password.is_empty() {
        passwords = serde_json::json!({
            address.to_string(): {"username": "me", "password": password},
        });
    }
    serde_json::from_value(serde_json::json!({"mirrors": mirrors, "passwords": passwords})).unwrap()
}

fn documents_of(address: SocketAddr, registries: &Registries) -> Result<Documents, String> {
    let reference = Reference::parse(&format!("http://{address}/os:1.1.0")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = client(b"").unwrap();
    runtime
        .block_on(Registry::new(reference, registries).documents(&client))
        .map_err(|error| sentence(&error))
}

#[test]
fn who_has_a_password_is_let_in_with_it() {
    let password = ("/password".to_owned(), "bWU6cHc=".to_owned());
    for token in [None, Some(("/token".to_owned(), r#"{"token":"letmein"}"#.to_owned()))] {
        let with_token = token.is_some();
        let things = things().into_iter().chain([password.clone()]).chain(token).collect();
        let address = registry(things);
        let found = documents_of(address, &registries(address, &[], "pw")).unwrap();
        assert_eq!(found.signatures, expected());
        let wrong = documents_of(address, &registries(address, &[], "wp")).unwrap_err();
        let none = documents_of(address, &registries(address, &[], "")).unwrap_err();
        if with_token {
            let gives = "the registry gives no token to";
            assert_eq!(wrong, format!("{gives} me with this password: 401 Unauthorized"));
            assert_eq!(none, format!("{gives} those without a password: 401 Unauthorized"));
        } else {
            assert_eq!(wrong, "the registry refuses me with this password");
            assert_eq!(none, "the registry wants a password");
        }
    }
}

#[test]
fn mirrors_are_asked_first_and_what_they_lack_is_found_behind_them() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let all = registry(things());
    let none = registry(Vec::new());
    // The manifest, and nothing that is signed about it.
    let some = registry(things().into_iter().take(1).collect());
    for (itself, mirrors) in [(nobody, vec![all]), (all, vec![nobody]), (all, vec![none, some])] {
        let found = documents_of(itself, &registries(itself, &mirrors, "")).unwrap();
        assert_eq!(found.signatures, expected());
    }
    let error = documents_of(none, &registries(none, &[none], "")).unwrap_err();
    assert_eq!(error, "the server answered 404 Not Found");
}

#[test]
fn servers_are_known_with_and_without_their_usual_port() {
    let reference = Reference::parse("registry.example/os:1").unwrap();
    for name in ["registry.example", "registry.example:443"] {
        let json = format!(
            r#"{{"mirrors":{{"{name}":["https://mirror.example/a/"]}},"passwords":{{"{name}":{{"username":"me","password":"pw"}}}}}}"#
        );
        let registries: Registries = serde_json::from_str(&json).unwrap();
        let places = registries.places(&reference);
        let bases: Vec<&str> = places.iter().map(|place| place.base.as_str()).collect();
        assert_eq!(bases, ["https://mirror.example/a/v2/os/", "https://registry.example/v2/os/"]);
        assert_eq!(
            places.iter().map(|place| place.password.is_some()).collect::<Vec<_>>(),
            [false, true]
        );
        assert!(!format!("{registries:?}").contains("pw"));
    }
}

#[test]
fn challenges() {
    let found =
        parameters(r#"realm="https://a/b?c=d",service="x y", scope="repository:os:pull",error=e"#);
    let expected = [
        ("realm", "https://a/b?c=d"),
        ("service", "x y"),
        ("scope", "repository:os:pull"),
        ("error", "e"),
    ];
    assert_eq!(found.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(), expected);
}

proptest! {
    #[test]
    fn no_challenge_panics(text in any::<String>()) {
        let _ = parameters(&text);
    }
}
