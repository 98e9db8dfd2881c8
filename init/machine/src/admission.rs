// SPDX-License-Identifier: Apache-2.0
//! Admission: whether a machine may move to an image of this version.
//!
//! ```text
//!            oldest              floor                         running
//! ──refused────┼──by permission────┼───────────free to go───────────┼──────►  versions
//! ```
//!
//! The floor is the highest version that was healthy here: what is older has holes that were closed since. A
//! configuration may allow a bounded step back (`UpgradePolicy`, `oldest`). An image may demand that machines come to it
//! from a version that is new enough.

use std::cmp::Ordering;

use stele_layout::version::Version;

/// What decides.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// The version that runs.
    pub running: &'a Version,
    /// The highest version that was healthy on this machine, if one was.
    pub floor: Option<&'a Version>,
    /// The oldest version that the configuration allows all the same.
    pub oldest: Option<&'a Version>,
}

/// Why a machine may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Older than what was healthy here.
    #[error(
        "version {version} is older than {floor}, which has been healthy on this machine; going back below that must be allowed by the configuration: kind UpgradePolicy, key oldest{}",
        oldest.as_ref().map(|oldest| format!(", which now says {oldest}")).unwrap_or_default()
    )]
    BelowFloor {
        /// The version that was asked for.
        version: Version,
        /// The floor.
        floor: Version,
        /// What the configuration allows.
        oldest: Option<Version>,
    },
    /// The image wants to be come to from a newer version.
    #[error(
        "version {version} takes machines from version {needed} on, and this one runs {running}; move to {needed} first"
    )]
    TooFarBehind {
        /// The version that was asked for.
        version: Version,
        /// The oldest that it takes.
        needed: Version,
        /// The version that runs.
        running: Version,
    },
}

fn is_older(version: &Version, than: &Version) -> bool {
    version.compare(than) == Ordering::Less
}

/// May this machine move to an image of this version, which takes machines from `upgrades_from` on?
///
/// # Errors
/// When it may not.
pub fn admit(
    version: &Version,
    upgrades_from: Option<&Version>,
    terms: &Terms<'_>,
) -> Result<(), NotAdmitted> {
    if let Some(needed) = upgrades_from.filter(|needed| is_older(terms.running, needed)) {
        return Err(NotAdmitted::TooFarBehind {
            version: version.clone(),
            needed: needed.clone(),
            running: terms.running.clone(),
        });
    }
    let allowed = terms.oldest.is_some_and(|oldest| !is_older(version, oldest));
    match terms.floor.filter(|floor| is_older(version, floor)) {
        Some(floor) if !allowed => Err(NotAdmitted::BelowFloor {
            version: version.clone(),
            floor: floor.clone(),
            oldest: terms.oldest.cloned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn ask(
        image: &str,
        from: Option<&str>,
        floor: Option<&str>,
        oldest: Option<&str>,
    ) -> Result<(), String> {
        let (floor, oldest, from) = (floor.map(version), oldest.map(version), from.map(version));
        let running = version("1.5.0");
        let terms = Terms { running: &running, floor: floor.as_ref(), oldest: oldest.as_ref() };
        admit(&version(image), from.as_ref(), &terms).map_err(|error| error.to_string())
    }

    #[test]
    fn the_way_on_is_free() {
        assert_eq!(ask("1.6.0", None, Some("1.5.0"), None), Ok(()));
        assert_eq!(ask("1.5.0", None, Some("1.5.0"), None), Ok(()));
        assert_eq!(ask("1.0.0", None, None, None), Ok(()));
        assert_eq!(ask("1.6.0", Some("1.5.0"), Some("1.5.0"), None), Ok(()));
    }

    #[test]
    fn the_way_back_is_bounded() {
        let refused = ask("1.4.0", None, Some("1.5.0"), None).unwrap_err();
        assert!(
            refused.starts_with("version 1.4.0 is older than 1.5.0, which has been healthy on")
        );
        assert!(refused.ends_with("key oldest"), "{refused}");
        assert_eq!(ask("1.4.0", None, Some("1.5.0"), Some("1.4.0")), Ok(()));
        assert_eq!(ask("1.4.1", None, Some("1.5.0"), Some("1.4.0")), Ok(()));
        let refused = ask("1.3.9", None, Some("1.5.0"), Some("1.4.0")).unwrap_err();
        assert!(refused.ends_with("which now says 1.4.0"), "{refused}");
        // Versions in between that never were healthy here are no matter.
        assert_eq!(ask("1.5.1~rc1", None, Some("1.5.0"), None), Ok(()));
    }

    #[test]
    fn images_may_demand_a_step_in_between() {
        assert_eq!(
            ask("2.0.0", Some("1.9.0"), None, None).unwrap_err(),
            "version 2.0.0 takes machines from version 1.9.0 on, and this one runs 1.5.0; move to 1.9.0 first"
        );
    }
}
