// SPDX-License-Identifier: Apache-2.0
//! What PID 1 says: every event goes to the kernel's log, which is kept; what a person at the machine should see goes
//! to the consoles as well.
//!
//! On the console: warnings and errors, and events with the target [`CONSOLE`]. A healthy boot prints a dozen lines.
//! A console that takes no more text loses lines; it never holds PID 1 up.

use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    sync::OnceLock,
};
use stele_kernel::{clock, kmsg};
use tracing::{Event, Level, Metadata, Subscriber, field::Field, field::Visit, span};

/// The target of events that belong on the console.
pub(crate) const CONSOLE: &str = "console";

/// The RFC 5424 severity of what PID 1 says when it can't go on: critical.
pub(crate) const LAST_WORDS: u8 = 2;

/// O_NONBLOCK | O_NOCTTY, as in the kernel's include/uapi/asm-generic/fcntl.h.
const NONBLOCK_NOCTTY: i32 = 0o4000 | 0o400;

static SINKS: OnceLock<Sinks> = OnceLock::new();

#[derive(Debug)]
struct Sinks {
    kmsg: Option<kmsg::Writer>,
    consoles: Vec<File>,
    level: Level,
}

/// Sends every event of this process to its places, and a panic to the kernel's log and a restart. Needs /dev, /proc
/// and /sys where they are already mounted; what is not there yet is left out.
pub(crate) fn install() {
    let active = std::fs::read_to_string("/sys/class/tty/console/active")
        .unwrap_or_else(|_absent| "console".to_owned());
    let open = |name: &str| {
        OpenOptions::new()
            .write(true)
            .custom_flags(NONBLOCK_NOCTTY)
            .open(format!("/dev/{name}"))
            .ok()
    };
    let debug = std::fs::read_to_string("/proc/cmdline")
        .is_ok_and(|line| line.split_whitespace().any(|word| word == "stele.log=debug"));
    let sinks = Sinks {
        kmsg: kmsg::Writer::open().ok(),
        consoles: active.split_whitespace().filter_map(open).collect(),
        level: if debug { Level::DEBUG } else { Level::INFO },
    };
    // A second call would find both already set; the first one stands.
    let _first_stands = SINKS.set(sinks);
    let _first_stands = tracing::subscriber::set_global_default(Reporter);
    std::panic::set_hook(Box::new(|panic| {
        let said = panic.to_string().replace('\n', " ");
        complain(&format!("PID 1 {said}"));
        // The kernel panics when PID 1 ends: it keeps what was said where it can, and restarts by panic=.
        std::process::exit(1);
    }));
}

/// Says something in the plainest way there is, before or without [`install`] too.
pub(crate) fn complain(text: &str) {
    match SINKS.get() {
        Some(sinks) => {
            if let Some(kmsg) = &sinks.kmsg {
                kmsg.write(LAST_WORDS, &format!("stele: {text}"));
            }
            console(sinks, text);
        }
        None => {
            // Nobody is left to tell when this fails.
            let _unheard = writeln!(std::io::stderr(), "stele: {text}");
        }
    }
}

/// Ends PID 1 after a failure that leaves no machine to run. The kernel panics when PID 1 ends: it keeps what was said where
/// it can, leaves it readable for a while, and restarts by panic=.
pub(crate) fn die(failure: &dyn std::error::Error) -> ! {
    complain(&format!("cannot go on: {}", chain(failure)));
    std::process::exit(1)
}

/// So much of a text as can be shown anywhere: what an agent says may hold words of strangers.
pub(crate) fn plain(text: &str, longest: usize) -> String {
    text.chars().filter(|char| !char.is_control()).take(longest).collect()
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _infallible = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

fn console(sinks: &Sinks, text: &str) {
    let since_boot = clock::since_boot().unwrap_or_default();
    let line = format!(
        "[{:>5}.{:03}] stele: {text}\r\n",
        since_boot.as_secs(),
        since_boot.subsec_millis()
    );
    for console in &sinks.consoles {
        // A console that is gone or full loses the line.
        let _lost = (&mut &*console).write(line.as_bytes());
    }
}

/// The subscriber; it has no spans, only events.
struct Reporter;

impl Subscriber for Reporter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        SINKS.get().is_some_and(|sinks| *metadata.level() <= sinks.level)
    }

    fn event(&self, event: &Event<'_>) {
        let Some(sinks) = SINKS.get() else { return };
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = *event.metadata().level();
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        if let Some(kmsg) = &sinks.kmsg {
            kmsg.write(severity, &format!("stele: {}", line.0));
        }
        if level <= Level::WARN || event.metadata().target() == CONSOLE {
            console(sinks, &line.0);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// An event as a line: the message, then `field=value` for each fact.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        let _infallible = match field.name() {
            "message" => {
                self.0.insert_str(
                    0,
                    &format!("{value:?}{}", if self.0.is_empty() { "" } else { " " }),
                );
                Ok(())
            }
            name => write!(self.0, "{space}{name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if value.is_empty() || value.contains([' ', '"', '=']) {
            self.record_debug(field, &value);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }
}
