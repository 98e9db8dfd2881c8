// SPDX-License-Identifier: Apache-2.0
//! What stage tells PID 1: JSON lines, the last of which says how it ended.

use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stage::anatomy::Anatomy;
use crate::stage::judge::Vouched;
use crate::stage::receive::Received;
use crate::stage::{Progress, Sha256Sum, StageError, Staged};

const STEP_BYTES: u64 = 256 * 1024;
const STEP_TIME: Duration = Duration::from_millis(100);

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Progress { step: &'a str, done: u64, total: u64 },
    Received(Of<'a>),
    Staged { slot: String, version: &'a str, file: String, size: u64 },
    Image(Of<'a>),
    Vouched(&'a Vouched),
}

/// An image, as far as it is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Of<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrades_from: Option<&'a str>,
    size: u64,
    sha256: Sha256Sum,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    rootfs: Place,
}

#[derive(Serialize)]
struct Place {
    offset: u64,
    length: u64,
}

impl<'a> Of<'a> {
    fn new(anatomy: &'a Anatomy, size: u64, sha256: Sha256Sum) -> Of<'a> {
        let release = &anatomy.release;
        Of {
            version: release.version.as_str(),
            upgrades_from: release.upgrades_from.as_ref().map(|version| version.as_str()),
            size,
            sha256,
            key: None,
            rootfs: Place { offset: anatomy.rootfs.offset, length: anatomy.rootfs.length },
        }
    }
}

#[derive(Serialize)]
struct Failure {
    error: String,
    code: &'static str,
}

/// Writes the lines, progress no more often than a person can read it.
#[derive(Debug)]
pub struct Reporter<W> {
    output: W,
    /// What was said last, and when.
    told: Option<(&'static str, u64, Instant)>,
    total: u64,
}

impl<W: Write> Reporter<W> {
    /// A reporter that has said nothing.
    pub const fn new(output: W) -> Reporter<W> {
        Reporter { output, told: None, total: 0 }
    }

    /// Says how far it is, if that is worth a line.
    pub fn progress(&mut self, progress: Progress, now: Instant) {
        let (step, done, total) = match progress {
            Progress::Receiving(done, total) => ("receiving", done, total),
            Progress::Verifying => ("verifying", self.total, self.total),
            Progress::Writing(done, total) => ("writing", done, total),
        };
        if let Some((last, told, at)) = self.told
            && last == step
            && done != total
            && (now.duration_since(at) < STEP_TIME || done < told + STEP_BYTES)
        {
            return;
        }
        self.told = Some((step, done, now));
        self.total = total;
        // Nobody listening is no reason to stop: if PID 1 wanted that, it would say so.
        drop(self.line(&Line::Progress { step, done, total }));
    }

    /// Says that an image was received.
    ///
    /// # Errors
    /// When nobody takes the line.
    pub fn received(&mut self, received: &Received) -> io::Result<()> {
        let Received { anatomy, size, sha256, key } = received;
        self.line(&Line::Received(Of { key: Some(key), ..Of::new(anatomy, *size, *sha256) }))
    }

    /// Says that an image is on the ESP.
    ///
    /// # Errors
    /// When nobody takes the line.
    pub fn staged(&mut self, staged: &Staged) -> io::Result<()> {
        self.line(&Line::Staged {
            slot: staged.file.id().to_string(),
            version: staged.file.version.as_str(),
            file: staged.file.to_string(),
            size: staged.size,
        })
    }

    /// Says that an image could start.
    ///
    /// # Errors
    /// When nobody takes the line.
    pub fn image(&mut self, anatomy: &Anatomy, size: u64, sum: Sha256Sum) -> io::Result<()> {
        self.line(&Line::Image(Of::new(anatomy, size, sum)))
    }

    /// Says for which image somebody vouches.
    ///
    /// # Errors
    /// When nobody takes the line.
    pub fn vouched(&mut self, vouched: &Vouched) -> io::Result<()> {
        self.line(&Line::Vouched(vouched))
    }

    /// Says why there is nothing.
    ///
    /// # Errors
    /// When nobody takes the line.
    pub fn failed(&mut self, error: &StageError) -> io::Result<()> {
        self.line(&Failure { error: sentence(error), code: code(error) })
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.output.write_all(&bytes)?;
        self.output.flush()
    }
}

/// The error and all that caused it, in one line.
pub(crate) fn sentence(error: &StageError) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence.push_str(": ");
        sentence.push_str(&error.to_string());
        cause = error.source();
    }
    sentence
}

/// The gRPC status code that says it to machines.
const fn code(error: &StageError) -> &'static str {
    match error {
        StageError::NoRoom { .. } | StageError::Full { .. } => "RESOURCE_EXHAUSTED",
        StageError::CutOff { .. } | StageError::Input(_) => "ABORTED",
        StageError::File { .. } => "INTERNAL",
        StageError::Digest { .. } | StageError::Untrusted { .. } => "DATA_LOSS",
        StageError::Size { .. }
        | StageError::TooLong { .. }
        | StageError::Unsigned
        | StageError::Signature(_)
        | StageError::Damage(_)
        | StageError::Registry(_) => "INVALID_ARGUMENT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_layout::slot::SlotFile;

    fn lines(act: impl FnOnce(&mut Reporter<&mut Vec<u8>>)) -> String {
        let mut output = Vec::new();
        act(&mut Reporter::new(&mut output));
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn progress_is_thinned_out() {
        let start = Instant::now();
        let output = lines(|reporter| {
            for step in 1..=100u32 {
                reporter.progress(
                    Progress::Receiving(u64::from(step) * 10_000, 1_000_000),
                    start + Duration::from_millis(10) * step,
                );
            }
            reporter.progress(Progress::Verifying, start);
        });
        let done: Vec<&str> = output.lines().collect();
        assert_eq!(done[0], r#"{"progress":{"step":"receiving","done":10000,"total":1000000}}"#);
        assert_eq!(
            done.last().unwrap(),
            &r#"{"progress":{"step":"verifying","done":1000000,"total":1000000}}"#
        );
        assert_eq!(done.len(), 6, "{output}");
    }

    #[test]
    fn the_last_line() {
        let staged = Staged { file: SlotFile::parse("stele_1.1.efi.staged").unwrap(), size: 7 };
        let output = lines(|reporter| reporter.staged(&staged).unwrap());
        assert_eq!(
            output,
            "{\"staged\":{\"slot\":\"stele_1.1.efi\",\"version\":\"1.1\",\"file\":\"stele_1.1.efi.staged\",\"size\":7}}\n"
        );
        let full = StageError::NoRoom { place: "the boot partition", needed: 9, free: 8 };
        let output = lines(|reporter| reporter.failed(&full).unwrap());
        assert_eq!(
            output,
            "{\"error\":\"the image needs 9 bytes more on the boot partition, which has 8 bytes free\",\"code\":\"RESOURCE_EXHAUSTED\"}\n"
        );
    }
}
