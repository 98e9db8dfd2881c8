// SPDX-License-Identifier: Apache-2.0
//! The schema and the manual: that they are up to date, and that the schema refuses what it should.

use serde_json::json;
use std::path::Path;
use stele_config::{canonical, reference, schema};

#[test]
fn manual_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = reference::markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == text,
        "UPDATE=1 renews docs/configuration.md"
    );
}

#[test]
fn schema_and_reader_refuse_the_same_shapes() {
    let schema = jsonschema::validator_for(&schema::json()).unwrap();
    let link = |change: serde_json::Value| {
        let mut link = json!({"apiVersion": "stele/v1", "kind": "Link", "name": "eth0"});
        link.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        link
    };
    assert!(
        schema.is_valid(&link(json!({"mtu": 1500, "routes": [{"to": "::/0", "via": "fe80::1"}]})))
    );
    for change in [
        json!({"mtu": 1}),
        json!({"mtu": "1500"}),
        json!({"mtu": null}),
        json!({"dhcp4": "yes"}),
        json!({"adresses": []}),
        json!({"name": "a-name-of-16-bytes"}),
        json!({"name": 1}),
        json!({"addresses": "192.0.2.1/24"}),
        json!({"addresses": ["192.0.2.1"]}),
        json!({"addresses": ["192.0.2.1/24", "192.0.2.1/24"]}),
        json!({"routes": [{"via": "192.0.2.1"}]}),
        json!({"routes": [{"to": "::/0", "gateway": "fe80::1"}]}),
        json!({"kind": "Lnik"}),
        json!({"apiVersion": "stele/v2", "dhcp4": true}),
        json!({"apiVersion": "stele/v3"}),
    ] {
        let document = link(change);
        assert!(!schema.is_valid(&document), "the schema takes {document}");
        let findings = canonical::read(&serde_json::to_vec(&[&document]).unwrap()).unwrap_err();
        assert!(
            findings.iter().any(|finding| finding.document == 1),
            "the reader takes {document}"
        );
    }
}
