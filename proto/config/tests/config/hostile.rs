// SPDX-License-Identifier: Apache-2.0
//! Input that is meant to hurt is refused, and fast.

use crate::pki;
use expect_test::{Expect, expect};
use std::time::{Duration, Instant};
use stele_config::{MAX_BYTES, canonical, yaml};

/// Far more than any of these takes in a debug build, far less than the worst would.
const FAST: Duration = Duration::from_secs(20);

/// Checks the first finding and the number of all.
fn check(text: &str, expected: &Expect) {
    let start = Instant::now();
    let findings = yaml::parse(text.as_bytes()).unwrap_err();
    assert!(start.elapsed() < FAST, "took {:?}", start.elapsed());
    assert!(findings.iter().map(|finding| finding.to_string().len()).sum::<usize>() < 100_000);
    expected.assert_eq(&format!("{} in all, first: {}", findings.len(), findings[0]));
}

fn fill(piece: &str) -> String {
    piece.repeat(MAX_BYTES / piece.len())
}

#[test]
fn ten_mebibytes() {
    check(
        &"a: b\n".repeat(2 * MAX_BYTES),
        &expect!["1 in all, first: configuration: is too long; expected at most 1048576 bytes"],
    );
}

#[test]
fn billion_laughs() {
    let mut text = "a0: &a0 [lol]\n".to_owned();
    for level in 1..30 {
        let previous = format!("*a{},", level - 1).repeat(9);
        text.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    check(
        &text,
        &expect![
            "101 in all, first: document 1, line 1, a0: has an anchor (&); anchors and aliases are not read; expected the value itself"
        ],
    );
    check(
        &format!("a: &a {}\n{}", "x".repeat(1000), "b: *a\n".repeat(100_000)),
        &expect![
            "101 in all, first: document 1, line 1, a: has an anchor (&); anchors and aliases are not read; expected the value itself"
        ],
    );
}

#[test]
fn deep() {
    check(
        &fill("["),
        &expect!["1 in all, first: document 1, line 1: is not YAML: recursion limit exceeded"],
    );
    check(
        &fill("{a: "),
        &expect!["1 in all, first: document 1, line 1: is not YAML: recursion limit exceeded"],
    );
    check(
        &fill("- "),
        &expect![
            "1 in all, first: document 1, line 1, [0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: is nested more than 16 levels deep; expected a flat document"
        ],
    );
    check(
        &fill("? "),
        &expect![
            "1 in all, first: document 1, line 1: is nested more than 16 levels deep; expected a flat document"
        ],
    );
    check(
        &(0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
        &expect![
            "1 in all, first: document 1, line 17, a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a: is nested more than 16 levels deep; expected a flat document"
        ],
    );
}

#[test]
fn wide() {
    check(
        &fill("a: b\n"),
        &expect![
            "1 in all, first: document 1, line 50000, a: the stream has more than 100000 values; expected fewer"
        ],
    );
    check(
        &fill("---\nkind: Watchdog\n"),
        &expect![
            "101 in all, first: document 1 (Watchdog), line 2, apiVersion: is missing; expected stele/v1"
        ],
    );
    check(
        &fill("--- \n"),
        &expect![
            "101 in all, first: document 1, line 100001: the stream has more than 100000 values; expected fewer"
        ],
    );
    check(
        &fill("...\n"),
        &expect![
            "1 in all, first: configuration: there is no document of the kind Identity; expected exactly one; ctl gen config makes it"
        ],
    );
    check(
        &fill("a\n...\n"),
        &expect![[
            r#"101 in all, first: document 1, line 1: is text ("a"); expected a document: apiVersion: stele/v1, kind: …"#
        ]],
    );
    check(
        &format!("[{}]", &fill("a,")[2..]),
        &expect![
            "1 in all, first: document 1, line 1, [99999]: the stream has more than 100000 values; expected fewer"
        ],
    );
    check(
        &(0..90_000).map(|n| format!("k{n}: \n")).collect::<String>(),
        &expect![
            "1 in all, first: document 1, line 50000, k49999: the stream has more than 100000 values; expected fewer"
        ],
    );
    check(
        &fill("a"),
        &expect![[
            r#"1 in all, first: document 1, line 1: is text ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…"); expected a document: apiVersion: stele/v1, kind: …"#
        ]],
    );
    check(
        &format!("{}: b", &fill("a")[4..]),
        &expect![[
            r#"2 in all, first: document 1, line 1: is text ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…"); expected a document: apiVersion: stele/v1, kind: …"#
        ]],
    );
    check(
        &format!("kind: Watchdog\napiVersion: {}", &fill("Link")[64..]),
        &expect![[
            r#"2 in all, first: document 1 (Watchdog), line 2, apiVersion: is text ("LinkLinkLinkLinkLinkLinkLinkLinkLinkLinkLinkLink…"); expected stele/v1"#
        ]],
    );
    check(
        &format!("\"{}", &fill("\\u0041")[8..]),
        &expect![
            "1 in all, first: document 1, line 1: is not YAML: while scanning a quoted scalar, found unexpected end of stream"
        ],
    );
    check(
        &fill(" \n"),
        &expect![
            "1 in all, first: configuration: is empty; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)"
        ],
    );
    check(
        &fill("#\n"),
        &expect![
            "1 in all, first: configuration: there is no document of the kind Identity; expected exactly one; ctl gen config makes it"
        ],
    );
    check(
        &fill("!a "),
        &expect![
            "2 in all, first: document 1, line 1: has a tag (!); tags are not read; expected the value alone, in quotes if it is text"
        ],
    );
    check(
        &fill("&a "),
        &expect![
            "2 in all, first: document 1, line 1: has an anchor (&); anchors and aliases are not read; expected the value itself"
        ],
    );
    check(
        &fill("%a b\n"),
        &expect![
            "1 in all, first: document 1, line 209715: is not YAML: did not find expected <document start>"
        ],
    );
    check(
        &fill("'"),
        &expect![[
            r#"1 in all, first: document 1, line 1: is text ("\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'\'…"); expected a document: apiVersion: stele/v1, kind: …"#
        ]],
    );
    check(
        &fill("|\n"),
        &expect![[
            r#"1 in all, first: document 1, line 2: is text ("|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n|\n…"); expected a document: apiVersion: stele/v1, kind: …"#
        ]],
    );
    check(
        &fill("\t"),
        &expect![
            "1 in all, first: configuration: is empty; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)"
        ],
    );
    check(
        &fill("\0"),
        &expect!["1 in all, first: document 1, line 1: is not YAML: found unprintable character"],
    );
    check(
        &fill("a: "),
        &expect![
            "1 in all, first: document 1, line 1: is not YAML: mapping values are not allowed in this context"
        ],
    );
    check(
        &fill("a, "),
        &expect![[
            r#"1 in all, first: document 1, line 1: is text ("a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, …"); expected a document: apiVersion: stele/v1, kind: …"#
        ]],
    );
    check(
        &format!("[{}", &fill("a: ")[8..]),
        &expect![
            "1 in all, first: document 1, line 1, [0]: is not YAML: while parsing a flow mapping, did not find expected ',' or '}'"
        ],
    );
}

#[test]
fn many_links_are_read() {
    let mut text = pki::make("authority").yaml();
    for link in 0..1000 {
        let addresses: Vec<_> = (0..50).map(|n| format!("10.{}.{n}.1/24", link % 256)).collect();
        text.push_str(&format!(
            "---\napiVersion: stele/v1\nkind: Link\nname: l{link}\naddresses: [{}]\n",
            addresses.join(",")
        ));
    }
    let start = Instant::now();
    let config = yaml::parse(text.as_bytes()).unwrap();
    assert!(start.elapsed() < FAST, "took {:?}", start.elapsed());
    assert_eq!(config.links().len(), 1000);
    assert_eq!(canonical::read(&canonical::write(&config)).unwrap(), config);
}

#[test]
fn deep_json() {
    let findings = canonical::read(fill("[").as_bytes()).unwrap_err();
    expect!["configuration: is not JSON: recursion limit exceeded at line 1 column 128; expected a JSON array of documents"].assert_eq(&findings[0].to_string());
    assert!(canonical::read(fill("[]").repeat(3).as_bytes()).is_err());
}
