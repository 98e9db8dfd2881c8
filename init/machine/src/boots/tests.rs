// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

fn record(image: &str, started: Start, health: Health) -> Record {
    let failure = if health == Health::Failed { "web fails" } else { "" };
    let ended = Ended { how: How::Reboot, cause: "it ended".to_owned(), asked: false };
    Record {
        image: image.to_owned(),
        started,
        health,
        failure: failure.to_owned(),
        ended: Some(ended),
        ..Record::default()
    }
}

fn asked(mut record: Record) -> Record {
    record.ended = Some(Ended { how: How::Reboot, cause: "admin asked".to_owned(), asked: true });
    record
}

const A: Running<'_> = Running { version: "1", trial: None, others: true };
const B: Running<'_> = Running { version: "2", trial: Some((0, 3)), others: true };

fn trial(attempt: u32, health: Health) -> Record {
    record("2", Start::Trial { attempt }, health)
}

fn fallback(health: Health) -> Record {
    record("1", Start::Fallback { from: "2".to_owned() }, health)
}

fn ordinary() -> Record {
    record("1", Start::Ordinary, Health::None)
}

#[test]
fn an_ordinary_life() {
    assert_eq!(start(&[], A), Start::Ordinary);
    assert_eq!(start(&[ordinary(), ordinary()], A), Start::Ordinary);
    let passed = [ordinary(), trial(1, Health::Passed)];
    let two = Running { version: "2", trial: None, others: true };
    assert_eq!(start(&passed, two), Start::Ordinary);
    // Back by hand, from an image that was good.
    assert_eq!(start(&passed, A), Start::Ordinary);
}

#[test]
fn a_new_image_is_on_trial_and_the_old_one_falls_back() {
    assert_eq!(start(&[ordinary()], B), Start::Trial { attempt: 3 });
    let fell = Start::Fallback { from: "2".to_owned() };
    assert_eq!(start(&[ordinary(), trial(3, Health::Failed)], A), fell);
    let lost = record("2", Start::Lost { attempt: 3 }, Health::Pending);
    assert_eq!(start(&[ordinary(), lost], A), fell);
    // A power cut while it proves itself.
    let cut = [ordinary(), trial(3, Health::Failed), fallback(Health::Pending)];
    assert_eq!(start(&cut, A), fell);
    let proved = [ordinary(), trial(3, Health::Failed), fallback(Health::Passed)];
    assert_eq!(start(&proved, A), Start::Ordinary);
}

#[test]
fn a_person_who_rolls_back_does_not_make_a_fallback() {
    let history = [ordinary(), asked(trial(1, Health::Pending))];
    assert_eq!(start(&history, A), Start::Ordinary);
}

#[test]
fn both_bad_is_safe_mode_until_a_person_acts() {
    let mut history = vec![ordinary(), trial(3, Health::Failed), fallback(Health::Failed)];
    let Start::Safe { reason } = start(&history, A) else { panic!("both failed") };
    assert_eq!(reason, "2 failed (web fails), and so did 1 after it (web fails)");
    // A power cut in safe mode changes nothing.
    let safe = record("1", Start::Safe { reason }, Health::None);
    history.push(safe.clone());
    assert!(matches!(start(&history, A), Start::Safe { .. }));
    // Someone restarts it: it is tried again, once.
    history.push(asked(safe));
    assert_eq!(start(&history, A), Start::Fallback { from: "2".to_owned() });
    history.push(fallback(Health::Failed));
    assert!(matches!(start(&history, A), Start::Safe { .. }));
}

#[test]
fn three_fallbacks_without_a_verdict_are_enough() {
    let mut history = vec![ordinary(), trial(3, Health::Failed)];
    for _ in 0..2 {
        history.push(fallback(Health::Pending));
        assert!(matches!(start(&history, A), Start::Fallback { .. }));
    }
    history.push(fallback(Health::Pending));
    assert!(matches!(start(&history, A), Start::Safe { .. }));
}

#[test]
fn a_start_that_only_began_anew_with_arguments_counts_for_none() {
    let mut history = vec![ordinary(), trial(3, Health::Failed)];
    for _ in 0..2 {
        let ended = Ended { how: How::Again, cause: String::new(), asked: false };
        history.push(Record { ended: Some(ended), ..fallback(Health::Pending) });
        assert!(matches!(start(&history, A), Start::Fallback { .. }));
        history.push(fallback(Health::Pending));
        assert!(matches!(start(&history, A), Start::Fallback { .. }));
    }
    history.push(fallback(Health::Pending));
    assert!(matches!(start(&history, A), Start::Safe { .. }));
    // One of which nothing reached the disk is no fallback for those after it.
    let lost = record("1", Start::Lost { attempt: 1 }, Health::Pending);
    assert_eq!(start(&[ordinary(), lost], A), Start::Ordinary);
}

#[test]
fn out_of_tries_with_nothing_to_go_back_to_is_safe_mode() {
    let alone = Running { others: false, ..B };
    assert!(matches!(start(&[trial(2, Health::Failed)], alone), Start::Safe { .. }));
    assert_eq!(start(&[trial(2, Health::Pending)], alone), Start::Trial { attempt: 3 });
    assert_eq!(start(&[trial(2, Health::Failed)], B), Start::Trial { attempt: 3 });
}

/// What becomes of a boot in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing of it reaches the disk.
    Lost,
    /// Its record is begun, and power is cut.
    Cut,
    /// Its gate fails.
    Fails,
    /// Its gate is passed.
    Passes,
}

/// Starts a machine with image 1 good and image 2 on trial, each boot with the next fate. Returns why each boot was what
/// it was.
fn live(fates: &[Fate]) -> Vec<Start> {
    let (mut tries, mut blessed) = (3_u32, false);
    let mut history = vec![ordinary()];
    let mut starts = Vec::new();
    for fate in fates {
        let two = blessed || tries > 0;
        let trial = (two && !blessed).then(|| {
            tries -= 1;
            (tries, 3 - tries)
        });
        let image = if two { "2" } else { "1" };
        if *fate == Fate::Lost {
            // The boot after it finds it by the counter; one of a good image leaves nothing behind.
            if let Some((_, attempt)) = trial {
                history.push(record("2", Start::Lost { attempt }, Health::Pending));
            }
            continue;
        }
        let started = start(&history, Running { version: image, trial, others: true });
        starts.push(started.clone());
        let health = match (started.is_gated(), fate) {
            (false, _) => Health::None,
            (true, Fate::Passes) => Health::Passed,
            (true, Fate::Fails) => Health::Failed,
            (true, _) => Health::Pending,
        };
        blessed |= trial.is_some() && health == Health::Passed;
        history.push(record(image, started, health));
    }
    starts
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Lost), Just(Fate::Cut), Just(Fate::Fails), Just(Fate::Passes)]
}

proptest! {
    /// Whatever happens to it, a machine that nobody looks after does not restart itself for ever: three tries, three
    /// fallbacks at most, and then it is up, for good or in safe mode.
    #[test]
    fn no_machine_loops(fates in prop::collection::vec(fate(), 0..40)) {
        let starts = live(&fates);
        let restless = starts.iter().filter(|start| start.is_gated()).count();
        prop_assert!(restless <= 6, "{starts:?}");
        if let Some(safe) = starts.iter().position(|start| matches!(start, Start::Safe { .. })) {
            let left = starts.iter().skip(safe).any(|start| !matches!(start, Start::Safe { .. }));
            prop_assert!(!left, "safe mode ended by itself");
        }
    }

    /// An image that works is kept, however often power is cut before it could show that, as long as it has a try left.
    #[test]
    fn a_good_image_is_kept(cuts in 0..3usize) {
        let fates: Vec<Fate> = [Fate::Cut].repeat(cuts).into_iter().chain([Fate::Passes, Fate::Cut, Fate::Cut]).collect();
        let starts = live(&fates);
        prop_assert_eq!(starts.last(), Some(&Start::Ordinary));
    }
}

#[test]
fn records_are_kept_as_json() {
    let mut record = fallback(Health::Failed);
    record.checks.push(CheckRecord {
        name: "web".to_owned(),
        need: "required".to_owned(),
        state: "failing".to_owned(),
        passed: Some(1500),
        reason: "refused".to_owned(),
    });
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    assert_eq!(serde_json::from_str::<Record>("{}").unwrap(), Record::default());
}
