// SPDX-License-Identifier: Apache-2.0
//! Where the time comes from: what is taken, and what the reader says to the rest.

use crate::findings::check;
use expect_test::expect;

const TIME: &str = "apiVersion: stele/v1\nkind: Time\n";

#[test]
fn servers() {
    for good in
        ["192.0.2.1", "\"2001:db8::1\"", "\"[2001:db8::1]:1123\"", "time.example:4461", "localhost"]
    {
        check(
            &format!("{TIME}servers:\n  - server: {good}\n    nts: true\n"),
            &expect![["good\n"]],
        );
    }
    check(
        &format!("{TIME}servers: []\nptp: false\nslewUpTo: 2s\nstepUpTo: 1h\n"),
        &expect![["good\n"]],
    );
    let check =
        |more: &str, expected| check(&format!("{TIME}servers:\n  - server: {more}\n"), expected);
    check(
        "0.0.0.0",
        &expect![[r#"
        document 2 (Time), line 5, servers[0].server: "0.0.0.0" is not an address or a name, and maybe a port: nothing has the address 0.0.0.0; expected an address or a name, and maybe a port, such as time.example.com
    "#]],
    );
    check(
        "\"[2001:db8::1]:0\"",
        &expect![[r#"
        document 2 (Time), line 5, servers[0].server: "[2001:db8::1]:0" is not an address or a name, and maybe a port: the port is no number from 1 to 65535; expected an address or a name, and maybe a port, such as time.example.com
    "#]],
    );
    check(
        "10.0.0.1\n  - server: 10.0.0.1",
        &expect![[r#"
        document 2 (Time), line 6, servers[1]: is the same as item [0]; expected each item once
    "#]],
    );
    check(
        "a.example\n    ca: |\n      -----BEGIN CERTIFICATE-----\n      MAA=\n      -----END CERTIFICATE-----",
        &expect![[r#"
            document 2 (Time), line 6, servers[0].ca: no certificate is looked at; expected nts: true beside it
        "#]],
    );
}

#[test]
fn limits() {
    check(
        &format!("{TIME}slewUpTo: 5m\nstepUpTo: 0s\n"),
        &expect![[r#"
        document 2 (Time), line 4, slewUpTo: "5m" is out of range; expected a time span such as 1m30s, from 1s to 1m
        document 2 (Time), line 5, stepUpTo: "0s" is out of range; expected a time span such as 1m30s, from 1s to 24h
    "#]],
    );
}
