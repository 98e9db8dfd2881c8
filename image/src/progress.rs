// SPDX-License-Identifier: Apache-2.0
//! What a person sees while the tool works: one line per step. Silent where nobody is looking.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The line that shows what is being done.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// A line on standard error, if that is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        if std::io::stderr().is_terminal() {
            Self::new(ProgressBar::new_spinner())
        } else {
            Self::silent()
        }
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(ProgressBar::hidden())
    }

    fn new(bar: ProgressBar) -> Self {
        bar.set_style(
            ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, started: Instant::now() }
    }

    /// Says what is done from now on.
    pub fn step(&self, what: impl Into<String>) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.set_message(what.into());
    }

    /// A line that counts bytes, for as long as the value lives.
    #[must_use]
    pub fn bytes(&self, what: &str, total: u64) -> ProgressBar {
        if self.bar.is_hidden() {
            return ProgressBar::hidden();
        }
        self.bar.finish_and_clear();
        let style = "{spinner} {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let bar = ProgressBar::new(total).with_message(what.to_owned());
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar
    }

    /// Lets other output pass, as of a program that we run.
    pub fn suspend<T>(&self, run: impl FnOnce() -> T) -> T {
        self.bar.suspend(run)
    }

    /// Clears the line; how long it all took.
    #[must_use]
    pub fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}
