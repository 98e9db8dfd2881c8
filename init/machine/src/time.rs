// SPDX-License-Identifier: Apache-2.0
//! The clock: what it can't be, whom to ask for the time, and what is said of it.

use std::{fmt, net::IpAddr, time::Duration};
use stele_config::{Host, MachineConfig, Time, TimeServer};

/// The ports of NTP, and of the key exchange of NTS.
const NTP: u16 = 123;
const NTS: u16 = 4460;
/// Whom a machine asks to which nobody names a server: one that is there for everybody, and proves who it is.
const FALLBACK: &str = "time.cloudflare.com";
/// A clock that is further ahead of what is known of the time is wrong: no image is in use for so long, in seconds.
const AHEAD: i64 = 15 * 365 * 86_400;
/// Up to where a clock that was right is stepped, when no document says it.
const STEP: Duration = Duration::from_secs(15 * 60);

/// What a clock is set to, in seconds since the epoch, when it can't be right: the latest time that is known to have
/// passed.
#[must_use]
pub fn corrected(now: i64, floor: i64) -> Option<i64> {
    let possible = floor..=floor.saturating_add(AHEAD);
    (!possible.contains(&now)).then_some(floor)
}

/// Who says whom to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    Configuration,
    /// A lease.
    Lease,
    /// The platform that the machine runs on.
    Platform,
    /// The image: nobody else names a server.
    Image,
    /// Nobody: there is the hypervisor's clock, or none at all.
    #[default]
    Machine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Configuration => "configuration",
            Origin::Lease => "lease",
            Origin::Platform => "platform",
            Origin::Image => "image",
            Origin::Machine => "machine",
        })
    }
}

/// A server to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// An IPv6 address is in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it has to prove who it is.
    pub nts: bool,
    /// Who may have signed its certificate, as PEM; empty for those that the machine trusts.
    pub ca: String,
}

/// Whom to ask, and how far the clock may be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The servers.
    pub servers: Vec<Server>,
    /// Who says so.
    pub origin: Origin,
    /// Whether the hypervisor's clock is asked too.
    pub ptp: bool,
    /// Up to where the clock is slewed, where that is set.
    pub slew: Option<Duration>,
    /// Up to where a clock that was right is stepped.
    pub step: Duration,
}

impl Plan {
    /// The configured servers, else those of the leases, else those that the platform has for its machines. With a
    /// configuration that says nothing of the time, the one that the image knows is the last resort, where it `may` be asked.
    #[must_use]
    pub fn derive(
        config: Option<&MachineConfig>,
        leased: &[IpAddr],
        platform: &[&str],
        may: bool,
    ) -> Plan {
        let time = config.and_then(MachineConfig::time);
        let left_open = config.is_some() && time.is_none() && may;
        let configured = time.map(Time::servers).unwrap_or_default();
        let (servers, origin) = match (configured, leased, platform) {
            ([], [], []) if left_open => {
                let host = FALLBACK.to_owned();
                (vec![Server { host, port: NTS, nts: true, ca: String::new() }], Origin::Image)
            }
            ([], [], []) => (Vec::new(), Origin::Machine),
            ([], [], known) => {
                let known = known.iter().map(|host| Server::plain((*host).to_owned()));
                (known.collect(), Origin::Platform)
            }
            ([], leased, _) => {
                let leased = leased.iter().map(|ip| Server::plain(Host::Address(*ip).to_string()));
                (leased.collect(), Origin::Lease)
            }
            (configured, ..) => {
                (configured.iter().map(Server::configured).collect(), Origin::Configuration)
            }
        };
        Plan {
            servers,
            origin,
            ptp: time.is_none_or(Time::ptp),
            slew: time.and_then(Time::slew_up_to),
            step: time.map_or(STEP, Time::step_up_to),
        }
    }
}

impl Server {
    fn configured(server: &TimeServer) -> Server {
        let usual = if server.nts { NTS } else { NTP };
        Server {
            host: server.server.host().to_string(),
            port: server.server.port().unwrap_or(usual),
            nts: server.nts,
            ca: server.ca().unwrap_or_default().to_owned(),
        }
    }

    fn plain(host: String) -> Server {
        Server { host, port: NTP, nts: false, ca: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_config::canonical;

    fn configured(document: &str) -> MachineConfig {
        let pem =
            |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
        let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        let text = format!(
            r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}}{document}]"#
        );
        canonical::read(text.as_bytes()).unwrap()
    }

    fn time(keys: &str) -> MachineConfig {
        configured(&format!(r#",{{"apiVersion":"stele/v1","kind":"Time"{keys}}}"#))
    }

    #[test]
    fn a_clock_that_can_t_be_right_is_set_to_what_is_known() {
        let built = 1_700_000_000;
        assert_eq!(corrected(0, built), Some(built));
        assert_eq!(corrected(built - 1, built), Some(built));
        assert_eq!(corrected(built, built), None);
        assert_eq!(corrected(built + 10 * 365 * 86_400, built), None);
        assert_eq!(corrected(built + 20 * 365 * 86_400, built), Some(built));
        assert_eq!(corrected(i64::MIN, i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn configured_servers_come_first_then_leased_ones_then_the_platform_s() {
        let leased = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let hosts = |plan: &Plan| -> Vec<String> {
            plan.servers
                .iter()
                .map(|one| format!("{}:{} {}", one.host, one.port, one.nts))
                .collect()
        };
        let platform = ["169.254.169.123", "time.example"];
        let derive = |config: Option<MachineConfig>, leased: &[IpAddr]| {
            Plan::derive(config.as_ref(), leased, &platform, false)
        };
        let plan = derive(None, &leased);
        assert_eq!(hosts(&plan), ["192.0.2.1:123 false", "[2001:db8::1]:123 false"]);
        assert_eq!((plan.origin, plan.ptp, plan.step), (Origin::Lease, true, STEP));
        assert_eq!(derive(Some(time(r#","ptp":false"#)), &leased).origin, Origin::Lease);
        let own = time(
            r#","servers":[{"server":"time.example","nts":true},{"server":"2001:db8::2"},{"server":"[2001:db8::3]:1123"}],"stepUpTo":"1m""#,
        );
        let plan = derive(Some(own), &leased);
        assert_eq!(
            hosts(&plan),
            ["time.example:4460 true", "[2001:db8::2]:123 false", "[2001:db8::3]:1123 false"]
        );
        assert_eq!((plan.origin, plan.step.as_secs()), (Origin::Configuration, 60));
        let plan = derive(Some(time("")), &[]);
        assert_eq!(hosts(&plan), ["169.254.169.123:123 false", "time.example:123 false"]);
        assert_eq!(plan.origin, Origin::Platform);
    }

    #[test]
    fn the_image_s_server_is_asked_where_nobody_has_said_anything_of_the_time() {
        let derive = |config: Option<&MachineConfig>, may| {
            let plan = Plan::derive(config, &[], &[], may);
            (plan.origin, plan.servers.len())
        };
        let silent = configured("");
        assert_eq!(derive(Some(&silent), true), (Origin::Image, 1));
        assert_eq!(derive(Some(&silent), false), (Origin::Machine, 0));
        assert_eq!(derive(None, true), (Origin::Machine, 0));
        assert_eq!(derive(Some(&time("")), true), (Origin::Machine, 0));
        let leased = ["192.0.2.1".parse().unwrap()];
        assert_eq!(Plan::derive(Some(&silent), &leased, &[], true).origin, Origin::Lease);
    }
}
