// SPDX-License-Identifier: Apache-2.0
//! The disk of a machine that is off: its partitions, and what is on its ESP.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{path::Path, process::Command};

/// A partition, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub length: u64,
}

/// The partition with this label.
pub fn partition(disk: &Path, label: &str) -> Result<Place> {
    let output = Command::new("/usr/sbin/sfdisk")
        .arg("--json")
        .arg(disk)
        .output()
        .context("Running sfdisk")?;
    let table: Value =
        serde_json::from_slice(&output.stdout).context("Reading the partition table")?;
    let partitions =
        table["partitiontable"]["partitions"].as_array().context("There are no partitions")?;
    let found = partitions.iter().find(|partition| partition["name"] == label);
    let found = found.with_context(|| format!("There is no partition {label}: {table}"))?;
    let bytes = |key: &str| {
        found[key].as_u64().map(|sectors| sectors * 512).context("A partition without a size")
    };
    Ok(Place { start: bytes("start")?, length: bytes("size")? })
}

/// Copies a file to a path on the ESP.
pub fn put_on_esp(disk: &Path, file: &Path, path: &str) -> Result<()> {
    let file = file.to_string_lossy();
    mtools("mcopy", disk, &["-o", &file, &format!("::{path}")]).map(drop)
}

/// Fills the ESP with one file, but for so many bytes.
pub fn fill_esp(disk: &Path, left: u64, scratch: &Path) -> Result<()> {
    let said = mtools("mdir", disk, &["::"])?;
    // "                      499 999 744 bytes free"
    let line = said.lines().find_map(|line| line.trim().strip_suffix("bytes free"));
    let free: String = line.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    let free: u64 = free.parse().with_context(|| format!("mdir says {said:?}"))?;
    let filler = scratch.join("filler");
    let size = free.checked_sub(left).context("There is less room than that")?;
    std::fs::File::create(&filler)?.set_len(size)?;
    put_on_esp(disk, &filler, "filler.bin")?;
    std::fs::remove_file(&filler).context("Removing the filler")
}

/// Removes a file from the ESP.
pub fn remove_from_esp(disk: &Path, path: &str) -> Result<()> {
    mtools("mdel", disk, &[&format!("::{path}")]).map(drop)
}

/// Overwrites a part of a partition.
pub fn damage(disk: &Path, place: Place, length: u64) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().write(true).open(disk)?;
    let noise = vec![0xa5; 1 << 20];
    let mut at = 0;
    while at < length.min(place.length) {
        let part = (length - at).min(noise.len() as u64);
        file.write_all_at(&noise[..usize::try_from(part)?], place.start + at)?;
        at += part;
    }
    Ok(())
}

/// The names in a folder of the ESP.
pub fn list_esp(disk: &Path, folder: &str) -> Result<Vec<String>> {
    let listed = mtools("mdir", disk, &["-b", &format!("::{folder}")])?;
    let name = |line: &str| line.rsplit('/').next().map(str::to_owned);
    Ok(listed.lines().filter(|line| !line.is_empty()).filter_map(name).collect())
}

fn mtools(program: &str, disk: &Path, arguments: &[&str]) -> Result<String> {
    let esp = partition(disk, "ESP")?;
    let output = Command::new(program)
        .arg("-i")
        .arg(format!("{}@@{}", disk.display(), esp.start))
        .args(arguments)
        .output()
        .with_context(|| format!("Running {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Damages a file on the ext4 file system in this partition, as a disk does that forgets: what is in its first block is given
/// to `change`, and the file system knows nothing of it.
pub fn damage_file(
    disk: &Path,
    place: Place,
    path: &str,
    change: impl FnOnce(&mut [u8]),
) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let said = debugfs(disk, place, "stats")?;
    let line = said.lines().find_map(|line| line.strip_prefix("Block size:"));
    let size: u64 = line.unwrap_or_default().trim().parse().context("Reading the block size")?;
    let said = debugfs(disk, place, &format!("blocks {path}"))?;
    let block = said.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    let block = block.with_context(|| format!("{path} has no block: {said}"))?;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(disk)?;
    let mut bytes = vec![0; usize::try_from(size)?];
    let at = place.start + block * size;
    file.read_exact_at(&mut bytes, at)?;
    let before = bytes.clone();
    change(&mut bytes);
    ensure!(bytes != before, "{path} is what it was");
    file.write_all_at(&bytes, at).context("Writing the damage")
}

/// What debugfs says to a request; it may write.
fn debugfs(disk: &Path, place: Place, request: &str) -> Result<String> {
    let target = format!("{}?offset={}", disk.display(), place.start);
    let output = Command::new("/usr/sbin/debugfs").args(["-w", "-R", request, &target]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr))
}

/// Gives every free block of the file system in this partition to one file.
pub fn fill(disk: &Path, place: Place) -> Result<()> {
    let debugfs = |request: &str| debugfs(disk, place, request);
    let free = || -> Result<u64> {
        let said = debugfs("stats")?;
        let line = said.lines().find_map(|line| line.strip_prefix("Free blocks:"));
        line.and_then(|free| free.trim().parse().ok()).with_context(|| format!("debugfs: {said}"))
    };
    let before = free()?;
    let mut said = debugfs("write /dev/null filler")?;
    // Room for the file's own map of its blocks is left.
    said += &debugfs(&format!("fallocate filler 0 {}", before - 20))?;
    ensure!(free()? < 100, "{} blocks are still free: {said}", free()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_damaged_behind_the_back_of_its_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, file) = (folder.path().join("disk"), folder.path().join("file"));
        std::fs::File::create(&disk).unwrap().set_len(8 << 20).unwrap();
        std::fs::write(&file, "a".repeat(5000)).unwrap();
        let made = Command::new("/usr/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(&disk).status();
        assert!(made.unwrap().success());
        let place = Place { start: 0, length: 8 << 20 };
        debugfs(&disk, place, "mkdir generations").unwrap();
        debugfs(&disk, place, &format!("write {} seven", file.display())).unwrap();
        damage_file(&disk, place, "/seven", |bytes| bytes[7] = b'b').unwrap();
        let said = debugfs(&disk, place, "cat /seven").unwrap();
        assert!(said.contains("aaaaaaabaaa"), "{said}");
        let checked = Command::new("/usr/sbin/e2fsck").args(["-f", "-n"]).arg(&disk).output();
        assert!(checked.unwrap().status.success());
    }
}
