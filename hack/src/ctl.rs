// SPDX-License-Identifier: Apache-2.0
//! The client, run as a user runs it: the real program, its own home, its exit code.

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Seconds after which a call that does not end is ended.
const PATIENCE: u32 = 240;

/// The client with one home: its contexts are its own.
#[derive(Clone, Debug)]
pub struct Ctl {
    program: PathBuf,
    home: PathBuf,
    editor: Option<String>,
}

impl Ctl {
    /// The client `program` with its files in `home`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), home: home.into(), editor: None }
    }

    /// The same client of a user who edits with this.
    #[must_use]
    pub fn with_editor(&self, editor: &str) -> Self {
        Self { editor: Some(editor.to_owned()), ..self.clone() }
    }

    /// The same client in another home.
    #[must_use]
    pub fn at_home_in(&self, home: &Path) -> Self {
        Self::new(&self.program, home)
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs it, whatever comes of it.
    pub fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.command(args).stdin(Stdio::null()).output().context("Running ctl")
    }

    /// Runs it and returns what it printed. A failure is an error with what it complained about.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<S> = args.into_iter().collect();
        let said = line(&args);
        let output = self.output(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!(
                "ctl {said}: {}: {}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                stderr.trim()
            );
        }
        String::from_utf8(output.stdout).context("ctl printed something that is not UTF-8")
    }

    /// Runs it with `-o json` and reads that.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Value> {
        let mut args: Vec<std::ffi::OsString> =
            args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["-o".into(), "json".into()]);
        let text = self.run(&args)?;
        serde_json::from_str(&text)
            .with_context(|| format!("ctl {}: not JSON: {text}", line(&args)))
    }

    /// Runs it, expects it to fail, and returns everything it said.
    pub fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<S> = args.into_iter().collect();
        let said = line(&args);
        let output = self.output(args)?;
        let all = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if output.status.success() {
            bail!("ctl {said} succeeded and should not have: {all}");
        }
        // A node's may well be told of.
        if all.contains("\nthread '") && all.contains("panicked at") {
            bail!("ctl {said} panicked: {all}");
        }
        Ok(all)
    }

    /// Starts it, to read what it prints while it runs.
    pub fn follow<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Follower> {
        let child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Follower::new(child.context("Starting ctl")?)
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("timeout");
        command.arg("--kill-after=5").arg(PATIENCE.to_string()).arg(&self.program).args(args);
        command
            .env("XDG_CONFIG_HOME", &self.home)
            .env("HOME", &self.home)
            .env_remove("STELE_CONFIG")
            .env_remove("VISUAL");
        if let Some(editor) = &self.editor {
            command.env("EDITOR", editor);
        }
        command
    }
}

fn line<S: AsRef<OsStr>>(args: &[S]) -> String {
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    words.join(" ")
}

/// A client that runs, and what it has printed so far. It ends when this value is dropped.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    printed: Arc<(Mutex<Printed>, Condvar)>,
}

#[derive(Debug, Default)]
struct Printed {
    text: String,
    open: u32,
}

impl Follower {
    fn new(mut child: Child) -> Result<Self> {
        let printed: Arc<(Mutex<Printed>, Condvar)> = Arc::default();
        let stdout = child.stdout.take().context("ctl has no standard output")?;
        let stderr = child.stderr.take().context("ctl has no standard error")?;
        printed.0.lock().unwrap_or_else(PoisonError::into_inner).open = 2;
        for mut pipe in [Box::new(stdout) as Box<dyn std::io::Read + Send>, Box::new(stderr)] {
            let printed = Arc::clone(&printed);
            thread::spawn(move || {
                let mut reader = BufReader::new(pipe.by_ref());
                let mut bytes = Vec::new();
                while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                    let mut guard = printed.0.lock().unwrap_or_else(PoisonError::into_inner);
                    guard.text.push_str(&String::from_utf8_lossy(&bytes));
                    drop(guard);
                    bytes.clear();
                    printed.1.notify_all();
                }
                printed.0.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
                printed.1.notify_all();
            });
        }
        Ok(Self { child, printed })
    }

    /// Everything it has printed.
    #[must_use]
    pub fn text(&self) -> String {
        self.printed.0.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// Waits for a line with `needle`.
    pub fn wait_for(&self, needle: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let mut printed = self.printed.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = printed.text.lines().find(|line| line.contains(needle)) {
                return Ok(line.to_owned());
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|_| printed.open > 0);
            let left = left
                .ok_or_else(|| anyhow!("ctl never printed {needle:?}, only:\n{}", printed.text))?;
            printed = self
                .printed
                .1
                .wait_timeout(printed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends it, as ctrl-C would not: at once.
    pub fn end(mut self) -> Result<()> {
        self.child.kill().context("Ending ctl")
    }

    /// Waits until it ends by itself, and says whether it succeeded.
    pub fn wait(mut self) -> Result<bool> {
        Ok(self.child.wait().context("Waiting for ctl")?.success())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            // `timeout` passes this on to the client.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _status = self.child.wait();
    }
}
