// SPDX-License-Identifier: Apache-2.0
//! A machine that runs, reboots, loses power and comes back.
//!
//! ```text
//! start ──► on ──── guest resets ────► on again: a fresh QEMU, same disk, same firmware variables
//!            │
//!            ├─ guest powers off ──► off ──┐
//!            └─ power is cut ──────► off ──┴─ power_on ──► on
//! ```
//!
//! A reset inside one QEMU is two to three times slower than a fresh QEMU, and erratic. So QEMU ends at a reset, and one
//! thread for each machine starts the next. That thread is QEMU's parent and lives as long as QEMU does: when this
//! process dies, however it dies, the kernel kills QEMU.

use crate::{
    accelerator::Accelerator,
    console::{Console, line_with},
    machine::Machine,
    qmp::Qmp,
};
use anyhow::{Context as _, Result, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long QEMU may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where QEMU complains.
const COMPLAINTS: &str = "qemu.log";

/// A virtual machine. It loses power when this value is dropped.
#[derive(Debug)]
pub struct Vm {
    machine: Machine,
    dir: PathBuf,
    console: Console,
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
    /// Goes away last.
    _scratch: Option<TempDir>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    power: Power,
    /// How many QEMUs there have been: one for each boot.
    launches: u32,
    /// When each of them began.
    launched: Vec<Instant>,
    /// Whether a reset starts the next one.
    stay_off: bool,
}

#[derive(Debug, Default)]
enum Power {
    #[default]
    Starting,
    On {
        pid: Pid,
        qmp: Arc<Qmp>,
    },
    Off {
        reason: String,
    },
    Broken {
        why: String,
    },
}

impl Vm {
    /// Starts `machine`; its console and sockets are in `dir`.
    pub fn start(machine: Machine, dir: &Path) -> Result<Self> {
        Self::launch(machine, dir.to_path_buf(), None)
    }

    /// Starts `machine` in a folder that goes away with it.
    pub fn start_in(machine: Machine, scratch: TempDir) -> Result<Self> {
        let dir = scratch.path().to_path_buf();
        Self::launch(machine, dir, Some(scratch))
    }

    fn launch(machine: Machine, dir: PathBuf, scratch: Option<TempDir>) -> Result<Self> {
        let console = Console::open(dir.join("console.log"))?;
        let shared = Arc::new(Shared::default());
        let mut vm = Self { machine, dir, console, shared, watcher: None, _scratch: scratch };
        vm.power_on()?;
        Ok(vm)
    }

    /// Switches a machine on that is off.
    pub fn power_on(&mut self) -> Result<()> {
        if let Some(watcher) = self.watcher.take() {
            watcher.join().map_err(|_| anyhow!("The thread of the machine panicked"))?;
        }
        self.shared.set(Power::Starting);
        let (machine, dir, shared) =
            (self.machine.clone(), self.dir.clone(), Arc::clone(&self.shared));
        let console = self.console.path().to_path_buf();
        self.watcher = Some(thread::spawn(move || {
            if let Err(error) = watch(&machine, &dir, &console, &shared) {
                shared.set(Power::Broken { why: format!("{error:#}") });
            }
        }));
        self.shared.wait(PATIENCE, |state| match &state.power {
            Power::Starting => None,
            Power::On { .. } | Power::Off { .. } => Some(Ok(())),
            Power::Broken { why } => Some(Err(anyhow!("QEMU does not run: {why}"))),
        })?
    }

    /// What it is made of. A change takes effect when it is switched on the next time.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The console.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The address of its API, on this host.
    pub fn api(&self) -> Result<String> {
        let port = self.machine.api_port().context("The machine has no network")?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// The process id of the QEMU that runs now.
    pub fn pid(&self) -> Result<u32> {
        let pid = self.on()?.0;
        Ok(pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// How often it has been started, resets included.
    #[must_use]
    pub fn launches(&self) -> u32 {
        self.shared.state().launches
    }

    /// When the boot of this number began; the first is 1.
    #[must_use]
    pub fn launched(&self, number: u32) -> Option<Instant> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.shared.state().launched.get(index).copied()
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.shared.state().power, Power::On { .. } | Power::Starting)
    }

    /// From now on, a reset switches it off.
    pub fn stay_off_after_reset(&self) {
        self.shared.state().stay_off = true;
    }

    /// Waits for a line with `needle` on the console, anywhere since it was switched on first.
    pub fn wait_for_line(&self, needle: &str, patience: Duration) -> Result<String> {
        self.wait_for_line_after(0, needle, patience)
    }

    /// Waits for a line with `needle` on the console behind `mark`.
    pub fn wait_for_line_after(
        &self,
        mark: usize,
        needle: &str,
        patience: Duration,
    ) -> Result<String> {
        let deadline = Instant::now() + patience;
        let line =
            self.console.wait(mark, deadline, |text| line_with(text, needle), || !self.is_on())?;
        line.ok_or_else(|| {
            let state = if self.is_on() {
                "after".to_owned() + &format!(" {patience:?}")
            } else {
                "and it is off".into()
            };
            anyhow!(
                "No line with {needle:?} on the console, {state}. Its end:\n{}",
                self.console.tail(25)
            )
        })
    }

    /// Waits until it is off, and says why: `guest-shutdown`, `guest-reset`, `host-signal`, …
    pub fn wait_until_off(&self, patience: Duration) -> Result<String> {
        self.shared
            .wait(patience, |state| match &state.power {
                Power::Off { reason } => Some(reason.clone()),
                Power::Broken { why } => Some(why.clone()),
                Power::Starting | Power::On { .. } => None,
            })
            .with_context(|| {
                format!(
                    "Waiting for the machine to go off. Its console ends:\n{}",
                    self.console.tail(25)
                )
            })
    }

    /// Waits until it has been started `launches` times.
    pub fn wait_for_launch(&self, launches: u32, patience: Duration) -> Result<()> {
        self.shared.wait(patience, |state| (state.launches >= launches).then_some(())).with_context(
            || format!("Waiting for boot {launches}. The console ends:\n{}", self.console.tail(25)),
        )
    }

    /// Presses the power button.
    pub fn press_power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", Value::Null).map(drop)
    }

    /// Presses the reset button.
    pub fn press_reset_button(&self) -> Result<()> {
        self.qmp("system_reset", Value::Null).map(drop)
    }

    /// Presses keys together, in QEMU's names: `ctrl`, `alt`, `delete`.
    pub fn press_keys(&self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({"type": "qcode", "data": key})).collect();
        self.qmp("send-key", json!({"keys": keys})).map(drop)
    }

    /// Cuts the power.
    pub fn cut_power(&self) -> Result<()> {
        self.stay_off_after_reset();
        let (pid, _) = self.on()?;
        kill_process(pid, Signal::KILL).context("Killing QEMU")?;
        self.wait_until_off(PATIENCE)?;
        self.shared.state().stay_off = false;
        Ok(())
    }

    /// Runs a command of the monitor.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.on()?.1.run(command, arguments)
    }

    fn on(&self) -> Result<(Pid, Arc<Qmp>)> {
        match &self.shared.state().power {
            Power::On { pid, qmp } => Ok((*pid, Arc::clone(qmp))),
            Power::Starting => bail!("The machine is just being started"),
            Power::Off { reason } => bail!("The machine is off ({reason})"),
            Power::Broken { why } => bail!("The machine does not run: {why}"),
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stay_off_after_reset();
        if let Ok((pid, _)) = self.on() {
            // It may have ended a moment ago; then there is nothing to kill.
            let _gone = kill_process(pid, Signal::KILL);
        }
        if let Some(watcher) = self.watcher.take() {
            let _panicked = watcher.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, power: Power) {
        let mut state = self.state();
        if matches!(power, Power::On { .. }) {
            state.launches += 1;
            state.launched.push(Instant::now());
        }
        state.power = power;
        drop(state);
        self.changed.notify_all();
    }

    fn wait<T>(&self, patience: Duration, found: impl Fn(&State) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if let Some(value) = found(&state) {
                return Ok(value);
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| anyhow!("It did not happen within {patience:?}"))?;
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Runs QEMU again and again, for as long as the guest only resets.
fn watch(machine: &Machine, dir: &Path, console: &Path, shared: &Shared) -> Result<()> {
    loop {
        let (mut child, stream) = spawn(machine, dir, console)?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("QEMU has an odd process id")?;
        let qmp = Arc::new(Qmp::new(stream));
        shared.set(Power::On { pid, qmp: Arc::clone(&qmp) });
        let reason = qmp.pump();
        let status = child.wait().context("Waiting for QEMU")?;
        let reason =
            reason.unwrap_or_else(|| format!("QEMU ended with {status}: {}", complaints(dir)));
        let reset = matches!(reason.as_str(), "guest-reset" | "host-qmp-system-reset");
        if !reset || shared.state().stay_off {
            shared.set(Power::Off { reason });
            return Ok(());
        }
        shared.set(Power::Starting);
    }
}

/// What QEMU has complained about.
fn complaints(dir: &Path) -> String {
    fs::read_to_string(dir.join(COMPLAINTS)).unwrap_or_default().trim().to_owned()
}

/// Starts one QEMU. It connects to a socket of ours, so its start is an event.
fn spawn(machine: &Machine, dir: &Path, console: &Path) -> Result<(Child, UnixStream)> {
    let socket = dir.join("qmp");
    if socket.exists() {
        fs::remove_file(&socket).context("Removing the last socket")?;
    }
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("Listening on {}", socket.display()))?;
    let stderr =
        fs::File::create(dir.join(COMPLAINTS)).context("Making the file for QEMU's complaints")?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
        .args(machine.arguments(Accelerator::detect(), &socket, console))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .context("Starting qemu-system-x86_64")?;
    let deadline = Instant::now() + PATIENCE;
    let slice = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        if poll(&mut fds, Some(&slice)).is_ok_and(|ready| ready > 0) {
            let (mut stream, _) = listener.accept().context("Accepting QEMU's connection")?;
            stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").context("Greeting QEMU")?;
            return Ok((child, stream));
        }
        if child.try_wait().context("Looking at QEMU")?.is_some() || Instant::now() >= deadline {
            let _ended = child.kill();
            let _status = child.wait();
            bail!("{}", complaints(dir));
        }
    }
}
