// SPDX-License-Identifier: Apache-2.0
//! What a new configuration will do to the machine, in sentences for the one who applies it.

use stele_config::{HealthCheck, Link, MachineConfig, Probe, UpgradePolicy};

/// Says what changes from one configuration to the next, one sentence each; nothing when they are the same.
#[must_use]
pub fn describe(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<String> {
    let mut changes = Vec::new();
    match old {
        None => {
            changes.push("identity: the API restarts with the node's own certificate".to_owned())
        }
        Some(old) if old.identity() != new.identity() => {
            changes.push("identity: the API serves a new certificate, live".to_owned());
        }
        Some(_) => {}
    }
    let hostname = new.hostname().map(ToString::to_string);
    if old.and_then(|old| old.hostname().map(ToString::to_string)) != hostname {
        changes.push(match hostname {
            Some(hostname) => format!("hostname: becomes {hostname}, live"),
            None => "hostname: from DHCP or the hardware address, live".to_owned(),
        });
    }
    let before = old.map(MachineConfig::links).unwrap_or_default();
    for link in new.links() {
        match before.iter().find(|candidate| candidate.name() == link.name()) {
            Some(same) if same == link => {}
            Some(_) => changes.push(format!("link {}: {}, live", link.name(), summary(link))),
            None => {
                changes.push(format!("link {}: configured, {}, live", link.name(), summary(link)))
            }
        }
    }
    for link in
        before.iter().filter(|link| new.links().iter().all(|other| other.name() != link.name()))
    {
        changes.push(format!(
            "link {}: no longer configured, its addresses and routes go, live",
            link.name()
        ));
    }
    if old.is_none_or(|old| !old.links().is_empty()) && new.links().is_empty() {
        changes.push("links: none is configured, every Ethernet link uses DHCP".to_owned());
    }
    if old.and_then(MachineConfig::resolver) != new.resolver() {
        changes.push("resolver: changes, live".to_owned());
    }
    changes.extend(health_checks(old, new));
    let watchdog = new.watchdog();
    if old.and_then(MachineConfig::watchdog) != watchdog {
        changes.push(match watchdog {
            Some(watchdog) => format!(
                "watchdog: resets the machine after {} s without a sign of life, live",
                watchdog.timeout().as_secs()
            ),
            None => "watchdog: back to its default timeout, live".to_owned(),
        });
    }
    changes.extend(upgrade_policy(old, new));
    changes
}

fn health_checks(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let before = old.map(MachineConfig::health_checks).unwrap_or_default();
    for check in new.health_checks() {
        let what = match before.iter().find(|candidate| candidate.name() == check.name()) {
            Some(same) if same == check => continue,
            Some(_) => "changes",
            None => "added",
        };
        let (name, tried) = (check.name(), tried(check));
        changes.push(format!("health check {name}: {what}, {}, {tried}, live", check.need()));
    }
    let stays = |check: &HealthCheck| {
        new.health_checks().iter().any(|candidate| candidate.name() == check.name())
    };
    for check in before.iter().filter(|check| !stays(check)) {
        changes.push(format!("health check {}: no longer made, live", check.name()));
    }
    changes
}

fn tried(check: &HealthCheck) -> String {
    match check.probe() {
        Probe::Http(http) => format!("{} answers {}", http.url(), http.status()),
        Probe::Tcp(tcp) => format!("{} takes connections", tcp.address()),
        Probe::Dns(dns) => match dns.server() {
            Some(server) => format!("{server} knows {}", dns.name()),
            None => format!("{} resolves", dns.name()),
        },
        Probe::Service(service) => {
            format!("{} is ready for {} s", service.name(), service.stable_for().as_secs())
        }
    }
}

fn upgrade_policy(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<String> {
    let before = old.and_then(MachineConfig::upgrade_policy);
    let after = new.upgrade_policy();
    let mut changes = Vec::new();
    if before.map(UpgradePolicy::deadline) != after.map(UpgradePolicy::deadline) {
        changes.push(match after {
            Some(policy) => format!(
                "upgrades: a new image has {} s to show that it is healthy",
                policy.deadline().as_secs()
            ),
            None => {
                "upgrades: a new image has the default time to show that it is healthy".to_owned()
            }
        });
    }
    let oldest = after.and_then(UpgradePolicy::oldest);
    if before.and_then(UpgradePolicy::oldest) != oldest {
        changes.push(match oldest {
            Some(oldest) => format!("upgrades: images down to {oldest} are taken"),
            None => {
                "upgrades: no image is taken that is older than one that was healthy".to_owned()
            }
        });
    }
    let keys = |policy: Option<&UpgradePolicy>| -> (Vec<String>, bool) {
        let keys = policy.iter().flat_map(|policy| policy.keys()).map(str::to_owned).collect();
        (keys, policy.is_some_and(UpgradePolicy::replace_keys))
    };
    let (signers, replace) = keys(after);
    if keys(before) != (signers.clone(), replace) {
        let count = signers.len();
        let keys = if count == 1 { "key" } else { "keys" };
        changes.push(match (count, replace) {
            (0, _) => {
                "upgrades: images are trusted by the keys of the running one alone".to_owned()
            }
            (_, false) => format!("upgrades: {count} {keys} trusted besides those of the image"),
            (_, true) => format!("upgrades: {count} {keys} trusted in place of those of the image"),
        });
    }
    changes
}

fn summary(link: &Link) -> String {
    let mut parts = Vec::new();
    if link.dhcp4() {
        parts.push("DHCP".to_owned());
    }
    parts.extend(link.addresses().iter().map(ToString::to_string));
    parts.extend(link.mtu().map(|mtu| format!("MTU {mtu}")));
    if parts.is_empty() { "up without addresses".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::describe;
    use expect_test::{Expect, expect};
    use stele_config::{MachineConfig, canonical};

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBA1BZKskkAV4egP9dpCXlEwcgzm4\\n3sWTZ2MSkozoRD+ENTwizFu/gvUb64TcT1Y3hBHYRF1R1pszwmBwccpuGg==\\n-----END PUBLIC KEY-----\\n";

    fn config(documents: &[&str]) -> MachineConfig {
        let pem =
            |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
        let certificate = pem("CERTIFICATE");
        let mut all = vec![format!(
            r#"{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{}"}}"#,
            pem("PRIVATE KEY")
        )];
        all.extend(
            documents.iter().map(|document| format!(r#"{{"apiVersion":"stele/v1",{document}}}"#)),
        );
        canonical::read(format!("[{}]", all.join(",")).as_bytes()).unwrap()
    }

    fn check(old: &[&str], new: &[&str], expected: &Expect) {
        let changes = describe(Some(&config(old)), &config(new));
        expected.assert_eq(&changes.join("\n"));
    }

    const WEB: &str = r#""kind":"HealthCheck","name":"web","http":{"url":"http://[::1]:8080"}"#;

    #[test]
    fn health_checks() {
        let names = r#""kind":"HealthCheck","name":"names","need":"wanted","dns":{"name":"example.com","server":"::1"}"#;
        check(
            &[],
            &[WEB, names],
            &expect![[r#"
            health check names: added, wanted, ::1 knows example.com, live
            health check web: added, required, http://[::1]:8080/ answers 200, live"#]],
        );
        check(&[WEB, names], &[WEB, names], &expect![[""]]);
        let api = r#""kind":"HealthCheck","name":"web","service":{"name":"apid"}"#;
        check(
            &[WEB, names],
            &[api],
            &expect![[r#"
            health check web: changes, required, apid is ready for 30 s, live
            health check names: no longer made, live"#]],
        );
    }

    #[test]
    fn upgrades() {
        let watchdog = r#""kind":"Watchdog","timeout":"2m""#;
        let policy =
            format!(r#""kind":"UpgradePolicy","deadline":"1m","oldest":"1.2.0","keys":["{KEY}"]"#);
        let replaced = policy.replace(r#""kind""#, r#""replaceKeys":true,"kind""#);
        check(
            &[],
            &[watchdog, &policy],
            &expect![[r#"
            watchdog: resets the machine after 120 s without a sign of life, live
            upgrades: a new image has 60 s to show that it is healthy
            upgrades: images down to 1.2.0 are taken
            upgrades: 1 key trusted besides those of the image"#]],
        );
        check(
            &[&policy],
            &[&replaced],
            &expect!["upgrades: 1 key trusted in place of those of the image"],
        );
        check(
            &[watchdog, &policy],
            &[],
            &expect![[r#"
            watchdog: back to its default timeout, live
            upgrades: a new image has the default time to show that it is healthy
            upgrades: no image is taken that is older than one that was healthy
            upgrades: images are trusted by the keys of the running one alone"#]],
        );
        check(
            &[r#""kind":"UpgradePolicy""#],
            &[&replaced],
            &expect![[r#"
            upgrades: a new image has 60 s to show that it is healthy
            upgrades: images down to 1.2.0 are taken
            upgrades: 1 key trusted in place of those of the image"#]],
        );
    }
}
