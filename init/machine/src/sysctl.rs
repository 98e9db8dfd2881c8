// SPDX-License-Identifier: Apache-2.0
//! Settings of the kernel: which are written, and which are set back.
//!
//! ```text
//! not ours ─ a document comes: its value is noted ─► held ─ the document goes: the noted value is written ─► not ours
//! ```

use std::collections::BTreeMap;

/// A setting that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it was before.
    pub before: String,
    /// What was last written, and what the kernel made of that.
    pub written: Option<(String, String)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write what a document says.
    Set {
        /// The setting.
        name: String,
        /// What it becomes.
        value: String,
    },
    /// Write what it was before.
    Restore {
        /// The setting.
        name: String,
        /// What it was.
        value: String,
    },
}

/// Decides. `observed` has what can be read of the wanted settings and of those that are held.
#[must_use]
pub fn plan(
    wanted: &BTreeMap<String, String>,
    held: &BTreeMap<String, Held>,
    observed: &BTreeMap<String, String>,
) -> Vec<Action> {
    // What was set last is set back first: some settings change others.
    let restored = held.iter().rev().filter(|(name, _)| !wanted.contains_key(*name));
    let restored = restored.filter_map(|(name, held)| {
        let now = observed.get(name)?;
        let restore = || Action::Restore { name: name.clone(), value: held.before.clone() };
        (!same(now, &held.before)).then(restore)
    });
    let set = wanted.iter().filter_map(|(name, value)| {
        let now = observed.get(name)?;
        // The kernel may have made something of it that reads otherwise.
        let made = held.get(name).and_then(|held| held.written.as_ref());
        let stands = made.is_some_and(|(written, made)| written == value && same(made, now));
        let set = || Action::Set { name: name.clone(), value: value.clone() };
        (!stands && !same(now, value)).then(set)
    });
    restored.chain(set).collect()
}

/// Whether two values are the same to the kernel, which writes lists with tabs and numbers without ceremony.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn held(before: &str, written: Option<(&str, &str)>) -> Held {
        let own = |(one, other): (&str, &str)| (one.to_owned(), other.to_owned());
        Held { before: before.to_owned(), written: written.map(own) }
    }

    #[test]
    fn what_differs_is_written_and_what_is_no_longer_wanted_is_set_back() {
        let wanted = map(&[("a", "1"), ("b", "4096 8192"), ("c", "2"), ("missing", "1")]);
        let holding = BTreeMap::from([
            ("a".to_owned(), held("0", None)),
            ("gone".to_owned(), held("7", Some(("8", "8")))),
            ("vanished".to_owned(), held("7", None)),
        ]);
        let observed = map(&[("a", "0\n"), ("b", "4096\t8192\n"), ("c", "2\n"), ("gone", "8\n")]);
        let set = |name: &str, value: &str| Action::Set { name: name.into(), value: value.into() };
        let gone = Action::Restore { name: "gone".into(), value: "7".into() };
        assert_eq!(plan(&wanted, &holding, &observed), [gone, set("a", "1")]);
    }

    #[test]
    fn what_the_kernel_made_of_a_value_stands_until_something_changes_it() {
        let wanted = map(&[("a", "0x10")]);
        let holding = BTreeMap::from([("a".to_owned(), held("0", Some(("0x10", "16"))))]);
        assert_eq!(plan(&wanted, &holding, &map(&[("a", "16\n")])), []);
        assert_eq!(plan(&wanted, &holding, &map(&[("a", "17\n")])).len(), 1);
        assert_eq!(plan(&map(&[("a", "0x11")]), &holding, &map(&[("a", "16\n")])).len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_left_once_it_is_done(
            wanted in prop::collection::btree_map("[a-e]", "[0-3]", 0..5),
            before in prop::collection::btree_map("[a-e]", "[0-3]", 0..5),
            now in prop::collection::btree_map("[a-e]", "[0-3]", 0..5),
        ) {
            let holding: BTreeMap<String, Held> =
                before.iter().map(|(name, value)| (name.clone(), held(value, None))).collect();
            let mut kernel = now;
            for action in plan(&wanted, &holding, &kernel) {
                let (Action::Set { name, value } | Action::Restore { name, value }) = action;
                kernel.insert(name, value);
            }
            prop_assert_eq!(plan(&wanted, &holding, &kernel), []);
        }
    }
}
