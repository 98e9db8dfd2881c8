// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::writes::write;

const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

fn recording(entries: &[(u64, Vec<u8>, u64)]) -> (tempfile::TempDir, Recording) {
    let folder = tempfile::tempdir().unwrap();
    let (base, log) = (folder.path().join("base"), folder.path().join("log"));
    std::fs::write(&base, vec![b'.'; 16 * SECTOR]).unwrap();
    write(&log, entries).unwrap();
    let recording = Recording::open(&base, &log).unwrap();
    (folder, recording)
}

/// One letter a sector.
fn letters(drive: &Drive<'_>) -> String {
    let bytes = drive.read(0, drive.sectors()).unwrap();
    bytes.chunks(SECTOR).map(|sector| char::from(sector[0].max(b' '))).collect()
}

fn data(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; SECTOR]).collect()
}

#[test]
fn every_subset_between_two_flushes_is_looked_at_once() {
    let (_folder, recording) = recording(&[
        (0, data("ab"), 0),
        (0, vec![], FLUSH),
        (1, data("X"), 0),
        (2, data("Y"), 0),
        (1, data("Z"), 0),
        (0, vec![], FLUSH),
        (0, data("__"), DISCARD),
    ]);
    let mut drive = recording.start();
    let mut seen = Vec::new();
    for moment in recording.moments(1) {
        drive.advance(&moment).unwrap();
        assert_eq!(letters(&drive), letters(&recording.at(&moment).unwrap()), "{moment}");
        seen.push(letters(&drive)[..4].to_owned());
    }
    // In order: the first write; then with X; with XY; with XYZ (Z over X). Out of order: what else a cut could leave.
    for state in ["ab..", "aX..", "aXY.", "aZY.", "aZ..", "abY.", "  Y."] {
        assert!(seen.iter().any(|found| found == state), "{state} is not among {seen:?}");
    }
    assert!(seen.iter().all(|state| !state.starts_with('.')), "{seen:?}");
}

#[test]
fn many_writes_are_sampled_and_none_crosses_a_flush() {
    let mut entries = Vec::new();
    for _ in 0..2 {
        entries.extend((0..12).map(|sector| (sector, data("w"), 0)));
        entries.push((0, vec![], FLUSH));
    }
    let (_folder, recording) = recording(&entries);
    let moments = recording.moments(7);
    assert!((80..200).contains(&moments.len()), "{}", moments.len());
    assert_eq!(moments, recording.moments(7));
    for moment in &moments {
        let epoch = moment.until.saturating_sub(1) / 13 * 13;
        assert!(
            moment.missing.iter().all(|index| (epoch..moment.until).contains(index)),
            "{moment}"
        );
    }
}

#[test]
fn a_copy_gets_what_has_changed() {
    let (folder, recording) = recording(&[(3, data("new"), 0), (9, data("x"), 0)]);
    let moment = Moment { until: 1, missing: Vec::new() };
    let drive = recording.at(&moment).unwrap();
    let copy = folder.path().join("copy");
    std::fs::write(&copy, vec![b'.'; 8 * SECTOR]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    drive.write(2..10, &file, 2).unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    let seen: String = bytes.chunks(SECTOR).map(|sector| char::from(sector[0])).collect();
    assert_eq!(seen, ".new....");
}

#[test]
fn what_is_the_same_has_the_same_fingerprint() {
    let (_folder, recording) = recording(&[(3, data("new"), 0), (9, data("x"), 0)]);
    let at = |until| recording.at(&Moment { until, missing: Vec::new() }).unwrap();
    assert_eq!(at(1).fingerprint(0..8), at(2).fingerprint(0..8));
    assert_ne!(at(0).fingerprint(0..8), at(1).fingerprint(0..8));
    assert_ne!(at(1).fingerprint(8..16), at(2).fingerprint(8..16));
}
