// SPDX-License-Identifier: Apache-2.0
//! Whether whoever brings a configuration can still bring another one under it.

use stele_config::{ClientAccess, MachineConfig};

/// A client, as its certificate shows it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The serial number, in lower-case hex.
    pub serial: &'a str,
    /// Its roles of the kind ClientAccess by which it may do what it does; none for who may by a role that every machine knows.
    pub own: &'a [String],
}

/// Why a configuration no longer lets this client call a method; nothing if it does.
#[must_use]
pub fn locks_out(config: &MachineConfig, client: Client<'_>, method: &str) -> Option<String> {
    let access = config.client_access();
    // As in a configuration: without the zero byte that DER puts before some numbers.
    let serial = client.serial.trim_start_matches('0');
    let revoked = access.map_or(&[][..], ClientAccess::revoked);
    if revoked.iter().any(|revoked| revoked.as_str() == serial) {
        return Some(format!("it revokes the certificate that brings it ({serial})"));
    }
    let roles = access.map_or(&[][..], ClientAccess::roles);
    let opened = client.own.is_empty()
        || roles.iter().any(|role| {
            client.own.iter().any(|own| own == role.name().as_str()) && role.opens(method)
        });
    (!opened).then(|| format!("none of the roles of whoever brings it opens {method}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_config::canonical;

    const APPLY: &str = "/stele.v1.ConfigService/Apply";

    fn config(access: &str) -> MachineConfig {
        let pem =
            |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
        let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        let documents = format!(
            r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}}{access}]"#
        );
        canonical::read(documents.as_bytes()).unwrap()
    }

    #[test]
    fn nobody_locks_the_door_behind_himself_unawares() {
        let open = config("");
        let access = config(
            r#",{"apiVersion":"stele/v1","kind":"ClientAccess","roles":[{"name":"robot","methods":["/stele.v1.ConfigService/*"]},{"name":"auditor","methods":["/stele.v1.LogService/*"]}],"revoked":["ab"]}"#,
        );
        let [robot, auditor] = ["robot", "auditor"].map(str::to_owned);
        let client = |serial, own| Client { serial, own };
        for (config, client, locked_out) in [
            (&open, client("00ab", &[][..]), false),
            (&access, client("cd", &[]), false),
            (&access, client("00ab", &[]), true),
            (&access, client("ab", std::slice::from_ref(&robot)), true),
            (&access, client("cd", std::slice::from_ref(&robot)), false),
            (&access, client("cd", std::slice::from_ref(&auditor)), true),
            (&open, client("cd", std::slice::from_ref(&robot)), true),
        ] {
            let reason = locks_out(config, client, APPLY);
            assert_eq!(reason.is_some(), locked_out, "{client:?}: {reason:?}");
        }
    }
}
