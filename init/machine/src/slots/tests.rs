// SPDX-License-Identifier: Apache-2.0
//! The slots against a model of the loader and of power cuts.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

/// An image on the modelled ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    works: bool,
    size: u64,
}

/// The ESP, the firmware's variables, and which image is up.
#[derive(Clone, Debug)]
struct World {
    files: BTreeMap<String, Image>,
    preferred: Option<String>,
    selected: Option<String>,
}

/// What systemd-boot 262 reads from a name, without any help from the code under test.
struct Entry {
    name: String,
    id: String,
    version: String,
    counter: Option<(u32, u32)>,
}

fn entries(files: &BTreeMap<String, Image>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = files
        .keys()
        .filter(|name| name.ends_with(".efi"))
        .map(|name| {
            let stem = name.strip_suffix(".efi").unwrap();
            let (base, counter) = match stem.split_once('+') {
                Some((base, counter)) => {
                    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                    (base, Some((left.parse().unwrap(), done.parse().unwrap())))
                }
                None => (stem, None),
            };
            let version = base.strip_prefix("stele_").unwrap().to_owned();
            Entry { name: name.clone(), id: format!("{base}.efi"), version, counter }
        })
        .collect();
    let exhausted = |entry: &Entry| matches!(entry.counter, Some((0, _)));
    entries.sort_by(|a, b| {
        exhausted(a)
            .cmp(&exhausted(b))
            .then_with(|| stele_layout::version::compare(&b.version, &a.version))
            .then_with(|| stele_layout::version::compare(&b.name, &a.name))
    });
    entries
}

impl World {
    fn new(version: &str) -> World {
        let name = format!("stele_{version}.efi");
        World {
            files: BTreeMap::from([(name.clone(), Image { works: true, size: 30 })]),
            preferred: None,
            selected: Some(name),
        }
    }

    fn observed(&self) -> Observed {
        let files = self
            .files
            .iter()
            .map(|(name, image)| Listed { name: name.clone(), size: image.size })
            .collect();
        Observed {
            files,
            selected: self.selected.clone(),
            preferred: self.preferred.clone(),
            entries: Vec::new(),
        }
    }

    /// One start by the loader, counting down; `picked` is a person at the menu. Says whether the image works.
    fn boot(&mut self, picked: Option<usize>) -> bool {
        let entries = entries(&self.files);
        let exhausted = |entry: &&Entry| matches!(entry.counter, Some((0, _)));
        let entry = picked
            .and_then(|picked| entries.get(picked % entries.len()))
            .or_else(|| {
                entries
                    .iter()
                    .find(|entry| Some(&entry.id) == self.preferred.as_ref() && !exhausted(entry))
            })
            .or_else(|| entries.first())
            .expect("the loader finds nothing to start");
        self.selected = Some(entry.id.clone());
        let image = self.files.remove(&entry.name).unwrap();
        let name = match entry.counter {
            Some((left, done)) => {
                format!("stele_{}+{}-{}.efi", entry.version, left.saturating_sub(1), done + 1)
            }
            None => entry.name.clone(),
        };
        assert_eq!(self.files.insert(name, image), None, "the loader renamed over another file");
        image.works
    }

    /// Starts until something works, as a machine does that nobody looks after. Says how many starts that took.
    fn settle(&mut self) -> usize {
        let limit = 4 * self.files.len() + 4;
        (1..=limit)
            .find(|_| self.boot(None))
            .unwrap_or_else(|| panic!("never comes up: {:?}", self.files.keys()))
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Rename { from, to } => {
                let image =
                    self.files.remove(from).unwrap_or_else(|| panic!("{from} is not there"));
                assert_eq!(self.files.insert(to.clone(), image), None, "{to} was there");
            }
            Effect::Remove { file } => {
                assert!(self.files.remove(file).is_some(), "{file} is not there")
            }
            Effect::Prefer(id) => self.preferred = id.as_ref().map(ToString::to_string),
            // The model has no starts but the loader's own.
            Effect::WriteEntry { .. }
            | Effect::RemoveEntry { .. }
            | Effect::StartOnce(_)
            | Effect::Reboot => {}
        }
    }

    /// Holds at every moment.
    fn check(&self) {
        let good = |(name, image): (&String, &Image)| is_good(name) && image.works;
        assert!(self.files.iter().any(good), "no good slot: {:?}", self.files.keys());
        // Whatever is on trial may turn out to be broken: the loader must still end on one that is good.
        let mut worst = self.clone();
        for (name, image) in &mut worst.files {
            image.works &= is_good(name);
        }
        worst.settle();
        assert!(is_good(worst.selected.as_deref().unwrap()));
        assert!(worst.files.contains_key(worst.selected.as_deref().unwrap()));
    }
}

fn is_good(name: &str) -> bool {
    name.ends_with(".efi") && !name.contains('+')
}

#[derive(Clone, Debug)]
enum Event {
    Push { version: usize, works: bool },
    PushCut { version: usize },
    Activate { slot: usize },
    Withdraw,
    Condemn { slot: usize },
    Bless,
    Rollback,
    Retire { needed: u64 },
    Clean,
    Restart,
    Pick { entry: usize },
}

const VERSIONS: [&str; 6] = ["0.9", "1.0", "1.0-rc1", "1.1", "1.10", "2"];

fn event() -> impl Strategy<Value = Event> {
    let version = 0..VERSIONS.len();
    prop_oneof![
        3 => (version.clone(), any::<bool>()).prop_map(|(version, works)| Event::Push { version, works }),
        1 => version.prop_map(|version| Event::PushCut { version }),
        4 => (0..8usize).prop_map(|slot| Event::Activate { slot }),
        1 => Just(Event::Withdraw),
        1 => (0..8usize).prop_map(|slot| Event::Condemn { slot }),
        3 => Just(Event::Bless),
        1 => Just(Event::Rollback),
        2 => (0..200u64).prop_map(|needed| Event::Retire { needed }),
        1 => Just(Event::Clean),
        1 => Just(Event::Restart),
        1 => (0..8usize).prop_map(|entry| Event::Pick { entry }),
    ]
}

/// Does one event, and cuts the power after `cut` effects.
fn step(world: &mut World, event: &Event, cut: usize) {
    let observed = world.observed();
    let decided = match event {
        Event::Push { version, works } => {
            let version = Version::parse(VERSIONS[*version]).unwrap();
            if accept(&version, &observed).is_ok() {
                let name = SlotFile::new(version, Stage::Staged).to_string();
                world.files.insert(name, Image { works: *works, size: 30 });
            }
            Ok(Vec::new())
        }
        Event::PushCut { version } => {
            let part =
                SlotFile::new(Version::parse(VERSIONS[*version]).unwrap(), Stage::Part).to_string();
            world.files.insert(part, Image { works: false, size: 7 });
            world.files.insert(INCOMING.to_owned(), Image { works: false, size: 7 });
            world.settle();
            Ok(Vec::new())
        }
        Event::Activate { slot } => {
            let slots = observe(&observed);
            activate(slots.get(slot % slots.len()).unwrap().id.as_str(), &observed)
        }
        Event::Withdraw => Ok(withdraw(&observed).map(|(_, effects)| effects).unwrap_or_default()),
        Event::Condemn { slot } => {
            let slots = observe(&observed);
            Ok(condemn(&slots.get(slot % slots.len()).unwrap().id, &observed))
        }
        Event::Bless => bless(&observed),
        Event::Rollback => rollback(&observed),
        Event::Retire { needed } => retire(*needed, 10, &observed),
        Event::Clean => Ok(clean(&observed)),
        Event::Restart => {
            world.settle();
            Ok(Vec::new())
        }
        Event::Pick { entry } => {
            if !world.boot(Some(*entry)) {
                world.settle();
            }
            Ok(Vec::new())
        }
    };
    for (done, effect) in decided.unwrap_or_default().iter().enumerate() {
        if done == cut {
            world.settle();
            return;
        }
        let touched = match effect {
            Effect::Rename { from: file, .. } | Effect::Remove { file } => is_good(file),
            Effect::Prefer(_)
            | Effect::WriteEntry { .. }
            | Effect::RemoveEntry { .. }
            | Effect::StartOnce(_)
            | Effect::Reboot => false,
        };
        assert!(
            !touched || matches!(event, Event::Rollback | Event::Retire { .. }),
            "{event:?} touches a good slot"
        );
        world.apply(effect);
        world.check();
        if *effect == Effect::Reboot {
            world.settle();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn there_is_always_a_good_slot(first in 0..VERSIONS.len(), events in prop::collection::vec((event(), 0..6usize), 1..25)) {
        let mut world = World::new(VERSIONS[first]);
        for (event, cut) in &events {
            step(&mut world, event, *cut);
            world.check();
        }
    }

    #[test]
    fn retire_keeps_what_runs_and_removes_no_more_than_it_must(
        events in prop::collection::vec((event(), 0..6usize), 1..25), needed in 0..200u64, free in 0..100u64,
    ) {
        let mut world = World::new("1.0");
        for (event, cut) in &events {
            step(&mut world, event, *cut);
        }
        let observed = world.observed();
        let slots = observe(&observed);
        let Ok(effects) = retire(needed, free, &observed) else { return Ok(()) };
        let sizes: Vec<u64> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Remove { file } => {
                    assert!(!slots.iter().any(|slot| slot.running && slot.file.to_string() == *file));
                    world.files[file].size
                }
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert!(free + sizes.iter().sum::<u64>() >= needed);
        if let Some((last, before)) = sizes.split_last() && effects.len() > clean_files(&observed).len() {
            prop_assert!(free + before.iter().sum::<u64>() < needed, "{} was one too many", last);
        }
    }
}

fn world(version: &str, files: &[(&str, bool)]) -> World {
    let mut world = World::new(version);
    world.files.extend(
        files.iter().map(|(name, works)| ((*name).to_owned(), Image { works: *works, size: 30 })),
    );
    world
}

fn run(world: &mut World, effects: &[Effect]) {
    for effect in effects {
        world.apply(effect);
        world.check();
    }
}

#[test]
fn an_upgrade_that_works() {
    let mut world = world("1.0", &[("stele_1.1.efi.staged", true)]);
    let effects = activate("stele_1.1.efi", &world.observed()).unwrap();
    assert_eq!(
        effects,
        [
            Effect::Rename { from: "stele_1.1.efi.staged".into(), to: "stele_1.1+3.efi".into() },
            Effect::Reboot
        ],
        "the loader takes the newer one by itself: no preference is set"
    );
    run(&mut world, &effects);
    assert_eq!(world.settle(), 1);
    let observed = world.observed();
    let running = observe(&observed).into_iter().find(|slot| slot.running).unwrap();
    assert_eq!(
        (running.id.as_str(), running.state),
        ("stele_1.1.efi", State::Trying { left: 2, done: 1 })
    );
    let effects = bless(&observed).unwrap();
    assert_eq!(
        effects,
        [Effect::Rename { from: "stele_1.1+2-1.efi".into(), to: "stele_1.1.efi".into() }]
    );
    run(&mut world, &effects);
    assert_eq!(bless(&world.observed()), Ok(Vec::new()), "nothing is left to do");
}

#[test]
fn an_image_blessed_on_its_last_try() {
    let mut world = world("1.0", &[("stele_1.1+1-2.efi", true)]);
    assert_eq!(world.settle(), 1);
    assert!(world.files.contains_key("stele_1.1+0-3.efi"));
    run(&mut world.clone(), &bless(&world.observed()).unwrap());
    assert_eq!(observe(&world.observed())[1].state, State::Trying { left: 0, done: 3 });
}

#[test]
fn two_upgrades_that_fail_in_a_row() {
    let mut world = World::new("1.0");
    for version in ["1.1", "1.2"] {
        world.files.insert(format!("stele_{version}.efi.staged"), Image { works: false, size: 30 });
        let effects = activate(&format!("stele_{version}.efi"), &world.observed()).unwrap();
        run(&mut world, &effects);
        assert_eq!(world.settle(), 4, "three tries, then back");
        assert_eq!(world.selected.as_deref(), Some("stele_1.0.efi"));
    }
    assert_eq!(
        world.files.keys().collect::<Vec<_>>(),
        ["stele_1.0.efi", "stele_1.1+0-3.efi", "stele_1.2+0-3.efi"]
    );
}

#[test]
fn a_failed_version_can_be_tried_again() {
    let world = world("1.0", &[("stele_1.1+0-3.efi", false), ("stele_1.1.efi.staged", true)]);
    assert_eq!(
        activate("stele_1.1.efi", &world.observed()).unwrap(),
        [
            Effect::Remove { file: "stele_1.1+0-3.efi".into() },
            Effect::Rename { from: "stele_1.1.efi.staged".into(), to: "stele_1.1+3.efi".into() },
            Effect::Reboot
        ]
    );
}

#[test]
fn a_downgrade_needs_a_preference_and_keeps_it() {
    let mut world = world("1.1", &[("stele_1.0.efi.staged", true)]);
    let effects = activate("stele_1.0.efi", &world.observed()).unwrap();
    assert_eq!(effects[1], Effect::Prefer(SlotId::parse("stele_1.0.efi")));
    run(&mut world, &effects);
    world.settle();
    let effects = bless(&world.observed()).unwrap();
    run(&mut world, &effects);
    world.settle();
    assert_eq!(world.selected.as_deref(), Some("stele_1.0.efi"));
    // The next upgrade goes past it.
    world.files.insert("stele_1.2.efi.staged".into(), Image { works: true, size: 30 });
    let effects = activate("stele_1.2.efi", &world.observed()).unwrap();
    assert_eq!(effects[1], Effect::Prefer(None));
}

#[test]
fn a_downgrade_that_fails_comes_back() {
    let mut world = world("1.1", &[("stele_1.0.efi.staged", false)]);
    let effects = activate("stele_1.0.efi", &world.observed()).unwrap();
    run(&mut world, &effects);
    assert_eq!(world.settle(), 4);
    assert_eq!(world.selected.as_deref(), Some("stele_1.1.efi"));
    assert_eq!(clean(&world.observed()), [Effect::Prefer(None)]);
}

#[test]
fn back_and_forth() {
    let mut world = world("1.1", &[("stele_1.0.efi", true)]);
    let effects = rollback(&world.observed()).unwrap();
    assert_eq!(
        effects,
        [
            Effect::Rename { from: "stele_1.1.efi".into(), to: "stele_1.1+0-0.efi".into() },
            Effect::Reboot
        ]
    );
    run(&mut world, &effects);
    world.settle();
    assert_eq!(world.selected.as_deref(), Some("stele_1.0.efi"));
    assert_eq!(rollback(&world.observed()), Err(Refused::NothingToRollBackTo));
}

#[test]
fn rolling_back_from_an_image_on_trial() {
    let mut world = world("1.0", &[("stele_1.1+3.efi", true)]);
    world.settle();
    let effects = rollback(&world.observed()).unwrap();
    assert_eq!(
        effects[0],
        Effect::Rename { from: "stele_1.1+2-1.efi".into(), to: "stele_1.1+0-1.efi".into() }
    );
    run(&mut world, &effects);
    world.settle();
    assert_eq!(world.selected.as_deref(), Some("stele_1.0.efi"));
}

#[test]
fn refusals_say_why() {
    let on_trial = {
        let mut world = world("1.0", &[("stele_1.1+3.efi", true), ("stele_1.2.efi.staged", true)]);
        world.settle();
        world
    };
    assert_eq!(
        activate("stele_1.2.efi", &on_trial.observed()),
        Err(Refused::RunningOnTrial(SlotId::parse("stele_1.1.efi").unwrap()))
    );

    let world = world("1.0", &[("stele_1.00.efi.staged", true)]);
    let same = activate("stele_1.00.efi", &world.observed()).unwrap_err();
    assert_eq!(same.to_string(), "version 1.00 is on this machine already, in slot stele_1.0.efi");
    assert_eq!(
        activate("stele_9.efi", &world.observed()),
        Err(Refused::NotStaged("stele_9.efi".into()))
    );

    let elsewhere = Observed { selected: None, ..world.observed() };
    assert_eq!(activate("stele_1.00.efi", &elsewhere), Err(Refused::NotFromDisk));
    assert_eq!(rollback(&elsewhere), Err(Refused::NotFromDisk));
    assert_eq!(
        retire(100, 10, &World::new("1.0").observed()).unwrap_err().to_string(),
        "the image has 100 bytes; the boot partition has 10 bytes free, and 0 more could be made free"
    );
}

#[test]
fn two_names_of_one_image_are_not_parted() {
    // What a rename cut in two may leave: removing one name would free the other's bytes.
    let world = world("1.0", &[("stele_1.0+2-1.efi", true), ("stele_1.0.efi.staged", true)]);
    assert!(retire(50, 10, &world.observed()).is_err());
}

#[test]
fn files_of_others_are_left_alone() {
    let mut world = World::new("1.0");
    for name in ["debian.efi", "stele_1.1+03.efi.bak", "vendor.part"] {
        world.files.insert(name.into(), Image { works: false, size: 1000 });
    }
    assert_eq!(clean(&world.observed()), []);
    assert!(retire(500, 10, &world.observed()).is_err());
}

#[test]
fn a_start_with_arguments_touches_no_image() {
    let mut world = World::new("1.0");
    let effects = start_once("quiet stele.args=7:1 nosmt", &world.observed()).unwrap();
    let name = "stele_1.0.args.conf".to_owned();
    let text = "title Stele 1.0 with the kernel arguments of its configuration\n\
                efi /EFI/Linux/stele_1.0.efi\noptions quiet stele.args=7:1 nosmt\n";
    assert_eq!(
        effects,
        [
            Effect::WriteEntry { name: name.clone(), text: text.to_owned() },
            Effect::StartOnce(name.clone()),
        ]
    );
    // The start that this makes is one of the same slot, and removes what it was made with.
    world.selected = Some(name.clone());
    let entries = vec![name.clone(), "other.conf".to_owned()];
    let observed = Observed { entries, ..world.observed() };
    assert!(observe(&observed)[0].running);
    assert_eq!(clean(&observed), [Effect::RemoveEntry { name }]);
    let elsewhere = Observed { selected: None, ..world.observed() };
    assert_eq!(start_once("quiet", &elsewhere), Err(Refused::NotFromDisk));
}

#[test]
fn an_image_stays_while_no_other_is_to_be_tried() {
    let mut world = World::new("1.0");
    assert!(stays(&world.observed()));
    world.files.insert("stele_1.1.efi.staged".to_owned(), Image { works: true, size: 30 });
    assert!(stays(&world.observed()));
    world.files.insert("stele_1.2+3.efi".to_owned(), Image { works: true, size: 30 });
    assert!(!stays(&world.observed()));
    world.preferred = Some("stele_1.0.efi".to_owned());
    assert!(stays(&world.observed()));
    world.selected = Some("stele_1.2.efi".to_owned());
    assert!(!stays(&world.observed()), "the running one is on trial");
}
