// SPDX-License-Identifier: Apache-2.0
//! The watchdog and the policy for upgrades: what is taken, and what the reader says to the rest.

use crate::findings::check;
use crate::pki;
use expect_test::expect;
use std::time::Duration;
use stele_config::{MachineConfig, canonical, yaml};

const WATCHDOG: &str = "apiVersion: stele/v1\nkind: Watchdog\n";
const POLICY: &str = "apiVersion: stele/v1\nkind: UpgradePolicy\n";

/// A key that `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` made.
const KEY: &str = "- |
  -----BEGIN PUBLIC KEY-----
  MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBA1BZKskkAV4egP9dpCXlEwcgzm4
  3sWTZ2MSkozoRD+ENTwizFu/gvUb64TcT1Y3hBHYRF1R1pszwmBwccpuGg==
  -----END PUBLIC KEY-----
";
/// The same with another point, which is not on the curve.
const NO_POINT: &str = "- |
  -----BEGIN PUBLIC KEY-----
  MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBA1BZKskkAV4egP9dpCXlEwcgzm4
  3sWTZ2MSkozoRD+ENTwizFu/gvUb64TcT1Y3hBHYRF1R1pszwmBwccpuGw==
  -----END PUBLIC KEY-----
";
/// A key for another curve.
const P384: &str = "- |
  -----BEGIN PUBLIC KEY-----
  MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEK0H/3+kKZlQXgw6goKQtpSedFsZfUL5R
  RV7v2iRb/yfyQ1qg+zq48p5YbEgEGk4hYeU6fck8vmVj2qQtkbI6gEKIdoBuCX/Z
  MvxhqGaDKc+z8GA4mj0SUIszaATGOC0/
  -----END PUBLIC KEY-----
";

fn read(text: &str) -> MachineConfig {
    let stream = format!("{}---\n{text}", pki::make("authority").yaml());
    yaml::parse(stream.as_bytes()).unwrap()
}

#[test]
fn watchdog() {
    let config = read(WATCHDOG);
    assert_eq!(config.watchdog().unwrap().timeout(), Duration::from_secs(30));
    let config = read(&format!("{WATCHDOG}timeout: 2m\n"));
    assert_eq!(config.watchdog().unwrap().timeout(), Duration::from_secs(120));
    check(
        &format!("{WATCHDOG}timeout: 5s\n---\n{WATCHDOG}timout: 60s\n"),
        &expect![[r#"
        document 2 (Watchdog), line 4, timeout: "5s" is out of range; expected a time span such as 1m30s, from 10s to 10m
        document 3 (Watchdog), line 8, timout: there is no key "timout" here (did you mean "timeout"?); expected one of timeout
    "#]],
    );
}

#[test]
fn policy() {
    let config = read(POLICY);
    let policy = config.upgrade_policy().unwrap();
    assert_eq!(policy.deadline(), Duration::from_secs(180));
    assert_eq!((policy.oldest(), policy.keys().count(), policy.replace_keys()), (None, 0, false));
    let config =
        read(&format!("{POLICY}deadline: 90s\noldest: 1.2.0\nreplaceKeys: true\nkeys:\n{KEY}"));
    let policy = config.upgrade_policy().unwrap();
    assert_eq!(policy.deadline(), Duration::from_secs(90));
    assert_eq!(policy.oldest().unwrap().as_str(), "1.2.0");
    assert!(policy.replace_keys());
    assert!(policy.keys().next().unwrap().starts_with("-----BEGIN PUBLIC KEY-----\n"));
    assert_eq!(canonical::read(&canonical::write(&config)).unwrap(), config);
}

#[test]
fn keys() {
    check(
        &format!("{POLICY}keys:\n{KEY}{KEY}"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 11, keys[1]: is the same as item [0]; expected each item once
    "#]],
    );
    check(
        &format!("{POLICY}keys:\n{KEY}{P384}"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 11, keys[1]: is a key of another kind; expected a public key for ECDSA on P-256 as PEM (-----BEGIN PUBLIC KEY-----)
    "#]],
    );
    check(
        &format!("{POLICY}keys:\n{KEY}{NO_POINT}"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 11, keys[1]: is no point of the curve P-256; expected a key that belongs to a private one
    "#]],
    );
    check(
        &format!("{POLICY}keys: [MFkw]\n"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 4, keys[0]: has no PEM block; expected a public key for ECDSA on P-256 as PEM (-----BEGIN PUBLIC KEY-----)
    "#]],
    );
    check(
        &format!("{POLICY}keys:\n{}", KEY.replace("PUBLIC", "PRIVATE")),
        &expect![[r#"
        document 2 (UpgradePolicy), line 6, keys[0]: has a PEM block of another kind: "PRIVATE KEY"; expected a public key for ECDSA on P-256 as PEM (-----BEGIN PUBLIC KEY-----)
    "#]],
    );
    check(
        &format!("{POLICY}replaceKeys: true\n"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 4, replaceKeys: leaves no key, and so no image that could be taken; expected the keys that replace those of the image
    "#]],
    );
}

#[test]
fn values() {
    check(
        &format!("{POLICY}deadline: 2h\noldest: 1.2\nreplacekeys: yes\n"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 4, deadline: "2h" is out of range; expected a time span such as 1m30s, from 10s to 1h
        document 2 (UpgradePolicy), line 5, oldest: is the number 1.2; expected a version, such as 1.2.0
        document 2 (UpgradePolicy), line 6, replacekeys: there is no key "replacekeys" here (did you mean "replaceKeys"?); expected one of deadline, oldest, keys, replaceKeys
    "#]],
    );
    check(
        &format!("{POLICY}oldest: 1.2.0+3\n"),
        &expect![[r#"
        document 2 (UpgradePolicy), line 4, oldest: "1.2.0+3" is not a version: a version consists of a-z, 0-9 and . - ~ ^, not '+'; expected a version, such as 1.2.0
    "#]],
    );
}
