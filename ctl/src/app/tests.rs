// SPDX-License-Identifier: Apache-2.0
//! Which nodes are meant, and what an expired certificate says.

use super::*;

fn context(nodes: &[&str]) -> Context {
    let credentials =
        Credentials { ca: String::new(), certificate: String::new(), key: String::new() };
    Context::new(nodes.iter().map(|text| Node::parse(text).unwrap()).collect(), credentials)
}

fn chosen(named: &[&str], context: &Context, reach: Reach) -> Result<Vec<String>> {
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    choose(&named, Some(("lab", context)), reach)
        .map(|nodes| nodes.iter().map(Node::address).collect())
}

#[test]
fn without_names_the_contexts_nodes_are_meant() {
    let lab = context(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(chosen(&[], &lab, Reach::Look).unwrap().len(), 2);
}

#[test]
fn several_nodes_are_changed_only_when_named() {
    let lab = context(&["a", "b"]);
    assert!(chosen(&[], &lab, Reach::Change).unwrap_err().to_string().contains("-n a,b"));
    assert_eq!(chosen(&["all"], &lab, Reach::Change).unwrap().len(), 2);
    assert_eq!(chosen(&["b"], &lab, Reach::Change).unwrap(), ["b:50000"]);
    assert_eq!(chosen(&[], &context(&["a"]), Reach::Change).unwrap(), ["a:50000"]);
}

#[test]
fn a_name_finds_the_address_in_the_context() {
    let lab = context(&["web1=127.0.0.1:5001", "web2=127.0.0.1:5002"]);
    assert_eq!(chosen(&["web2"], &lab, Reach::Change).unwrap(), ["127.0.0.1:5002"]);
    assert_eq!(
        chosen(&["web2", "127.0.0.1:5002"], &lab, Reach::Change).unwrap().len(),
        1,
        "the same node once"
    );
    assert_eq!(chosen(&["web3"], &lab, Reach::Change).unwrap(), ["web3:50000"]);
}

#[test]
fn nowhere_to_go_is_misuse() {
    let error = chosen(&[], &context(&[]), Reach::Look).unwrap_err();
    assert!(error.downcast_ref::<Misuse>().is_some() && error.to_string().contains("-n 10.0.0.5"));
}

#[test]
fn an_expired_certificate_says_when_and_what_to_do() {
    let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let ca = pki::make_ca(start).unwrap();
    let client =
        pki::make_client(&ca, "alice", "os:reader", Duration::from_secs(3600), start).unwrap();
    let credentials =
        Credentials { ca: ca.certificate, certificate: client.certificate, key: client.key };
    assert!(check_lifetime("lab", &credentials, start).is_ok());
    let error = check_lifetime("lab", &credentials, start + time::Duration::hours(3))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("alice, os:reader) expired 2h ago") && error.contains("gen client"),
        "{error}"
    );
    let early = check_lifetime("lab", &credentials, start - time::Duration::hours(3))
        .unwrap_err()
        .to_string();
    assert!(early.contains("Is the clock"), "{early}");
}
