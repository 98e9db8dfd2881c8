// SPDX-License-Identifier: Apache-2.0
//! What the daemon is told: `ntp.toml`, see ntp.toml(5) of ntpd-rs.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};
use stele_proto::internal::{TimeServer, TimeTask};

/// Seconds between the first questions, as a power of two: eight answers are needed before the clock is set.
const FIRST_POLL: i8 = 1;

/// The files that the daemon works with, all in one folder.
#[derive(Debug)]
pub(super) struct Files(pub(super) PathBuf);

impl Files {
    /// Its configuration.
    pub(super) fn configuration(&self) -> PathBuf {
        self.0.join("ntp.toml")
    }

    /// The socket on which it says how it is.
    pub(super) fn observe(&self) -> PathBuf {
        self.0.join("observe")
    }

    /// The socket on which it hears samples of the hypervisor's clock.
    pub(super) fn samples(&self) -> PathBuf {
        self.0.join("samples")
    }

    /// Who may have signed the certificate of the server of this index.
    pub(super) fn authorities(&self, index: usize) -> PathBuf {
        self.0.join(format!("authorities-{index}.pem"))
    }
}

/// The text. `now` is in seconds since the epoch.
pub(super) fn text(task: &TimeTask, files: &Files, was_right: bool, now: i64) -> String {
    let mut text = String::new();
    let sources = task.servers.len() + usize::from(!task.ptp.is_empty());
    // Of two, nobody could say which is wrong.
    let agreeing = if sources > 2 { sources / 2 + 1 } else { 1 };
    let step = i64::from(task.step_seconds);
    let to_floor = now.saturating_sub(task.floor).max(0);
    let (forward, backward) = match was_right {
        true => (step.to_string(), step.min(to_floor)),
        false => ("\"inf\"".to_owned(), to_floor),
    };
    let later = step.min(to_floor);
    let observe = quote(&files.observe());
    // Writing to memory does not fail.
    let _ = write!(
        text,
        "[observability]\nlog-level = \"info\"\nansi-colors = false\nobservation-path = {observe}\n\
         observation-permissions = 0o600\n\n\
         [synchronization]\nminimum-agreeing-sources = {agreeing}\nwarn-on-jump = false\n\
         startup-step-panic-threshold = {{ forward = {forward}, backward = {backward} }}\n\
         single-step-panic-threshold = {{ forward = {step}, backward = {later} }}\n\n"
    );
    if task.slew_milliseconds > 0 {
        let seconds = f64::from(task.slew_milliseconds) / 1000.0;
        let _ = write!(text, "[synchronization.algorithm]\nstep-threshold = {seconds:?}\n\n");
    }
    let _ = write!(text, "[source-defaults]\ninitial-poll-interval = {FIRST_POLL}\n");
    for (index, server) in task.servers.iter().enumerate() {
        let _ = write!(text, "\n[[source]]\naddress = {}\n", quote(Path::new(&address(server))));
        let _ = match server.nts {
            true => {
                let authority = quote(&files.authorities(index));
                writeln!(text, "mode = \"nts\"\ncertificate-authority = {authority}")
            }
            false => writeln!(text, "mode = \"server\""),
        };
    }
    if !task.ptp.is_empty() {
        let samples = quote(&files.samples());
        let _ = write!(
            text,
            "\n[[source]]\nmode = \"sock\"\npath = {samples}\nprecision = 1e-5\naccuracy = 1e-5\n"
        );
    }
    text
}

/// A server as the daemon names it, and so do its reports.
pub(super) fn address(server: &TimeServer) -> String {
    format!("{}:{}", server.host, server.port)
}

/// A text of TOML. None of ours has anything in it that would have to be escaped, but for what a quote and a backslash do.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}
