// SPDX-License-Identifier: Apache-2.0
//! What patches make of a configuration.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn documents() -> Documents {
    let text = "apiVersion: stele/v1\nkind: Hostname\nhostname: web1\n\
        ---\napiVersion: stele/v1\nkind: Link\nname: eth0\naddresses: [10.0.0.5/24]\nmtu: 1500\n";
    let list = serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap());
    Documents { list: list.collect(), ..Documents::default() }
}

#[track_caller]
fn check(work: fn(&mut Documents, &str) -> Result<()>, patch: &str, expect: Expect) {
    let mut documents = documents();
    let text = match work(&mut documents, patch) {
        Ok(()) => documents
            .print()
            .unwrap()
            .replace("apiVersion: stele/v1\n", "")
            .replace("apiVersion: stele/v2\n", "# v2\n"),
        Err(error) => format!("{error:#}\n"),
    };
    expect.assert_eq(&text);
}

#[test]
fn documents_are_merged_by_kind_and_name() {
    check(
        merge,
        "{kind: Link, name: eth0, mtu: 9000, addresses: [10.0.0.6/24]}",
        expect![[r#"
        kind: Hostname
        hostname: web1
        ---
        kind: Link
        name: eth0
        addresses:
        - 10.0.0.6/24
        mtu: 9000
    "#]],
    );
    check(
        merge,
        "kind: Link\nname: eth0\nmtu: null\n---\nkind: Hostname\nhostname: web2\n",
        expect![[r#"
            kind: Hostname
            hostname: web2
            ---
            kind: Link
            name: eth0
            addresses:
            - 10.0.0.5/24
        "#]],
    );
    check(
        merge,
        "{kind: Link, name: eth1, dhcp4: true, mtu: null}",
        expect![[r#"
            kind: Hostname
            hostname: web1
            ---
            kind: Link
            name: eth0
            addresses:
            - 10.0.0.5/24
            mtu: 1500
            ---
            # v2
            kind: Link
            name: eth1
            dhcp4: true
        "#]],
    );
    check(
        merge,
        "{kind: Link, name: eth0, $patch: delete}",
        expect![[r#"
        kind: Hostname
        hostname: web1
    "#]],
    );
    check(
        merge,
        "{kind: Link, name: eth0, $patch: replace, dhcp4: true}",
        expect![[r#"
            kind: Hostname
            hostname: web1
            ---
            # v2
            kind: Link
            name: eth0
            dhcp4: true
        "#]],
    );
}

#[test]
fn a_patch_decides_of_which_version_its_document_is() {
    check(
        merge,
        "{apiVersion: stele/v2, kind: Link, name: eth0, dhcp4: {dns: false}}",
        expect![[r#"
            kind: Hostname
            hostname: web1
            ---
            # v2
            kind: Link
            name: eth0
            mtu: 1500
            addresses:
            - 10.0.0.5/24
            dhcp4:
              dns: false
        "#]],
    );
    let mut documents = documents();
    merge(&mut documents, "{apiVersion: stele/v2, kind: Link, name: eth0, dhcp4: {}}").unwrap();
    merge(&mut documents, "{apiVersion: stele/v1, kind: Link, name: eth0, mtu: 1400}").unwrap();
    assert!(documents.print().unwrap().contains("dhcp4: true\n"));
    let matched =
        "{apiVersion: stele/v2, kind: Link, name: eth0, match: {mac: '52:54:00:12:34:56'}}";
    merge(&mut documents, matched).unwrap();
    let back = "{apiVersion: stele/v1, kind: Link, name: eth0, mtu: 1500}";
    expect!["Link eth0 can't be patched as one of stele/v1: document 1 (Link), match: can't be said of eth0 in stele/v1, by which the machine takes the interface of the document's name; expected a document without it"].assert_eq(&format!("{:#}", merge(&mut documents, back).unwrap_err()));
}

#[test]
fn a_patch_that_fits_nothing_is_refused() {
    check(
        merge,
        "{kind: Link, name: eth7, $patch: delete}",
        expect![[r#"
            There is no Link eth7 to delete: there is Link eth0
        "#]],
    );
    check(
        merge,
        "{kind: Link, mtu: 9000}",
        expect![[r#"
            Which Link is meant: there is Link eth0
        "#]],
    );
    check(
        merge,
        "{kind: Watchdog, $patch: delete}",
        expect![[r#"
            There is no Watchdog to delete
        "#]],
    );
    check(
        merge,
        "{kind: Link, name: eth0, $patch: merge}",
        expect![[r#"
        $patch: merge means nothing: it is delete or replace
    "#]],
    );
    check(
        merge,
        "{mtu: 9000}",
        expect![[r#"
        A document of the patch has no kind
    "#]],
    );
    check(
        merge,
        "- a",
        expect![[r#"
        A patch is made of documents, each with the kind it is for
    "#]],
    );
    check(
        merge,
        "",
        expect![[r#"
        The patch is empty
    "#]],
    );
    check(
        merge,
        "{",
        expect![[r#"
        The patch is not YAML: did not find expected node content at line 2 column 1, while parsing a flow node
    "#]],
    );
}

#[test]
fn operations_find_documents_by_kind_and_name() {
    check(
        operations,
        r#"[{"op": "replace", "path": "/Link/eth0/mtu", "value": 9000}, {"op": "remove", "path": "/Hostname"}]"#,
        expect![[r#"
            kind: Link
            name: eth0
            addresses:
            - 10.0.0.5/24
            mtu: 9000
        "#]],
    );
    check(
        operations,
        r#"[{"op": "add", "path": "/Sysctl/vm.swappiness", "value": {"value": "10"}}]"#,
        expect![[r#"
            kind: Hostname
            hostname: web1
            ---
            kind: Link
            name: eth0
            addresses:
            - 10.0.0.5/24
            mtu: 1500
            ---
            kind: Sysctl
            name: vm.swappiness
            value: '10'
        "#]],
    );
    check(
        operations,
        r#"[{"op": "add", "path": "/Link/eth0/addresses/-", "value": "10.0.0.6/24"}, {"op": "test", "path": "/Hostname/hostname", "value": "web1"}]"#,
        expect![[r#"
            kind: Hostname
            hostname: web1
            ---
            kind: Link
            name: eth0
            addresses:
            - 10.0.0.5/24
            - 10.0.0.6/24
            mtu: 1500
        "#]],
    );
    check(
        operations,
        r#"[{"op": "add", "path": "/Resolver", "value": {"servers": ["10.0.0.1"]}}]"#,
        expect![[r#"
            kind: Hostname
            hostname: web1
            ---
            kind: Link
            name: eth0
            addresses:
            - 10.0.0.5/24
            mtu: 1500
            ---
            kind: Resolver
            servers:
            - 10.0.0.1
        "#]],
    );
}

#[test]
fn operations_that_do_not_fit_are_refused() {
    check(
        operations,
        r#"[{"op": "test", "path": "/Hostname/hostname", "value": "web2"}]"#,
        expect![[r#"
            The patch does not fit the configuration: operation 1 on line 1, /Hostname/hostname: value did not match
        "#]],
    );
    check(
        operations,
        r#"[{"op": "remove", "path": "/Link/eth7"}]"#,
        expect![[r#"
            The patch does not fit the configuration: operation 1 on line 1, /Link/eth7: path is invalid
        "#]],
    );
    check(
        operations,
        r#"{"op": "remove"}"#,
        expect![[r#"
        The patch is not one of RFC 6902, such as [{"op": "remove", "path": "/Link/eth0/mtu"}]: invalid type: map, expected a sequence at line 1 column 0
    "#]],
    );
}

#[test]
fn an_operation_that_does_not_fit_is_told_with_its_line() {
    check(
        operations,
        "[\n  {\"op\": \"add\", \"path\": \"/Hostname/x\", \"value\": [\"}\\\"{\", {}]},\n\n  {\"op\": \"remove\",\n   \"path\": \"/Link/eth7\"}\n]",
        expect![[r#"
            The patch does not fit the configuration: operation 2 on line 4, /Link/eth7: path is invalid
        "#]],
    );
    assert_eq!(line_of("[{}, [],\n{}]", 2), Some(2));
    assert_eq!(line_of("[{}]", 1), None);
}

/// Text like a patch, and sometimes one.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "kind",
        "name",
        "$patch",
        "delete",
        "replace",
        "Link",
        "Hostname",
        "eth0",
        "hostname",
        "web1",
        "op",
        "add",
        "remove",
        "move",
        "test",
        "path",
        "from",
        "value",
        "/Link",
        "/Link/eth0",
        "/Link/eth0/addresses/-",
        "/Hostname",
        "",
        "/",
        "null",
        "1",
    ]);
    let quoted =
        word.prop_map(|word| if word == "null" { word.to_owned() } else { format!("\"{word}\"") });
    let pairs = prop::collection::vec((quoted.clone(), quoted), 0..5);
    let map = pairs.prop_map(|pairs| {
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        format!("{{{}}}", pairs.join(", "))
    });
    prop_oneof![
        map.clone(),
        prop::collection::vec(map, 0..4).prop_map(|maps| format!("[{}]", maps.join(", "))),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn whatever_a_patch_says_does_no_harm(patch in text()) {
        for work in [merge, operations] {
            let mut documents = documents();
            if work(&mut documents, &patch).is_ok() {
                documents.print().unwrap();
            }
        }
    }

    #[test]
    fn what_is_there_already_changes_nothing(text in "[a-z0-9]{1,8}", mtu in 68u16..) {
        let mut documents = documents();
        merge(&mut documents, &format!("{{kind: Link, name: e{text}, mtu: {mtu}}}")).unwrap();
        let before = documents.clone();
        merge(&mut documents, &before.print().unwrap()).unwrap();
        prop_assert_eq!(documents.list, before.list);
    }
}
