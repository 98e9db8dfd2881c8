// SPDX-License-Identifier: Apache-2.0
//! Progress on standard error: a bar for each node on a terminal, a line for each step elsewhere.

use crate::node::Node;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Of so many nodes a terminal shows every step.
const FEW: usize = 3;

/// The progress of all nodes.
#[derive(Clone, Debug)]
pub(crate) struct Bars(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    terminal: bool,
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    /// What was said last of each node, so that it is said once.
    last: Mutex<HashMap<String, String>>,
}

impl Bars {
    /// One for each node.
    pub(crate) fn new(nodes: &[Node]) -> Bars {
        let terminal = io::stderr().is_terminal();
        let all = MultiProgress::new();
        let bar = |node: &Node| {
            let bar =
                if terminal { all.add(ProgressBar::new_spinner()) } else { ProgressBar::hidden() };
            bar.set_prefix(node.name());
            bar.set_style(style("{prefix:.bold} {spinner} {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            (key(node), bar)
        };
        let bars = nodes.iter().map(bar).collect();
        Bars(Arc::new(Inner { terminal, all, bars, last: Mutex::default() }))
    }

    /// Bytes begin to flow.
    pub(crate) fn begin(&self, node: &Node, what: &str, total: u64) -> &Bars {
        if self.is_new(node, what) {
            if let Some(bar) = self.0.bars.get(&key(node)) {
                bar.set_style(style("{prefix:.bold} {msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"));
                bar.set_message(what.to_owned());
                bar.set_position(0);
                bar.set_length(total);
            }
            self.line(node, &format!("{what} {}", crate::span::format_bytes(total)));
        }
        self
    }

    /// So many bytes have flowed.
    pub(crate) fn at(&self, node: &Node, done: u64) {
        if let Some(bar) = self.0.bars.get(&key(node)) {
            bar.set_position(bar.position().max(done));
        }
    }

    /// Something without a number happens.
    pub(crate) fn say(&self, node: &Node, what: &str) {
        if self.is_new(node, what) {
            if let Some(bar) = self.0.bars.get(&key(node)) {
                bar.set_style(style("{prefix:.bold} {spinner} {wide_msg}"));
                bar.set_message(what.to_owned());
            }
            self.line(node, what);
        }
    }

    /// The same; `left` changes all the time, and is for those who watch.
    pub(crate) fn say_for(&self, node: &Node, what: &str, left: &str) {
        self.say(node, what);
        if let Some(bar) = self.0.bars.get(&key(node)) {
            bar.set_message(format!("{what}{left}"));
        }
    }

    /// Something that stays to be read.
    pub(crate) fn note(&self, node: &Node, what: &str) {
        if self.0.terminal {
            // A terminal that is gone has no reader.
            let _ = self.0.all.println(format!("{}: {what}", node.name()));
        } else {
            self.line(node, what);
        }
    }

    /// The same, unless so many nodes are shown that nobody could read it: their bars say it in numbers.
    pub(crate) fn step(&self, node: &Node, what: &str) {
        if !self.0.terminal || self.0.bars.len() <= FEW {
            self.note(node, what);
        }
    }

    /// Nothing more will be said of this node here.
    pub(crate) fn end(&self, node: &Node) {
        if let Some(bar) = self.0.bars.get(&key(node)) {
            bar.finish_and_clear();
        }
    }

    fn line(&self, node: &Node, what: &str) {
        if !self.0.terminal {
            eprintln!("{}: {what}", node.name());
        }
    }

    fn is_new(&self, node: &Node, what: &str) -> bool {
        let Ok(mut last) = self.0.last.lock() else { return false };
        last.insert(key(node), what.to_owned()).as_deref() != Some(what)
    }
}

fn key(node: &Node) -> String {
    node.address()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_step_is_said_once() {
        let node = Node::parse("a").unwrap();
        let bars = Bars::new(std::slice::from_ref(&node));
        assert!(bars.is_new(&node, "rebooting"));
        assert!(!bars.is_new(&node, "rebooting"));
        assert!(bars.is_new(&node, "runs 2"));
    }

    #[test]
    fn the_templates_are_sound() {
        for template in [
            "{prefix:.bold} {spinner} {wide_msg}",
            "{prefix:.bold} {msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
