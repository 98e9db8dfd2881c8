// SPDX-License-Identifier: Apache-2.0
//! The clock: what it can't be, whom to ask for the time, and what is said of it.

use std::{fmt, net::IpAddr, time::Duration};
use stele_config::{Host, MachineConfig, Time, TimeServer};

/// The ports of NTP, and of the key exchange of NTS.
const NTP: u16 = 123;
const NTS: u16 = 4460;
/// Whom a machine asks to which nobody names a server: one that is there for everybody, and proves who it is.
const FALLBACK: &str = "time.cloudflare.com";
/// A time that is further ahead of the image's build is wrong: hardly an image is in use for so long, in seconds.
const AHEAD: i64 = 15 * 365 * 86_400;
/// By how much a clock of the hardware may lag behind the last time that was known, in seconds. One that is further behind
/// disagrees with it.
const LAG: i64 = 86_400;
/// For how long after the image's build a clock has begun there rather than shown the time, in seconds.
const BEGINNING: i64 = 600;
/// Up to where a clock that was right is stepped, when no document says it.
const STEP: Duration = Duration::from_secs(15 * 60);

/// What a machine knows of the time before it has asked anybody, in seconds since the epoch.
///
/// ```text
/// build ─── floor ─────────────── last ─────────────── latest
///           │ proven: sources     │ said by anyone:     │ nothing is believed that is later
///           │ set no clock before │ where a clock begins
/// ```
///
/// A time that nobody has proven is no floor: were it wrong once, the right one would be refused for ever after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    built: i64,
    floor: i64,
    last: i64,
}

impl Known {
    /// An image that was built then knows this of the time.
    #[must_use]
    pub fn of_image(built: i64) -> Known {
        Known { built, floor: built, last: built }
    }

    /// The last time that the machine knew, and the last that was proven to it, count as far as they can be right.
    #[must_use]
    pub fn with(self, last: i64, proven: Option<i64>) -> Known {
        let believed = |time| if self.can_be(time) { time } else { self.built };
        let floor = proven.map_or(self.built, believed);
        Known { floor, last: believed(last).max(floor), ..self }
    }

    /// Whether it can be this late, or this early.
    #[must_use]
    pub fn can_be(&self, time: i64) -> bool {
        (self.built..=self.built.saturating_add(AHEAD)).contains(&time)
    }

    /// This has passed: the clock is never set to before it.
    #[must_use]
    pub fn floor(&self) -> i64 {
        self.floor
    }

    /// What was proven, if that is more than the image says.
    #[must_use]
    pub fn proven(&self) -> Option<i64> {
        (self.floor > self.built).then_some(self.floor)
    }

    /// The last time that the machine knew.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.last
    }

    /// What a clock is set to when it can't be right: the last time that is known. A clock that is well behind a time which
    /// nobody has proven may be right, and stays as it is.
    #[must_use]
    pub fn corrected(&self, now: i64) -> Option<i64> {
        let possible = self.can_be(now) && now >= self.floor;
        let lags = now < self.last && now.saturating_add(LAG) >= self.last;
        let begins = now < self.last && now <= self.built.saturating_add(BEGINNING);
        (!possible || lags || begins).then_some(self.last)
    }
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

    /// Whether every server has to prove who it is.
    #[must_use]
    pub fn authenticated(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.nts)
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

    const BUILT: i64 = 1_700_000_000;
    const DAY: i64 = 86_400;
    const YEAR: i64 = 365 * DAY;

    #[test]
    fn a_clock_that_can_t_be_right_is_set_to_what_is_known() {
        let corrected = |now| Known::of_image(BUILT).corrected(now);
        assert_eq!(corrected(0), Some(BUILT));
        assert_eq!(corrected(BUILT - 1), Some(BUILT));
        assert_eq!(corrected(BUILT), None);
        assert_eq!(corrected(BUILT + 10 * YEAR), None);
        assert_eq!(corrected(BUILT + 20 * YEAR), Some(BUILT));
        assert_eq!(Known::of_image(i64::MAX).corrected(i64::MIN), Some(i64::MAX));
    }

    #[test]
    fn a_clock_without_a_battery_begins_with_the_last_time_that_was_known() {
        let last = BUILT + YEAR;
        for known in
            [Known::of_image(BUILT).with(last, None), Known::of_image(BUILT).with(last, Some(last))]
        {
            // Far off, at the image's build because it was far off before the disk was there, and a little behind.
            for now in [0, BUILT, BUILT + 60, last - 60, last - DAY, BUILT + 20 * YEAR] {
                assert_eq!(known.corrected(now), Some(last), "{now}");
            }
            for now in [last, last + 60, last + 5 * YEAR] {
                assert_eq!(known.corrected(now), None, "{now}");
            }
        }
    }

    #[test]
    fn a_wrong_time_that_nobody_has_proven_does_not_stay() {
        let (right, wrong) = (BUILT + YEAR, BUILT + 10 * YEAR);
        let known = Known::of_image(BUILT).with(wrong, None);
        // Neither is the clock of the hardware set to it, nor are sources refused that say otherwise.
        assert_eq!(known.corrected(right), None);
        assert_eq!(known.floor(), BUILT);
        // What was proven before stays the floor.
        let known = Known::of_image(BUILT).with(wrong, Some(right - DAY));
        assert_eq!((known.corrected(right), known.floor()), (None, right - DAY));
        assert_eq!(known.corrected(right - 2 * DAY), Some(wrong));
    }

    #[test]
    fn a_time_that_was_proven_is_the_floor() {
        let proven = BUILT + YEAR;
        let known = Known::of_image(BUILT).with(proven, Some(proven));
        assert_eq!((known.floor(), known.corrected(proven - 30 * DAY)), (proven, Some(proven)));
        assert_eq!((known.proven(), Known::of_image(BUILT).proven()), (Some(proven), None));
        // One from before a newer image's build says nothing.
        assert_eq!(Known::of_image(BUILT).with(BUILT - 1, Some(BUILT - 1)), Known::of_image(BUILT));
    }

    #[test]
    fn what_is_known_to_be_later_than_it_can_be_is_not_believed() {
        let wrong = BUILT + 20 * YEAR;
        assert!(!Known::of_image(BUILT).can_be(wrong));
        assert_eq!(Known::of_image(BUILT).with(wrong, Some(wrong)), Known::of_image(BUILT));
        assert_eq!(Known::of_image(BUILT).with(i64::MAX, None).corrected(BUILT + YEAR), None);
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
        assert!(!plan.authenticated());
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
        assert!(Plan::derive(Some(&silent), &[], &[], true).authenticated());
        assert!(!Plan::derive(Some(&silent), &[], &[], false).authenticated());
        assert_eq!(derive(Some(&silent), false), (Origin::Machine, 0));
        assert_eq!(derive(None, true), (Origin::Machine, 0));
        assert_eq!(derive(Some(&time("")), true), (Origin::Machine, 0));
        let leased = ["192.0.2.1".parse().unwrap()];
        assert_eq!(Plan::derive(Some(&silent), &leased, &[], true).origin, Origin::Lease);
    }
}
