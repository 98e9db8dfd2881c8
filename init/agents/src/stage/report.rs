// SPDX-License-Identifier: Apache-2.0
//! What stage tells PID 1: JSON lines, the last of which says how it ended.

use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stage::{Progress, StageError, Staged};

const STEP_BYTES: u64 = 256 * 1024;
const STEP_TIME: Duration = Duration::from_millis(100);

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Progress { step: &'a str, done: u64, total: u64 },
    Staged { slot: String, version: &'a str, file: String, size: u64 },
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
    total: u64,
    told: u64,
    at: Option<Instant>,
}

impl<W: Write> Reporter<W> {
    /// A reporter for an image of this size; 0 if nobody knows.
    pub const fn new(output: W, total: u64) -> Reporter<W> {
        Reporter { output, total, told: 0, at: None }
    }

    /// Says how far it is, if that is worth a line.
    pub fn progress(&mut self, progress: Progress, now: Instant) {
        let (step, done) = match progress {
            Progress::Receiving(done) => {
                let early = self.at.is_some_and(|at| now.duration_since(at) < STEP_TIME);
                let little = done < self.told + STEP_BYTES;
                if self.at.is_some() && (early || little) && done != self.total {
                    return;
                }
                ("receiving", done)
            }
            Progress::Verifying => ("verifying", self.total),
        };
        self.told = done;
        self.at = Some(now);
        // Nobody listening is no reason to stop: if PID 1 wanted that, it would say so.
        drop(self.line(&Line::Progress { step, done, total: self.total }));
    }

    /// Says how it ended.
    ///
    /// # Errors
    /// When nobody takes the line.
    pub fn end(&mut self, result: &Result<Staged, StageError>) -> io::Result<()> {
        match result {
            Ok(staged) => self.line(&Line::Staged {
                slot: staged.file.id().to_string(),
                version: staged.file.version.as_str(),
                file: staged.file.to_string(),
                size: staged.size,
            }),
            Err(error) => self.line(&Failure { error: sentence(error), code: code(error) }),
        }
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.output.write_all(&bytes)?;
        self.output.flush()
    }
}

/// The error and all that caused it, in one line.
fn sentence(error: &StageError) -> String {
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
        StageError::Input(_) => "ABORTED",
        StageError::File { .. } => "INTERNAL",
        StageError::Size { .. }
        | StageError::CutOff { .. }
        | StageError::TooLong { .. }
        | StageError::Digest { .. }
        | StageError::Pe(_)
        | StageError::Osrel(_) => "INVALID_ARGUMENT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_layout::slot::SlotFile;

    fn lines(act: impl FnOnce(&mut Reporter<&mut Vec<u8>>)) -> String {
        let mut output = Vec::new();
        act(&mut Reporter::new(&mut output, 1_000_000));
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn progress_is_thinned_out() {
        let start = Instant::now();
        let output = lines(|reporter| {
            for step in 1..=100u32 {
                reporter.progress(
                    Progress::Receiving(u64::from(step) * 10_000),
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
        let output = lines(|reporter| reporter.end(&Ok(staged)).unwrap());
        assert_eq!(
            output,
            "{\"staged\":{\"slot\":\"stele_1.1.efi\",\"version\":\"1.1\",\"file\":\"stele_1.1.efi.staged\",\"size\":7}}\n"
        );
        let output =
            lines(|reporter| reporter.end(&Err(StageError::NoRoom { size: 9, free: 8 })).unwrap());
        assert_eq!(
            output,
            "{\"error\":\"the image has 9 bytes, and the boot partition has 8 bytes free\",\"code\":\"RESOURCE_EXHAUSTED\"}\n"
        );
    }
}
