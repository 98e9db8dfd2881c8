// SPDX-License-Identifier: Apache-2.0
//! The whole agent on a file for a disk, with a file for each partition and the real programs of e2fsprogs.

use super::*;
use gptman::{GPT, GPTPartitionEntry};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use stele_layout::gpt::{MIB, SMALLEST_DISK};

const ESP_GUID: Guid = [0x11; 16];
const NEW: [Guid; 2] = [[0x22; 16], [0x33; 16]];

struct Machine {
    folder: PathBuf,
    disk: File,
    size: u64,
}

/// The kernel's part: a node for each partition.
struct Files<'a>(&'a Path);

impl Nodes for Files<'_> {
    fn node(&self, place: &Place) -> Result<PathBuf, VolumeError> {
        let path = self.0.join(format!("disk{}", place.number));
        if !path.exists() {
            File::create(&path).and_then(|file| file.set_len(place.length)).unwrap();
        }
        Ok(path)
    }
}

impl Machine {
    /// A disk with nothing but an ESP on it, filled with the bytes of someone who had it before.
    fn new(name: &str, size: u64) -> Machine {
        let folder = std::env::temp_dir().join(format!("stele-disk-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let mut disk = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.join("disk"))
            .unwrap();
        disk.set_len(514 * MIB).unwrap();
        let mut gpt = GPT::new_from(&mut disk, 512, [0x99; 16]).unwrap();
        gpt[1] = GPTPartitionEntry {
            partition_type_guid: ESP.kind,
            unique_partition_guid: ESP_GUID,
            starting_lba: 2048,
            ending_lba: 513 * 2048 - 1,
            attribute_bits: 0,
            partition_name: "ESP".into(),
        };
        gpt.write_into(&mut disk).unwrap();
        disk.set_len(size).unwrap();
        Machine { folder, disk, size }
    }

    fn prepare(&mut self) -> Report {
        let table = self.table();
        prepare_on(&mut self.disk, &table, &ESP_GUID, NEW, &Files(&self.folder))
    }

    fn table(&mut self) -> Table {
        Table::read(&mut self.disk, self.size, 512).unwrap()
    }

    fn damage(&self, partition: &str, at: u64, bytes: &[u8]) {
        let mut file = File::options().write(true).open(self.folder.join(partition)).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// Sets the state that ext4 has while it has found errors.
    fn leave_in_disorder(&self, partition: &str) {
        let path = self.folder.join(partition);
        let mut superblock = [0; ext4::SIZE];
        File::open(&path).unwrap().read_exact_at(&mut superblock, ext4::OFFSET).unwrap();
        superblock[0x3a] = 2;
        let checksum = ext4::crc32c(&superblock[..ext4::CHECKSUM]);
        superblock[ext4::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        self.damage(partition, ext4::OFFSET, &superblock);
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.join(name))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

#[test]
fn a_first_boot_and_a_second() {
    let mut machine = Machine::new("first", SMALLEST_DISK);
    let report = machine.prepare();
    assert_eq!(report.notes, ["STATE made: 128 MiB", "DATA made: 64 MiB"]);
    assert_eq!(
        (&report.esp, &report.state, &report.data),
        (&machine.path("disk1"), &machine.path("disk2"), &machine.path("disk3"))
    );
    assert_eq!(
        content(&machine.folder.join("disk2")).unwrap(),
        Content::Ext { label: "STATE".into(), clean: true }
    );

    let before = fs::read(machine.folder.join("disk2")).unwrap();
    let report = machine.prepare();
    assert_eq!(report.notes, Vec::<String>::new());
    assert_eq!(report.state, machine.path("disk2"));
    assert!(before == fs::read(machine.folder.join("disk2")).unwrap(), "nothing was written");
}

#[test]
fn a_first_boot_that_was_cut_off_while_formatting() {
    let mut machine = Machine::new("cut", SMALLEST_DISK);
    let complete = machine.table().complete(NEW).unwrap();
    write(&mut machine.disk, &complete).unwrap();
    Files(&machine.folder).node(&complete.ours(&STATE).unwrap()).unwrap();
    machine.damage("disk2", 0, &[0xa5; 70_000]);
    assert_eq!(machine.prepare().notes, ["STATE made: 128 MiB", "DATA made: 64 MiB"]);
}

#[test]
fn a_corrupt_partition_is_left_alone() {
    let mut machine = Machine::new("corrupt", SMALLEST_DISK);
    machine.prepare();
    machine.damage("disk2", 0, &[0; 2 * 1024 * 1024]);
    let before = fs::read(machine.folder.join("disk2")).unwrap();
    let report = machine.prepare();
    assert_eq!(
        report.notes,
        ["STATE can't be used: it is corrupt and holds no file system any more; it is left alone"]
    );
    assert_eq!((report.state, report.data), (None, machine.path("disk3")));
    assert!(before == fs::read(machine.folder.join("disk2")).unwrap(), "nothing was written");
}

#[test]
fn what_can_be_repaired_is_repaired() {
    let mut machine = Machine::new("repair", SMALLEST_DISK);
    machine.prepare();
    machine.leave_in_disorder("disk3");
    let report = machine.prepare();
    assert_eq!(report.notes, ["DATA was not left in order: checked"]);
    assert_eq!(report.data, machine.path("disk3"));
    assert_eq!(machine.prepare().notes, Vec::<String>::new(), "it is in order now");
}

#[test]
fn what_cannot_be_repaired_is_left_alone() {
    let mut machine = Machine::new("broken", SMALLEST_DISK);
    machine.prepare();
    machine.leave_in_disorder("disk3");
    // The group descriptors.
    machine.damage("disk3", 4096, &[0xff; 64 * 1024]);
    let report = machine.prepare();
    assert_eq!((report.state, report.data), (machine.path("disk2"), None));
    assert!(
        report.notes[0].starts_with("DATA can't be used: /usr/sbin/e2fsck failed"),
        "{:?}",
        report.notes
    );
}

#[test]
fn a_superblock_that_was_hit_is_noticed() {
    let mut machine = Machine::new("hit", SMALLEST_DISK);
    machine.prepare();
    machine.damage("disk2", 1024 + 4, &[0xff; 4]);
    let report = machine.prepare();
    assert_eq!((report.state, report.data), (None, machine.path("disk3")));
    assert!(
        report.notes[0].starts_with("STATE can't be used: /usr/sbin/e2fsck failed"),
        "{:?}",
        report.notes
    );
}

#[test]
fn finding_changes_nothing() {
    let mut machine = Machine::new("find", SMALLEST_DISK);
    machine.prepare();
    machine.leave_in_disorder("disk3");
    let before = fs::read(machine.folder.join("disk3")).unwrap();
    let table = machine.table();
    assert_eq!(look(&table, &DATA, &Files(&machine.folder)).unwrap(), machine.path("disk3"));
    assert!(before == fs::read(machine.folder.join("disk3")).unwrap());
}

#[test]
fn a_disk_that_is_too_small() {
    let mut machine = Machine::new("small", 514 * MIB);
    let report = machine.prepare();
    assert_eq!(
        report.notes,
        [
            "the rest of the disk can't be used: STATE and DATA need 201326592 bytes in one piece; the disk has 538968064 bytes, \
         and its largest free piece has 0"
        ]
    );
    assert_eq!(
        report,
        Report { esp: machine.path("disk1"), state: None, data: None, notes: report.notes.clone() }
    );
}

#[test]
fn identities_are_random_and_marked_so() {
    let (one, two) = (random_guid().unwrap(), random_guid().unwrap());
    assert_ne!(one, two);
    assert_eq!(stele_layout::gpt::format(&one).as_bytes()[14], b'4');
}
