// SPDX-License-Identifier: Apache-2.0
//! A configuration that is not the machine's own yet: it waits for a start, or for a word that the node can be reached.
//!
//! ```text
//!  apply, staged ──► Staged ── an ordinary start ──► Starting ── the machine is up ─┬─► its own
//!                      │                                │                           │
//!                      │ another takes its place        │ it ended before           ▼      confirmed in time
//!                      ▼                                │            confirm ──► InForce ───────────────────► its own
//!                  forgotten                            ▼     apply, live ────────▲ │
//!                                                     back ◄────────────────────────┘ not confirmed, or the machine ended
//! ```
//!
//! Which generation a start has is decided by what is remembered of its image, and that moves only when a generation is the
//! machine's own. So a machine that ends for whatever reason starts with the one before; a probation adds one planned start
//! to that, and the reason.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a start on probation has until the machine is up, however short the time to confirm is: it has to find its
/// devices, its network and its certificate first.
const SHORTEST_START: Duration = Duration::from_secs(2 * 60);
/// The same, however long that time is, and where nobody has to confirm.
const LONGEST_START: Duration = Duration::from_secs(10 * 60);

/// A configuration on probation, as it is kept on disk before its first effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probation {
    /// The generation.
    pub generation: u64,
    /// The one to go back to.
    pub previous: u64,
    /// For how many seconds it waits to be confirmed; absent when it need not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<u32>,
    /// How far it is.
    pub stage: Stage,
}

impl Probation {
    /// How long a start with it has until the machine is up. A machine that isn't goes back: nobody can confirm anything while
    /// there is no API.
    #[must_use]
    pub fn up_within(&self) -> Duration {
        let within =
            self.confirm_within.map_or(LONGEST_START, |within| Duration::from_secs(within.into()));
        within.clamp(SHORTEST_START, LONGEST_START)
    }

    /// Whether the machine goes back from this generation once it is known that it is not up in time, which it is unless it
    /// has come further meanwhile.
    #[must_use]
    pub fn is_late(&self, generation: u64) -> bool {
        self.generation == generation && self.stage == Stage::Starting
    }
}

/// How far a configuration on probation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// It waits for the next start.
    Staged,
    /// The machine is starting with it.
    Starting,
    /// It is in force and waits to be confirmed.
    #[serde(rename_all = "camelCase")]
    InForce {
        /// Until when, in seconds since the epoch.
        until: i64,
    },
}

/// What a start has to do about a probation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtStart {
    /// Nothing.
    Nothing,
    /// Start with its generation, once this is on disk.
    Try(Probation),
    /// Start with the generation before, for this reason.
    Back(&'static str),
    /// It is the machine's own already: forget the probation.
    Forget,
}

/// What a start has to do. `ordinary`: it has nothing else to prove; `own`: the generation that its image was last healthy
/// with; `started_for`: the generation whose kernel arguments this start was made for, by the start before it.
#[must_use]
pub fn at_start(
    probation: &Probation,
    ordinary: bool,
    own: Option<u64>,
    started_for: Option<u64>,
) -> AtStart {
    if own == Some(probation.generation) {
        return AtStart::Forget;
    }
    match probation.stage {
        // An image on trial has the configuration that it was chosen with.
        Stage::Staged if !ordinary => AtStart::Nothing,
        Stage::Staged => AtStart::Try(Probation { stage: Stage::Starting, ..probation.clone() }),
        // The same start, gone on with.
        Stage::Starting if started_for == Some(probation.generation) => {
            AtStart::Try(probation.clone())
        }
        Stage::Starting => AtStart::Back("the machine ended before it was up with it"),
        Stage::InForce { .. } => AtStart::Back("the machine ended before it was confirmed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probation(stage: Stage) -> Probation {
        Probation { generation: 7, previous: 6, confirm_within: Some(60), stage }
    }

    #[test]
    fn a_staged_one_gets_one_start() {
        let AtStart::Try(next) = at_start(&probation(Stage::Staged), true, Some(6), None) else {
            panic!("it is not tried");
        };
        assert_eq!(next.stage, Stage::Starting);
        assert!(matches!(at_start(&next, true, Some(6), None), AtStart::Back(_)));
        assert_eq!(at_start(&probation(Stage::Staged), false, Some(6), None), AtStart::Nothing);
    }

    #[test]
    fn a_start_that_was_made_for_it_goes_on_with_it() {
        let starting = probation(Stage::Starting);
        assert_eq!(at_start(&starting, true, Some(6), Some(7)), AtStart::Try(starting.clone()));
        assert!(matches!(at_start(&starting, true, Some(6), Some(6)), AtStart::Back(_)));
    }

    #[test]
    fn an_end_before_the_word_leads_back() {
        let waiting = probation(Stage::InForce { until: 100 });
        assert!(matches!(at_start(&waiting, true, Some(6), None), AtStart::Back(_)));
        assert_eq!(at_start(&waiting, true, Some(7), None), AtStart::Forget);
    }

    #[test]
    fn a_start_has_its_time() {
        let within = |seconds| {
            let probation = Probation { confirm_within: seconds, ..probation(Stage::Starting) };
            probation.up_within().as_secs()
        };
        assert_eq!([10, 300, 86_400].map(|seconds| within(Some(seconds))), [120, 300, 600]);
        assert_eq!(within(None), 600);
    }

    #[test]
    fn only_a_start_that_is_not_over_is_late() {
        assert!(probation(Stage::Starting).is_late(7));
        assert!(!probation(Stage::Starting).is_late(6), "of another generation");
        assert!(!probation(Stage::InForce { until: 100 }).is_late(7), "up, and to be confirmed");
        assert!(!probation(Stage::Staged).is_late(7), "not even begun");
    }

    #[test]
    fn what_is_kept_reads_back() {
        let text = serde_json::to_string(&probation(Stage::InForce { until: 9 })).unwrap();
        assert_eq!(
            text,
            r#"{"generation":7,"previous":6,"confirmWithin":60,"stage":{"inForce":{"until":9}}}"#
        );
        assert_eq!(
            serde_json::from_str::<Probation>(&text).unwrap(),
            probation(Stage::InForce { until: 9 })
        );
    }

    proptest! {
        /// However often the machine ends early, no generation gets more than one start before it is the machine's own.
        #[test]
        fn never_two_starts(ordinary in proptest::collection::vec(any::<bool>(), 1..20)) {
            let mut now = Some(probation(Stage::Staged));
            let mut starts = 0;
            for ordinary in ordinary {
                now = match now.as_ref().map(|now| at_start(now, ordinary, Some(6), None)) {
                    Some(AtStart::Try(next)) => { starts += 1; Some(next) }
                    Some(AtStart::Nothing) => now,
                    Some(AtStart::Back(_) | AtStart::Forget) | None => None,
                };
            }
            prop_assert!(starts <= 1);
        }
    }
}
