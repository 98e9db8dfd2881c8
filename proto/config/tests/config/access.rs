// SPDX-License-Identifier: Apache-2.0
//! Which clients may do what: what is taken, and what the reader says to the rest.

use crate::findings::check;
use crate::pki;
use expect_test::expect;
use stele_config::{MachineConfig, yaml};

const ACCESS: &str = "apiVersion: stele/v1\nkind: ClientAccess\n";

fn config(body: &str) -> MachineConfig {
    yaml::parse(format!("{}---\n{ACCESS}{body}", pki::make("authority").yaml()).as_bytes()).unwrap()
}

#[test]
fn good() {
    check(
        "apiVersion: stele/v1
kind: ClientAccess
roles:
- name: auditor
  methods: [/stele.v1.LogService/*, /stele.v1.ConfigService/Get]
- {name: robot, methods: [/*]}
revoked: [1DA16E, \"00:AB:CD\"]
",
        &expect![[r#"
            good
        "#]],
    );
    check(
        ACCESS,
        &expect![[r#"
        good
    "#]],
    );
}

#[test]
fn a_serial_number_is_one_however_it_is_written() {
    let config = config("revoked: [1DA16E, \"00:AB:CD\", 42, 7e913]\n");
    let revoked: Vec<_> =
        config.client_access().unwrap().revoked().iter().map(ToString::to_string).collect();
    assert_eq!(revoked, ["1da16e", "abcd", "42", "7e913"]);
    check(
        &format!(
            "{ACCESS}revoked: [\"0:1\", \"01\", \"\", \"00\", xyz, true, \"{}\"]\n",
            "f".repeat(41)
        ),
        &expect![[r#"
            document 2 (ClientAccess), line 4, revoked[2]: "" is no serial number: it is zero; expected a serial number in hex, such as 1da16e
            document 2 (ClientAccess), line 4, revoked[3]: "00" is no serial number: it is zero; expected a serial number in hex, such as 1da16e
            document 2 (ClientAccess), line 4, revoked[4]: "xyz" is no serial number: 'x' is not a hex digit; expected a serial number in hex, such as 1da16e
            document 2 (ClientAccess), line 4, revoked[5]: is true; expected a serial number in hex, such as 1da16e
            document 2 (ClientAccess), line 4, revoked[6]: "fffffffffffffffffffffffffffffffffffffffff" is no serial number: it has 41 hex digits, more than 40; expected a serial number in hex, such as 1da16e
            document 2 (ClientAccess), line 4, revoked[1]: is the same as item [0]; expected each item once
        "#]],
    );
}

#[test]
fn a_role_opens_the_methods_that_it_names() {
    let config = config("roles: [{name: auditor, methods: [/stele.v1.LogService/*, /a.B/Get]}]\n");
    let [role] = config.client_access().unwrap().roles() else { panic!("one role") };
    for (path, opened) in [
        ("/stele.v1.LogService/Stream", true),
        ("/stele.v1.LogServices/Stream", false),
        ("/a.B/Get", true),
        ("/a.B/GetAll", false),
    ] {
        assert_eq!(role.opens(path), opened, "{path}");
    }
}

#[test]
fn roles_that_are_none() {
    check(
        &format!(
            "{ACCESS}roles:\n- {{name: \"os:admin\", methods: [/*]}}\n- {{name: a, methods: []}}\n- {{name: b}}\n\
             - {{name: c, methods: [/*]}}\n\
             - {{name: d, methods: [Get, /a.B, /a.B/, //C, /a/b/c, \"/a.*/Get\", \"/a b*\"]}}\n"
        ),
        &expect![[r#"
            document 2 (ClientAccess), line 5, roles[0].name: "os:admin" is not a name: ':' is not a letter, a digit or one of - . _; expected a name, such as web
            document 2 (ClientAccess), line 6, roles[1].methods: has 0 items; expected a list of 1 to 64, each a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 7, roles[2].methods: is missing; expected a list of 1 to 64, each a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[0]: "Get" is not a method's path or the beginning of one and *: it does not begin with /; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[1]: "/a.B" is not a method's path or the beginning of one and *: it is not /package.Service/Method, and does not end with *; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[2]: "/a.B/" is not a method's path or the beginning of one and *: it is not /package.Service/Method, and does not end with *; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[3]: "//C" is not a method's path or the beginning of one and *: it is not /package.Service/Method, and does not end with *; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[4]: "/a/b/c" is not a method's path or the beginning of one and *: it is not /package.Service/Method, and does not end with *; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[5]: "/a.*/Get" is not a method's path or the beginning of one and *: a * can only be its end; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
            document 2 (ClientAccess), line 9, roles[4].methods[6]: "/a b*" is not a method's path or the beginning of one and *: ' ' is no part of a method's path; expected a method's path or the beginning of one and *, such as /stele.v1.LogService/*
        "#]],
    );
}

#[test]
fn each_role_has_a_name_of_its_own() {
    check(
        &format!("{ACCESS}roles:\n- {{name: c, methods: [/*]}}\n- {{name: c, methods: [/a*]}}\n"),
        &expect![[r#"
            document 2 (ClientAccess), line 6, roles[1]: there is another role c; expected another name for each role
        "#]],
    );
}
