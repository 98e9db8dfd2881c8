// SPDX-License-Identifier: Apache-2.0
//! The other ends of ctl: a user with a home, and a node that answers what a test tells it to.

pub(crate) mod node;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A user with a home of their own.
#[derive(Debug)]
pub(crate) struct User {
    home: tempfile::TempDir,
}

/// What a run of ctl came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn new(output: &Output) -> Run {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Fails unless it ended with this code and said all of this, on either side.
    #[track_caller]
    pub(crate) fn says(self, code: i32, needles: &[&str]) -> Run {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{all}");
        for needle in needles {
            assert!(all.contains(needle), "it does not say {needle:?}:\n{all}");
        }
        self
    }
}

impl User {
    pub(crate) fn new() -> User {
        User { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctl"));
        command.args(arguments).current_dir(self.home()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.home()).env("USER", "alice");
        command
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Run {
        Run::new(&self.command(arguments).output().unwrap())
    }

    /// Makes secrets and the configuration of a node, and takes its context in.
    pub(crate) fn fleet(&self, hostname: &str, endpoint: &str) {
        if !self.path("secrets.yaml").exists() {
            self.ctl(&["gen", "secrets"]).says(0, &["secrets.yaml"]);
        }
        let context = [
            "gen",
            "config",
            "--hostname",
            hostname,
            "--endpoint",
            endpoint,
            "--context",
            "lab",
            "-o",
            hostname,
        ];
        self.ctl(&context).says(0, &["machine.yaml"]);
        self.ctl(&["config", "merge", &format!("{hostname}/client.yaml")]).says(0, &["lab"]);
    }
}
