// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;
use stele_layout::gpt::ESP;

const ESP_GUID: Guid = [0x11; 16];
const NEW: [Guid; 2] = [[0x22; 16], [0x33; 16]];

/// The start and the end of a disk that is far too large to hold in memory: all that a table touches.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ends {
    size: u64,
    at: u64,
    start: Vec<u8>,
    end: Vec<u8>,
}

const END: usize = 256 * 1024;

impl Ends {
    fn new(size: u64) -> Ends {
        Ends { size, at: 0, start: vec![0; END], end: vec![0; END] }
    }

    fn byte(&mut self, at: u64) -> Option<&mut u8> {
        match usize::try_from(at).ok().filter(|at| *at < END) {
            Some(at) => self.start.get_mut(at),
            None => {
                self.end.get_mut(usize::try_from(at.checked_sub(self.size - END as u64)?).ok()?)
            }
        }
    }
}

impl Read for Ends {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        for target in buffer {
            if self.at >= self.size {
                break;
            }
            *target = self.byte(self.at).map_or(0, |byte| *byte);
            self.at += 1;
            done += 1;
        }
        Ok(done)
    }
}

impl io::Write for Ends {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            *self.byte(self.at).expect("a write in the middle of the disk") = *byte;
            self.at += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Ends {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self.size.saturating_add_signed(offset),
            SeekFrom::Current(offset) => self.at.saturating_add_signed(offset),
        };
        Ok(self.at)
    }
}

/// A disk as the image builder makes it, at the start of one of `size` bytes.
fn image(size: u64, sector: u64) -> Ends {
    let image = (1 + 512 + 1) * MIB;
    let mut small = Ends::new(image);
    let mut gpt = GPT::new_from(&mut small, sector, [0x99; 16]).unwrap();
    gpt[1] = GPTPartitionEntry {
        partition_type_guid: ESP.kind,
        unique_partition_guid: ESP_GUID,
        starting_lba: MIB / sector,
        ending_lba: 513 * MIB / sector - 1,
        attribute_bits: 0,
        partition_name: "ESP".into(),
    };
    gpt.write_into(&mut small).unwrap();
    GPT::write_protective_mbr_into(&mut small, sector).unwrap();
    let mut disk = Ends::new(size);
    disk.start = small.start;
    if size == image {
        disk.end = small.end;
    }
    disk
}

fn read(disk: &mut Ends, sector: u64) -> Table {
    let size = disk.size;
    Table::read(disk, size, sector).unwrap()
}

fn apply(disk: &mut Ends, write: &Write) {
    disk.seek(SeekFrom::Start(write.offset)).unwrap();
    io::Write::write_all(disk, &write.bytes).unwrap();
}

/// Does what the agent does, to the end.
fn run(disk: &mut Ends, sector: u64) -> Table {
    let complete = read(disk, sector).complete(NEW).unwrap();
    for write in complete.writes(disk).unwrap() {
        apply(disk, &write);
    }
    let mut table = complete;
    for partition in [&STATE, &DATA] {
        table = table.used(&table.ours(partition).unwrap());
        for write in table.writes(disk).unwrap() {
            apply(disk, &write);
        }
    }
    table
}

#[test]
fn a_first_boot() {
    let mut disk = image(20 * 1024 * MIB, 512);
    let table = read(&mut disk, 512).complete(NEW).unwrap();
    assert_eq!(
        table.ours(&STATE),
        Some(Place { number: 2, start: 513 * MIB, length: 128 * MIB, unused: true })
    );
    let data =
        Place { number: 3, start: 641 * MIB, length: (20 * 1024 - 641 - 1) * MIB, unused: true };
    assert_eq!(table.ours(&DATA), Some(data));
    let writes = table.writes(&mut disk).unwrap();
    assert_eq!(
        writes.iter().map(|write| write.offset).collect::<Vec<_>>(),
        [20 * 1024 * MIB - 33 * 512, 512, 458]
    );

    let end = run(&mut disk, 512);
    assert!(!end.ours(&DATA).unwrap().unused);
    assert_eq!(read(&mut disk, 512), end, "what was written is what is read");
    assert_eq!(
        end.complete([[0x44; 16], [0x55; 16]]).unwrap().writes(&mut disk).unwrap(),
        [],
        "nothing is left to do"
    );
}

#[test]
fn a_disk_that_is_too_small_says_what_it_lacks() {
    let mut disk = image((1 + 512 + 1) * MIB, 512);
    assert_eq!(
        read(&mut disk, 512).complete(NEW).unwrap_err().to_string(),
        "STATE and DATA need 201326592 bytes in one piece; the disk has 538968064 bytes, and its largest free piece has 0"
    );
    let mut disk = image(stele_layout::gpt::SMALLEST_DISK, 512);
    assert!(read(&mut disk, 512).complete(NEW).is_ok());
    let mut disk = image(705 * MIB, 512);
    assert!(
        matches!(read(&mut disk, 512).complete(NEW), Err(TableError::NoRoom { free, .. }) if free == 191 * MIB)
    );
}

#[test]
fn a_disk_that_was_cut_off() {
    let mut disk = image(2048 * MIB, 512);
    run(&mut disk, 512);
    disk.size = 1024 * MIB;
    let error = read(&mut disk, 512).complete(NEW).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the disk has {} bytes, and its partitions need {}",
            1024 * MIB,
            2047 * MIB + 33 * 512 + 512 - 512
        )
    );
}

#[test]
fn no_table_and_odd_tables() {
    assert!(matches!(
        Table::read(&mut Ends::new(MIB * 100), MIB * 100, 512),
        Err(TableError::NoTable(_))
    ));
    let mut disk = image(1024 * MIB, 512);
    let mut header = GPT::read_from(&mut disk, 512).unwrap().header;
    header.number_of_partition_entries = u32::MAX;
    header.update_crc32_checksum();
    disk.seek(SeekFrom::Start(512)).unwrap();
    // Only the header: its entries would fill the machine's memory.
    let mut bytes = Vec::new();
    for (at, field) in [(80, header.number_of_partition_entries), (16, header.crc32_checksum)] {
        bytes.push((512 + at, field.to_le_bytes()));
    }
    for (at, field) in bytes {
        apply(&mut disk, &Write { offset: at, bytes: field.to_vec() });
    }
    assert!(matches!(
        Table::read(&mut disk, 1024 * MIB, 512),
        Err(TableError::Form { entries: u32::MAX, .. })
    ));
}

/// CRC-32, as GPT has it.
fn crc32(bytes: &[u8]) -> [u8; 4] {
    let sum = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 }
        })
    });
    (!sum).to_le_bytes()
}

/// Makes the checksums of the first copy right again, of the entries and of the header.
fn sum_up(disk: &mut Ends) {
    let mut read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        disk.seek(SeekFrom::Start(offset)).unwrap();
        io::Read::read_exact(disk, &mut bytes).unwrap();
        bytes
    };
    let entries = crc32(&read(1024, 128 * 128));
    let mut header = read(512, 92);
    header[88..].copy_from_slice(&entries);
    header[16..20].fill(0);
    let sum = crc32(&header);
    header[16..20].copy_from_slice(&sum);
    apply(disk, &Write { offset: 512, bytes: header });
}

#[test]
fn a_table_of_places_that_no_disk_has() {
    // Of the header, and of an entry that begins before all of them; gptman divides by the places of those.
    for (at, lba) in [(584, u64::MAX), (552, u64::MAX / 2), (552, 1 << 48), (1024 + 32, 0)] {
        let mut disk = image(1024 * MIB, 512);
        if at > 1024 {
            let alone = Write { offset: 1024 + 128, bytes: vec![0; 127 * 128] };
            apply(&mut disk, &alone);
        }
        apply(&mut disk, &Write { offset: at, bytes: lba.to_le_bytes().to_vec() });
        sum_up(&mut disk);
        let read = Table::read(&mut disk, 1024 * MIB, 512);
        assert!(matches!(read, Err(TableError::Nonsense)), "{at}: {read:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The power is cut after any sector of any write; then it all runs again.
    #[test]
    fn a_cut_anywhere_converges(mib in 706u64..100_000, odd in 0u64..2048, wide in any::<bool>(), cut in 0usize..220) {
        let sector = if wide { 4096 } else { 512 };
        let size = (mib * MIB + odd * 512) / sector * sector;
        let mut disk = image(size, sector);
        let finished = { let mut disk = disk.clone(); run(&mut disk, sector) };

        let mut budget = cut;
        let complete = read(&mut disk, sector).complete(NEW).unwrap();
        let mut tables = vec![complete.clone()];
        for partition in [&STATE, &DATA] {
            let last = tables.last().unwrap();
            tables.push(last.used(&last.ours(partition).unwrap()));
        }
        'power: for table in &tables {
            for write in table.writes(&mut disk).unwrap() {
                for (index, piece) in write.bytes.chunks(usize::try_from(sector).unwrap()).enumerate() {
                    if budget == 0 {
                        break 'power;
                    }
                    budget -= 1;
                    apply(&mut disk, &Write { offset: write.offset + index as u64 * sector, bytes: piece.to_vec() });
                }
            }
        }
        let there = read(&mut disk, sector);
        let esp = there.with_guid(&ESP_GUID).unwrap();
        prop_assert_eq!((esp.start, esp.length), (MIB, 512 * MIB));
        // The order of the two copies: what the one at the end says is unused was never used.
        let end = run(&mut disk, sector);
        prop_assert_eq!(&end, &finished);
        prop_assert_eq!(&read(&mut disk, sector), &finished);
    }

    #[test]
    fn partitions_never_overlap(mib in 706u64..10_000, others in prop::collection::vec((600u64..9_000, 1u64..2_000), 0..5)) {
        let mut disk = image(mib * MIB, 512);
        let mut table = read(&mut disk, 512);
        table.grow().unwrap();
        for (index, (start, length)) in others.iter().enumerate() {
            let (first, last) = (start * MIB / 512 + 7, (start + length) * MIB / 512);
            let free = table.gpt.iter().all(|(_, entry)| entry.is_unused() || last < entry.starting_lba || first > entry.ending_lba);
            if free && last <= table.gpt.header.last_usable_lba {
                let entry = table.gpt.iter_mut().map(|(_, entry)| entry).find(|entry| entry.is_unused()).unwrap();
                *entry = GPTPartitionEntry {
                    partition_type_guid: [0x77; 16],
                    unique_partition_guid: [0x80 + u8::try_from(index).unwrap(); 16],
                    starting_lba: first,
                    ending_lba: last,
                    attribute_bits: 0,
                    partition_name: "other".into(),
                };
            }
        }
        let Ok(complete) = table.complete(NEW) else { return Ok(()) };
        let mut ranges: Vec<_> = complete.gpt.iter().filter(|(_, entry)| entry.is_used()).map(|(_, entry)| (entry.starting_lba, entry.ending_lba)).collect();
        ranges.sort_unstable();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
        prop_assert!(ranges.last().unwrap().1 <= complete.gpt.header.last_usable_lba);
        for partition in [&STATE, &DATA] {
            let place = complete.ours(partition).unwrap();
            prop_assert!(place.start % MIB == 0 && place.length % MIB == 0);
            prop_assert!(place.length >= partition.size.unwrap_or(SMALLEST_DATA));
        }
        prop_assert!(complete.writes(&mut disk).is_ok());
    }
}
