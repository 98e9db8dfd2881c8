// SPDX-License-Identifier: Apache-2.0
//! The names of images on the ESP, in [`DIRECTORY`].
//!
//! ```text
//! stele_1.1.0.efi.part      still arriving              not seen by the loader
//! stele_1.1.0.efi.staged    complete                    not seen by the loader
//! stele_1.1.0+3.efi         to be tried three times     the loader renames to +2-1 before it starts it
//! stele_1.1.0+0-3.efi       out of tries                sorted last
//! stele_1.1.0.efi           known to be good
//! ```
//!
//! All of them are the slot `stele_1.1.0.efi`: that is what the loader calls its entry, whatever the counter says.
//! Names that are not exactly of this form are nobody's business: they parse to nothing and are left alone.

use std::fmt;

use crate::version::Version;

/// Where images are, from the root of the ESP.
pub const DIRECTORY: &str = "EFI/Linux";

/// Where entries of the loader are that are no images, from the root of the ESP.
pub const ENTRIES: &str = "loader/entries";

/// The file that an image arrives in while its version is not known yet.
pub const INCOMING: &str = "incoming.efi.part";

/// How often a new image is tried before the loader goes back to the one before it.
pub const TRIES: u32 = 3;

const PREFIX: &str = "stele_";
const SUFFIX: &str = ".efi";
/// What an entry for one start of an image is called, in the place of its suffix.
const ENTRY: &str = ".args.conf";

/// The loader's name for an image: its file name without counter and suffix, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(String);

impl SlotId {
    /// The slot that images of this version are in.
    #[must_use]
    pub fn of(version: &Version) -> SlotId {
        SlotId(format!("{PREFIX}{version}{SUFFIX}"))
    }

    /// The slot with this id, if it can be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<SlotId> {
        let version = text.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        Version::parse(version).ok().map(|version| SlotId::of(&version))
    }

    /// The slot whose image the loader starts with the entry of this id: its own, or the one for a start with arguments.
    #[must_use]
    pub fn started_by(entry: &str) -> Option<SlotId> {
        match entry.strip_suffix(ENTRY) {
            Some(stem) => SlotId::parse(&format!("{stem}{SUFFIX}")),
            None => SlotId::parse(entry),
        }
    }

    /// The entry for a start of its image with arguments, which is also the name of its file in [`ENTRIES`].
    #[must_use]
    pub fn entry(&self) -> String {
        format!("{}{ENTRY}", self.0.strip_suffix(SUFFIX).unwrap_or(&self.0))
    }

    /// Whether a file in [`ENTRIES`] is one for a start with arguments.
    #[must_use]
    pub fn is_entry(name: &str) -> bool {
        name.ends_with(ENTRY) && SlotId::started_by(name).is_some()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version that images in it have; nothing for an id that was not made of one.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        Version::parse(self.0.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?).ok()
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a name says about its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Still arriving.
    Part,
    /// Complete, and not to be booted.
    Staged,
    /// Under a boot counter.
    Counted {
        /// Boots that the loader will still try.
        left: u32,
        /// Boots tried; a counter that was never touched may leave it out.
        done: Option<u32>,
    },
    /// Booted without a counter.
    Plain,
}

/// The name of an image on the ESP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotFile {
    /// The version in the name.
    pub version: Version,
    /// What the rest of the name says.
    pub stage: Stage,
}

impl SlotFile {
    /// A name.
    #[must_use]
    pub const fn new(version: Version, stage: Stage) -> SlotFile {
        SlotFile { version, stage }
    }

    /// Reads a file name (not a path); nothing for names of anything else.
    #[must_use]
    pub fn parse(name: &str) -> Option<SlotFile> {
        let rest = name.strip_prefix(PREFIX)?;
        let (version, stage) = if let Some(version) = rest.strip_suffix(".efi.part") {
            (version, Stage::Part)
        } else if let Some(version) = rest.strip_suffix(".efi.staged") {
            (version, Stage::Staged)
        } else {
            let stem = rest.strip_suffix(SUFFIX)?;
            match stem.split_once('+') {
                Some((version, counter)) => (version, parse_counter(counter)?),
                None => (stem, Stage::Plain),
            }
        };
        Some(SlotFile { version: Version::parse(version).ok()?, stage })
    }

    /// The slot that this is a name of.
    #[must_use]
    pub fn id(&self) -> SlotId {
        SlotId::of(&self.version)
    }

    /// The same slot at another stage.
    #[must_use]
    pub fn at(&self, stage: Stage) -> SlotFile {
        SlotFile { version: self.version.clone(), stage }
    }
}

impl fmt::Display for SlotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = &self.version;
        match self.stage {
            Stage::Part => write!(f, "{PREFIX}{version}.efi.part"),
            Stage::Staged => write!(f, "{PREFIX}{version}.efi.staged"),
            Stage::Counted { left, done: None } => write!(f, "{PREFIX}{version}+{left}{SUFFIX}"),
            Stage::Counted { left, done: Some(done) } => {
                write!(f, "{PREFIX}{version}+{left}-{done}{SUFFIX}")
            }
            Stage::Plain => write!(f, "{PREFIX}{version}{SUFFIX}"),
        }
    }
}

fn parse_counter(text: &str) -> Option<Stage> {
    match text.split_once('-') {
        Some((left, done)) => {
            Some(Stage::Counted { left: parse_number(left)?, done: Some(parse_number(done)?) })
        }
        None => Some(Stage::Counted { left: parse_number(text)?, done: None }),
    }
}

/// Digits as the loader writes them: no sign, no leading zero.
fn parse_number(text: &str) -> Option<u32> {
    let canonical = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(name: &str) -> Option<(String, Stage)> {
        SlotFile::parse(name).map(|file| (file.version.to_string(), file.stage))
    }

    fn some(version: &str, stage: Stage) -> Option<(String, Stage)> {
        Some((version.to_owned(), stage))
    }

    #[test]
    fn names_of_ours() {
        assert_eq!(parsed("stele_1.1.0.efi"), some("1.1.0", Stage::Plain));
        assert_eq!(
            parsed("stele_1.1.0+3.efi"),
            some("1.1.0", Stage::Counted { left: 3, done: None })
        );
        assert_eq!(
            parsed("stele_1.1.0+3-0.efi"),
            some("1.1.0", Stage::Counted { left: 3, done: Some(0) })
        );
        assert_eq!(
            parsed("stele_1.1.0-rc1+2-1.efi"),
            some("1.1.0-rc1", Stage::Counted { left: 2, done: Some(1) })
        );
        assert_eq!(parsed("stele_1.1.0.efi.staged"), some("1.1.0", Stage::Staged));
        assert_eq!(parsed("stele_1.1.0.efi.part"), some("1.1.0", Stage::Part));
    }

    #[test]
    fn names_of_others() {
        for name in [
            "",
            "stele_.efi",
            "stele_1.1.0",
            "stele_1.1.0.EFI",
            "Stele_1.1.0.efi",
            "debian_12.efi",
            "stele_1.1.0+.efi",
            "stele_1.1.0+03.efi",
            "stele_1.1.0+3-.efi",
            "stele_1.1.0+-3.efi",
            "stele_1.1.0+3-1-2.efi",
            "stele_1.1.0+99999999999.efi",
            "stele_1.1.0+3.efi.staged",
            "stele_1/2.efi",
            INCOMING,
        ] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    #[test]
    fn the_id_has_no_counter() {
        let id = SlotFile::parse("stele_1.1.0+2-1.efi").unwrap().id();
        assert_eq!(id.as_str(), "stele_1.1.0.efi");
        assert_eq!(SlotId::parse("stele_1.1.0.efi"), Some(id));
        assert_eq!(SlotId::parse("stele_1.1.0+3.efi"), None);
        let id = SlotId::parse("stele_1.1.0.efi").unwrap();
        assert_eq!(id.version(), Version::parse("1.1.0").ok());
        assert_eq!(SlotId::parse("auto-reboot-to-firmware-setup"), None);
    }

    fn stage() -> impl Strategy<Value = Stage> {
        prop_oneof![
            Just(Stage::Part),
            Just(Stage::Staged),
            Just(Stage::Plain),
            (any::<u32>(), any::<Option<u32>>())
                .prop_map(|(left, done)| Stage::Counted { left, done }),
        ]
    }

    proptest! {
        #[test]
        fn parse_reads_what_is_printed(version in "[a-z0-9]([a-z0-9.~^-]{0,20}[a-z0-9])?", stage in stage()) {
            let file = SlotFile::new(Version::parse(&version).unwrap(), stage);
            prop_assert_eq!(SlotFile::parse(&file.to_string()), Some(file));
        }

        #[test]
        fn print_writes_what_was_parsed(name in "stele_[a-z0-9.~^+-]{0,12}(\\.efi)?(\\.staged|\\.part)?") {
            if let Some(file) = SlotFile::parse(&name) {
                prop_assert_eq!(file.to_string(), name);
            }
        }

        #[test]
        fn no_name_panics(name in any::<String>()) {
            let _ = SlotFile::parse(&name);
        }
    }
}
