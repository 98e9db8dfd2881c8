// SPDX-License-Identifier: Apache-2.0
//! `hack up` and `hack down`: one configured node on this host, to play with.
//!
//! The machine outlives the command: a process of its own, the keeper, runs it, starts it again when it reboots, and ends
//! when it powers off. Everything that belongs to it is in one folder, `out/up`.
//!
//! ```text
//! out/up/keeper.pid    the keeper, as long as it runs
//! out/up/api           where the API is: 127.0.0.1:PORT
//! out/up/console.log   the serial console
//! out/up/disk.raw      the disk
//! out/up/secrets.yaml  the operator's CA; machine.yaml and client.yaml are made with it
//! ```

use crate::{
    artefacts::{Artefacts, top},
    build::Builder,
    console::{Console, line_with},
    machine::Machine,
    node,
    vm::Vm,
};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    cell::RefCell,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The name of the node, of its certificate and of the context.
const NAME: &str = "stele";

/// How long a boot may take, on a host that does other things as well.
const PATIENCE: Duration = Duration::from_secs(240);

/// Size of the disk.
const GIB: u64 = 8;

/// Builds, boots, configures, and says what to do next.
pub fn up() -> Result<()> {
    let dir = folder();
    if let Some(pid) = keeper(&dir)? {
        println!("The node is up already (process {pid}).");
        return next(&dir);
    }
    let artefacts =
        step("Building the image and ctl", || Builder::new()?.fresh_image(&top().join("out")))?;
    let ctl = artefacts.ctl()?;
    if dir.exists() {
        forget(&ctl, &dir)?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("Making {}", dir.display()))?;
    let fingerprint = step("Booting it in maintenance mode", || boot(&artefacts, &dir))?;
    println!("  the console shows {fingerprint}");
    step("Making secrets and a configuration", || make_configuration(&ctl, &dir))?;
    step("Applying it", || apply(&ctl, &dir, &fingerprint))?;
    step("Waiting for the configured node", || wait(&ctl, &dir))?;
    next(&dir)
}

/// Ends the node and removes what belongs to it.
pub fn down() -> Result<()> {
    let dir = folder();
    match keeper(&dir)? {
        Some(pid) => {
            end(pid)?;
            println!("The node is down.");
        }
        None if dir.exists() => println!("The node was not running."),
        None => {
            println!("There is no node.");
            return Ok(());
        }
    }
    forget(&top().join("out/ctl"), &dir)
}

/// The keeper: runs the machine until it powers off.
pub fn keep(dir: &Path) -> Result<()> {
    fs::write(dir.join("keeper.pid"), std::process::id().to_string())
        .context("Writing the keeper's process id")?;
    let machine =
        Machine::from_disk(&Artefacts::new(top().join("out")), dir, dir.join("disk.raw"))?;
    let vm = Vm::start(machine, dir)?;
    fs::write(dir.join("api"), vm.api()?).context("Writing where the API is")?;
    let reason = vm.wait_until_off(Duration::from_secs(u64::from(u32::MAX)))?;
    println!("{reason}");
    fs::remove_file(dir.join("keeper.pid")).context("Removing the keeper's process id")
}

fn folder() -> PathBuf {
    top().join("out/up")
}

/// One visible step.
fn step<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("• {what} …");
    std::io::stdout().flush()?;
    let started = Instant::now();
    let value = body().with_context(|| what.to_owned())?;
    println!("  done in {:.1} s", started.elapsed().as_secs_f32());
    Ok(value)
}

/// Starts the keeper and waits for the fingerprint on the console.
fn boot(artefacts: &Artefacts, dir: &Path) -> Result<String> {
    let disk = dir.join("disk.raw");
    crate::machine::copy_sparse(&artefacts.disk()?, &disk)?;
    crate::machine::grow(&disk, GIB << 30)?;
    let console = Console::open(dir.join("console.log"))?;
    let log = fs::File::create(dir.join("keeper.log")).context("Making the keeper's log")?;
    let child = Command::new("setsid")
        .arg(env::current_exe()?)
        .arg("keep")
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("Starting the keeper")?;
    let child = RefCell::new(child);
    let ended = || !matches!(child.borrow_mut().try_wait(), Ok(None));
    let line = console.wait(0, Instant::now() + PATIENCE, |text| line_with(text, "SHA256:"), ended);
    let Some(line) = line? else {
        let said = fs::read_to_string(dir.join("keeper.log")).unwrap_or_default();
        bail!("No fingerprint on the console. {}\n{}", said.trim(), console.tail(20));
    };
    node::fingerprint(&line)
}

fn make_configuration(ctl: &Path, dir: &Path) -> Result<()> {
    let secrets = dir.join("secrets.yaml");
    run(Command::new(ctl).args(["gen", "secrets", "-o"]).arg(&secrets))?;
    let mut config = Command::new(ctl);
    config.args(["gen", "config", "--hostname", NAME, "--endpoint", &api(dir)?, "--context", NAME]);
    run(config.arg("--secrets").arg(&secrets).arg("-o").arg(dir))?;
    // The context of an earlier node has another CA.
    run(Command::new(ctl).args(["config", "merge", "--force"]).arg(dir.join("client.yaml")))
}

fn apply(ctl: &Path, dir: &Path, fingerprint: &str) -> Result<()> {
    let mut apply = Command::new(ctl);
    apply.args([
        "apply-config",
        "--insecure",
        "--fingerprint",
        fingerprint,
        "-n",
        &api(dir)?,
        "-f",
    ]);
    run(apply.arg(dir.join("machine.yaml")))
}

fn wait(ctl: &Path, dir: &Path) -> Result<()> {
    let console = Console::open(dir.join("console.log"))?;
    let line =
        console.wait(0, Instant::now() + PATIENCE, |text| line_with(text, "ready"), || false)?;
    line.with_context(|| format!("The node did not get ready:\n{}", console.tail(20)))?;
    run(Command::new(ctl).arg("version"))
}

fn api(dir: &Path) -> Result<String> {
    fs::read_to_string(dir.join("api")).context("Reading where the API is")
}

/// What to do with it.
fn next(dir: &Path) -> Result<()> {
    println!(
        "
The node answers on {}. Its console is in {}. Worth trying:

  out/ctl version                  what it runs
  out/ctl services                 the services of the OS
  out/ctl get link                 any resource: get names the kinds; -w follows
  out/ctl logs audit               who called what
  out/ctl upgrade --image out/stele.efi    a new image, beside the running one

Stop it with ./hack/down.",
        api(dir)?,
        dir.join("console.log").display(),
    );
    Ok(())
}

/// The process id of the keeper, if it runs and is ours.
fn keeper(dir: &Path) -> Result<Option<i32>> {
    let Ok(text) = fs::read_to_string(dir.join("keeper.pid")) else { return Ok(None) };
    let pid: i32 = text.trim().parse().context("Reading the keeper's process id")?;
    // The id may be another process's by now.
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        cmdline.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
    let ours =
        words.get(1).is_some_and(|word| word == "keep") && words.get(2).map(Path::new) == Some(dir);
    Ok(ours.then_some(pid))
}

/// Ends the keeper; the kernel ends QEMU with it.
fn end(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("No process id")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).context("Opening the keeper")?;
    pidfd_send_signal(&process, Signal::TERM).context("Ending the keeper")?;
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let ended = poll(&mut fds, Some(&Timespec { tv_sec: 30, tv_nsec: 0 }))
        .context("Waiting for the keeper")?;
    ensure!(ended > 0, "The keeper does not end");
    Ok(())
}

/// Removes the folder and the context.
fn forget(ctl: &Path, dir: &Path) -> Result<()> {
    if ctl.exists() {
        // There may be no such context, when `up` did not come so far.
        let _none = Command::new(ctl).args(["config", "remove", NAME]).output();
    }
    fs::remove_dir_all(dir).with_context(|| format!("Removing {}", dir.display()))
}

/// Runs a program whose output matters only when it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("Running ctl")?;
    ensure!(
        output.status.success(),
        "{:?}: {}{}",
        command,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
