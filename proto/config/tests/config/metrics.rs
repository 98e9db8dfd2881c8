// SPDX-License-Identifier: Apache-2.0
//! Where figures can be had: what is taken, and what the reader says to the rest.

use crate::findings::check;
use expect_test::expect;

const METRICS: &str = "apiVersion: stele/v1\nkind: Metrics\n";

#[test]
fn addresses() {
    for good in ["0.0.0.0:9100", "\"[::]:9100\"", "\"[2001:db8::1]:1024\"", "127.0.0.1:65535"] {
        check(&format!("{METRICS}address: {good}\n"), &expect![["good\n"]]);
    }
    let check = |address: &str, expected| check(&format!("{METRICS}{address}"), expected);
    check(
        "",
        &expect![[r#"
        document 2 (Metrics), line 2, address: is missing; expected an IP address and a port, such as 192.0.2.1:9100
    "#]],
    );
    check(
        "address: node:9100\n",
        &expect![[r#"
        document 2 (Metrics), line 4, address: "node:9100" is not an IP address and a port: invalid socket address syntax; expected an IP address and a port, such as 192.0.2.1:9100
    "#]],
    );
    check(
        "address: 10.0.0.1\n",
        &expect![[r#"
        document 2 (Metrics), line 4, address: "10.0.0.1" is not an IP address and a port: invalid socket address syntax; expected an IP address and a port, such as 192.0.2.1:9100
    "#]],
    );
    check(
        "address: 10.0.0.1:80\n",
        &expect![[r#"
        document 2 (Metrics), line 4, address: port 80 needs a privilege; expected a port of 1024 or higher
    "#]],
    );
    check(
        "address: 10.0.0.1:50000\n",
        &expect![[r#"
        document 2 (Metrics), line 4, address: 50000 is the API's port; expected another port
    "#]],
    );
    check(
        "address: \"[ff02::1]:9100\"\n",
        &expect![[r#"
        document 2 (Metrics), line 4, address: nothing can listen on ff02::1; expected a unicast address
    "#]],
    );
}
