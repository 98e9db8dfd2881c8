// SPDX-License-Identifier: Apache-2.0
//! One command each to try Stele, test it and measure it.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Parser, Subcommand};
#[cfg(feature = "bench")]
use hack::bench::{self, Subject};
use hack::{
    artefacts::Artefacts,
    check::{self, Part},
    fuzz::{self, Target},
    machine::{Drive, Machine},
    scratch, up,
    vm::Vm,
};
use std::{
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

#[derive(Debug, Parser)]
#[command(about = "Try Stele, test it, measure it")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the image, boot it, configure it, and leave it running
    Up,
    /// End what `up` started, and remove it
    Down,
    /// Test everything, or the named parts
    Test {
        /// The parts: lint, unit, e2e, reproducible
        parts: Vec<Part>,
        /// Only scenarios with this in their name
        #[arg(long = "only", value_name = "TEXT")]
        filters: Vec<String>,
        /// With every fault, and as many power cuts as before a release
        #[arg(long)]
        thorough: bool,
    },
    /// Measure the figures of the project
    #[cfg(feature = "bench")]
    Bench {
        /// What to measure [default: everything]
        subjects: Vec<Subject>,
        /// How often
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the network of this namespace what a configuration says
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    Converge {
        /// The configuration
        file: PathBuf,
    },
    /// Search for inputs that break a reader of strangers' bytes
    Fuzz {
        /// What to fuzz [default: everything]
        targets: Vec<Target>,
        /// How long, each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Boot the image, with the console on the terminal
    Vm(VmArguments),
    /// Run the machine of `up`
    #[command(hide = true)]
    Keep {
        /// Its folder
        dir: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct VmArguments {
    /// Boot the kernel directly, without a disk
    #[arg(long)]
    direct: bool,
    /// The artefacts [default: out/]
    #[arg(long)]
    out: Option<PathBuf>,
    /// A configuration, given by fw_cfg
    #[arg(long)]
    config: Option<PathBuf>,
    /// Boot this disk instead of a copy of the image, and keep what is written to it
    #[arg(long)]
    disk: Option<PathBuf>,
    /// A read-only drive more, such as a cidata image
    #[arg(long)]
    drive: Vec<PathBuf>,
    /// Size of the disk in GiB
    #[arg(long, default_value_t = 4)]
    gib: u64,
    /// MiB of memory
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Words for the kernel command line
    #[arg(long)]
    append: Option<String>,
    /// Seconds after which the power is cut
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
    /// End when the console has a line with this
    #[arg(long)]
    until: Option<String>,
    /// More arguments for QEMU
    #[arg(last = true)]
    extra: Vec<String>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Up => up::up(),
        Command::Down => up::down(),
        Command::Test { parts, filters, thorough } => check::test(&parts, &filters, thorough),
        #[cfg(feature = "bench")]
        Command::Bench { subjects, runs, json } => bench::bench(&subjects, runs, json),
        #[cfg(feature = "bench")]
        Command::Converge { file } => bench::converge(&file),
        Command::Fuzz { targets, seconds } => fuzz::fuzz(&targets, Duration::from_secs(seconds)),
        Command::Vm(arguments) => run_vm(arguments),
        Command::Keep { dir } => up::keep(&dir),
    }
}

/// Boots and shows the console until the machine is off.
fn run_vm(arguments: VmArguments) -> Result<()> {
    let artefacts = arguments.out.map_or_else(Artefacts::default_location, Artefacts::new);
    let scratch = scratch::folder("vm")?;
    let mut machine = match (arguments.direct, arguments.disk) {
        (true, None) => Machine::live(&artefacts)?,
        (true, Some(path)) => {
            let mut machine = Machine::live(&artefacts)?;
            machine.drives.push(Drive::writable(path));
            machine
        }
        (false, Some(path)) => Machine::from_disk(&artefacts, scratch.path(), path)?,
        (false, None) => Machine::installed(&artefacts, scratch.path(), arguments.gib)?,
    };
    machine.memory = arguments.memory;
    if let Some(config) = &arguments.config {
        machine = machine.configured_by_fw_cfg(config);
    }
    for drive in &arguments.drive {
        machine = machine.with_drive(drive);
    }
    if let Some(words) = &arguments.append {
        machine = machine.append(words);
    }
    machine.extra.extend(arguments.extra);
    let started = Instant::now();
    let vm = Vm::start_in(machine, scratch)?;
    eprintln!("API on {}, files in {}", vm.api()?, vm.dir().display());
    let mut stdout = std::io::stdout();
    let deadline = started + Duration::from_secs(arguments.timeout);
    let mut mark = 0;
    loop {
        let last = !vm.is_on() || Instant::now() >= deadline;
        let (text, end) = vm.console().read_from(mark);
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        mark = end;
        let found =
            arguments.until.as_ref().is_some_and(|needle| vm.console().text().contains(needle));
        if found || last && text.is_empty() {
            break;
        }
        let more = |text: &str| (!text.is_empty()).then_some(());
        vm.console().wait(mark, deadline, more, || !vm.is_on())?;
    }
    eprintln!(
        "\n{:.1} s, {} boots, {}",
        started.elapsed().as_secs_f32(),
        vm.launches(),
        state(&vm)
    );
    Ok(())
}

fn state(vm: &Vm) -> String {
    if vm.is_on() {
        return "still on".into();
    }
    vm.wait_until_off(Duration::ZERO).unwrap_or_else(|error| error.to_string())
}
