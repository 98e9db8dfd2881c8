// SPDX-License-Identifier: Apache-2.0
//! Kernel arguments of a configuration: when the machine starts once more to have them, and when it gives them up.
//!
//! ```text
//!  the loader starts the image as it is ──► has what its generation asks for? ── yes ──► goes on
//!        ▲                                     │ no
//!        │ it did not come up: one try less    ▼
//!        └───────────────────────── Attempt, on disk ──► a start with the arguments ──► up: the attempt is forgotten
//!                                              │ no try left
//!                                              ▼
//!                                           given up: goes on without
//! ```
//!
//! The loader takes the arguments for one start and forgets them before it makes it. So a machine that is stopped by its
//! arguments is found without them by its next start, whatever they did to it.

use serde::{Deserialize, Serialize};

/// Starts with the same arguments, one after the other, none of which came up.
const TRIES: u32 = 3;

/// The word after which the arguments of a configuration stand: `stele.args=GENERATION:COUNT`. What else brings words, such as
/// the firmware of a virtual machine, may bring them behind those.
const MARK: &str = "stele.args=";

/// Memory that huge pages have to leave: with much less, a kernel hangs before anything could start it again.
const LEAVE: u64 = 512 << 20;

/// The arguments that the running kernel was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The generation for which.
    pub generation: u64,
    /// The arguments.
    pub args: Vec<String>,
}

impl Running {
    /// Reads a kernel command line; nothing if it was the image's own.
    #[must_use]
    pub fn parse(line: &str) -> Option<Running> {
        let mut words = line.split_ascii_whitespace();
        let mark = words.find_map(|word| word.strip_prefix(MARK))?;
        let (generation, count) = mark.split_once(':')?;
        let count: usize = count.parse().ok()?;
        let args = words.take(count).map(str::to_owned).collect();
        Some(Running { generation: generation.parse().ok()?, args })
    }
}

/// The command line of an image, whose own is `own`, for a start with these arguments.
#[must_use]
pub fn line(own: &str, generation: u64, args: &[String]) -> String {
    format!("{own} {MARK}{generation}:{} {}", args.len(), args.join(" "))
}

/// A start with arguments of which nobody knows yet that it came up, as it is kept on disk before it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The generation whose arguments they are.
    pub generation: u64,
    /// The arguments.
    pub args: Vec<String>,
    /// The version of the image.
    pub image: String,
    /// The boot that asked for it.
    pub boot: u64,
    /// Which one it is, from 1.
    pub tries: u32,
    /// Why it did not come up, in a sentence, once that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// What a start knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The generation that it has.
    pub generation: u64,
    /// The arguments that this asks for.
    pub wanted: &'a [String],
    /// Those that the kernel has.
    pub running: Option<&'a Running>,
    /// The version of the image.
    pub image: &'a str,
    /// Its number.
    pub boot: u64,
}

impl Now<'_> {
    /// Whether the kernel has what is asked for.
    #[must_use]
    pub fn is_so(&self) -> bool {
        self.wanted == self.running.map(|running| running.args.as_slice()).unwrap_or_default()
    }
}

/// What a start has to do about the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on: they are in force, or there are none.
    Stay,
    /// Start again with them, once this is on disk.
    Start(Attempt),
    /// Go on without them, for this reason.
    GiveUp(String),
}

/// What a start has to do; `last` is the attempt that nobody has forgotten.
#[must_use]
pub fn decide(now: &Now<'_>, last: Option<&Attempt>) -> Decision {
    // Without any, what the kernel has goes with the next start.
    if now.is_so() || now.wanted.is_empty() {
        return Decision::Stay;
    }
    let same = |last: &&Attempt| last.generation == now.generation && last.image == now.image;
    let tries = match last.filter(same) {
        Some(last) if last.tries >= TRIES => {
            return Decision::GiveUp(format!(
                "{} starts with them did not come up, the last one: {}",
                last.tries, last.failure
            ));
        }
        Some(last) => last.tries,
        None => 0,
    };
    Decision::Start(next(now, tries))
}

/// The attempt that a machine makes which has the arguments now and restarts: it need not start without them first.
#[must_use]
pub fn again(now: &Now<'_>) -> Option<Attempt> {
    (now.is_so() && !now.wanted.is_empty()).then(|| next(now, 0))
}

fn next(now: &Now<'_>, tries: u32) -> Attempt {
    Attempt {
        generation: now.generation,
        args: now.wanted.to_vec(),
        image: now.image.to_owned(),
        boot: now.boot,
        tries: tries.saturating_add(1),
        failure: String::new(),
    }
}

/// Why a machine with this much memory could not live with these arguments.
#[must_use]
pub fn too_much(args: &[String], memory: u64) -> Option<String> {
    let pages = huge_pages(args);
    (pages > 0 && pages > memory.saturating_sub(LEAVE)).then(|| {
        format!(
            "the huge pages would take {} MiB, and of the machine's {} MiB {} have to be left",
            pages >> 20,
            memory >> 20,
            LEAVE >> 20
        )
    })
}

/// The bytes that huge pages take; see the kernel's Documentation/admin-guide/mm/hugetlbpage.rst.
fn huge_pages(args: &[String]) -> u64 {
    let mut default = 2 << 20;
    let mut size = None;
    let mut bytes: u64 = 0;
    for (name, value) in args.iter().filter_map(|arg| arg.split_once('=')) {
        match name {
            "hugepagesz" => size = Some(bytes_of(value)),
            "default_hugepagesz" => default = bytes_of(value),
            "hugepages" => {
                let pages = value.split(',').map(|of_node| {
                    let count = of_node.rsplit(':').next().unwrap_or_default();
                    // What is no number is more than any machine has.
                    count.parse().unwrap_or(u64::MAX)
                });
                let pages = pages.fold(0, u64::saturating_add);
                bytes = bytes.saturating_add(pages.saturating_mul(size.unwrap_or(default)));
            }
            _ => {}
        }
    }
    bytes
}

/// A size as the kernel reads it: `2M`, `1G`.
fn bytes_of(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default() {
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => 0,
    };
    digits.parse::<u64>().map_or(u64::MAX, |number| number.saturating_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn now<'a>(wanted: &'a [String], running: Option<&'a Running>) -> Now<'a> {
        Now { generation: 7, wanted, running, image: "1.0.0", boot: 3 }
    }

    #[test]
    fn a_line_reads_back_whatever_comes_behind_it() {
        let args = words("hugepages=64 nosmt");
        let line = line("quiet panic=5", 7, &args);
        assert_eq!(line, "quiet panic=5 stele.args=7:2 hugepages=64 nosmt");
        let running = Some(Running { generation: 7, args });
        assert_eq!(Running::parse(&line), running);
        assert_eq!(Running::parse(&format!("{line} stele.config=x\n")), running);
        for text in ["quiet", "stele.args=", "stele.args=7", "stele.args=x:1", "stele.args=1:-1"] {
            assert_eq!(Running::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_so_stays() {
        let args = words("nosmt");
        let running = Running { generation: 6, args: args.clone() };
        assert_eq!(decide(&now(&args, Some(&running)), None), Decision::Stay);
        assert_eq!(decide(&now(&[], None), None), Decision::Stay);
        assert_eq!(decide(&now(&[], Some(&running)), None), Decision::Stay);
    }

    #[test]
    fn three_tries_of_the_same_and_no_more() {
        let args = words("nosmt");
        let mut last = None;
        for tries in 1..=3 {
            let Decision::Start(attempt) = decide(&now(&args, None), last.as_ref()) else {
                panic!("try {tries} is not made");
            };
            assert_eq!((attempt.tries, attempt.boot), (tries, 3));
            last = Some(Attempt { failure: "it panicked".to_owned(), ..attempt });
        }
        let Decision::GiveUp(why) = decide(&now(&args, None), last.as_ref()) else {
            panic!("it is tried for ever");
        };
        assert_eq!(why, "3 starts with them did not come up, the last one: it panicked");
        for other in
            [Now { image: "1.1.0", ..now(&args, None) }, Now { generation: 8, ..now(&args, None) }]
        {
            assert!(matches!(
                decide(&other, last.as_ref()),
                Decision::Start(Attempt { tries: 1, .. })
            ));
        }
    }

    #[test]
    fn a_restart_takes_along_what_is_in_force_alone() {
        let args = words("nosmt");
        let running = Running { generation: 7, args: args.clone() };
        assert_eq!(again(&now(&args, Some(&running))).map(|attempt| attempt.tries), Some(1));
        assert_eq!(again(&now(&args, None)), None);
        assert_eq!(again(&now(&[], Some(&running))), None);
        assert_eq!(again(&now(&[], None)), None);
    }

    #[test]
    fn huge_pages_leave_some_memory() {
        for (args, mib) in [
            ("hugepages=64", 128),
            ("hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=16", 2080),
            ("default_hugepagesz=1G hugepages=1", 1024),
            ("hugepages=0:8,1:8", 32),
            ("nosmt", 0),
        ] {
            assert_eq!(huge_pages(&words(args)) >> 20, mib, "{args}");
        }
        assert_eq!(too_much(&words("hugepages=64"), 1 << 30), None);
        assert_eq!(too_much(&words("nosmt"), 0), None);
        let why = too_much(&words("hugepages=400"), 1 << 30).unwrap();
        assert_eq!(
            why,
            "the huge pages would take 800 MiB, and of the machine's 1024 MiB 512 have to be left"
        );
        assert!(too_much(&words("hugepages=x"), u64::MAX).is_some());
    }

    proptest! {
        /// Whatever the kernel was told, reading it takes no more than what is there.
        #[test]
        fn any_line_has_an_answer(line in ".{0,80}", mark in "(stele.args=[0-9:]{0,30})?", more in ".{0,40}") {
            let line = format!("{line} {mark} {more}");
            if let Some(running) = Running::parse(&line) {
                prop_assert!(running.args.iter().all(|arg| line.contains(arg)));
            }
        }

        /// However the starts end, no arguments are tried for ever.
        #[test]
        fn the_tries_come_to_an_end(starts in 4usize..40) {
            let args = words("nosmt");
            let mut last = None;
            let mut made = 0;
            for _ in 0..starts {
                if let Decision::Start(attempt) = decide(&now(&args, None), last.as_ref()) {
                    made += 1;
                    last = Some(attempt);
                }
            }
            prop_assert_eq!(made, 3);
        }
    }
}
