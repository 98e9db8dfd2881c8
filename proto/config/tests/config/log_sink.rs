// SPDX-License-Identifier: Apache-2.0
//! Sinks of logs: what is taken, and what the reader says to the rest.

use crate::findings::check;
use expect_test::expect;

const SINK: &str = "apiVersion: stele/v1\nkind: LogSink\nname: central\n";

#[test]
fn good() {
    for good in [
        "address: 10.0.0.1:514\n",
        "address: \"[2001:db8::1]:514\"\nprotocol: udp\nformat: json\nlogs: [kernel, apid]\n",
        "address: logs.example.com:6514\nprotocol: tls\nca: |\n  -----BEGIN CERTIFICATE-----\n  MAA=\n  -----END CERTIFICATE-----\n",
    ] {
        check(&format!("{SINK}{good}"), &expect![["good\n"]]);
    }
}

#[test]
fn what_does_not_fit() {
    let check = |body: &str, expected| check(&format!("{SINK}{body}"), expected);
    check(
        "",
        &expect![[r#"
        document 2 (LogSink), line 2, address: is missing; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        "address: logs\nprotocol: relp\nformat: jsn\n",
        &expect![[r#"
        document 2 (LogSink), line 5, address: "logs" is not a host and a port: the port is missing; expected a host and a port, such as 192.0.2.1:80
        document 2 (LogSink), line 6, protocol: there is no "relp" here; expected tcp or udp or tls
        document 2 (LogSink), line 7, format: there is no "jsn" here (did you mean "json"?); expected rfc5424 or json
    "#]],
    );
    check(
        "address: logs:514\nlogs: [kernel, kernel]\n",
        &expect![[r#"
        document 2 (LogSink), line 6, logs[1]: is the same as item [0]; expected each item once
    "#]],
    );
    check(
        "address: logs:514\nca: |\n  -----BEGIN CERTIFICATE-----\n  MAA=\n  -----END CERTIFICATE-----\n",
        &expect![[r#"
            document 2 (LogSink), line 6, ca: tcp looks at no certificate; expected protocol: tls beside it
        "#]],
    );
    check(
        &format!("address: logs:514\n---\n{SINK}address: other:514\n"),
        &expect![[r#"
        document 3 (LogSink), line 9, name: there is another LogSink central, on line 29; expected another name for each sink
    "#]],
    );
}
