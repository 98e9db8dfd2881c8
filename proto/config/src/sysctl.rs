// SPDX-License-Identifier: Apache-2.0
//! A setting of the kernel, as in sysctl.d(5).

use crate::Setting;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// Most of them.
pub(crate) const MAX_SYSCTLS: usize = 512;

record! {
    /// A setting of the kernel, below `/proc/sys`. It is written when the document comes into force, and again if something
    /// else changes it; when the document goes, the setting is again what it was before.
    ///
    /// What would undo what the system promises is refused: programs that the kernel starts by itself, and what stays as it
    /// is until the machine starts again.
    pub struct Sysctl as "Sysctl" {
        /// The setting, with dots between its parts; `/` stands for a dot within a part, as in `net.ipv4.conf.eth0/7.forwarding`.
        /// One document for each.
        name: SysctlName,
        /// What it becomes.
        value: Setting,
    }
}

impl Sysctl {
    /// Which setting.
    #[must_use]
    pub fn name(&self) -> &SysctlName {
        &self.name
    }

    /// What it becomes.
    #[must_use]
    pub fn value(&self) -> &str {
        self.value.as_str()
    }
}

impl Check for Sysctl {
    fn check(&self, node: &Node, report: &mut Report) {
        if let Some(why) = refused(self.name.as_str()) {
            let message = format!("{} can't be set: {why}", self.name);
            report.find_at(node, "name", message, "another setting");
        }
        let (name, value) = (self.name.as_str(), self.value().trim());
        if name == "kernel.core_pattern" && value.starts_with('|') {
            let message = "has the kernel start a program for each crash, as root and outside of every sandbox";
            report.find_at(node, "value", message, "the name of a file");
        }
        if FOR_GOOD.contains(&(name, value)) {
            let message = "can't be taken back before the next boot";
            report.find_at(node, "value", message, "another value");
        }
    }
}

/// Settings that nobody may make, each with the reason. What ends with a dot stands for all that begin so.
const REFUSED: &[(&str, &str)] = &[
    ("dev.cdrom.", "no drive is opened or closed by a configuration"),
    ("fs.binfmt_misc.", "the machine has no interpreters, and gets none"),
    ("kernel.cad_pid", "PID 1 hears Ctrl-Alt-Del"),
    ("kernel.ctrl-alt-del", "PID 1 hears Ctrl-Alt-Del, and ends the machine in order"),
    ("kernel.domainname", "it says nothing that Resolver does not say"),
    ("kernel.hostname", "the kind Hostname sets it"),
    ("kernel.hotplug", "the kernel starts no programs; PID 1 hears its events"),
    ("kernel.kexec_load_disabled", "it can't be taken back before the next boot"),
    ("kernel.modprobe", "the kernel starts no programs; KernelModule loads modules"),
    (
        "kernel.modules_disabled",
        "devices that come later would get no driver, and it can't be taken back before the next boot",
    ),
    ("kernel.ns_last_pid", "it is no setting"),
    ("kernel.panic", "a kernel that panics has to start again for an upgrade to be taken back"),
    (
        "kernel.panic_on_oops",
        "a kernel that has run into a bug has to start again for an upgrade to be taken back",
    ),
    ("kernel.poweroff_cmd", "the kernel starts no programs"),
    ("kernel.soft_watchdog", "the kind Watchdog decides about it"),
    ("kernel.tainted", "it says what has happened, and can't be taken back"),
    ("kernel.usermodehelper.", "the kernel starts no programs"),
    ("net.ipv4.conf.all.promote_secondaries", "the network depends on it"),
    ("vm.compact_memory", "it is an order, and no setting"),
    ("vm.drop_caches", "it is an order, and no setting"),
];

/// Values that the kernel does not let go of.
const FOR_GOOD: [(&str, &str); 2] =
    [("kernel.unprivileged_bpf_disabled", "1"), ("kernel.yama.ptrace_scope", "3")];

fn refused(name: &str) -> Option<&'static str> {
    let refused = REFUSED.iter().find(|(refused, _)| match refused.ends_with('.') {
        true => name.starts_with(refused),
        false => name == *refused,
    });
    refused.map(|(_, why)| *why)
}

/// The longest name.
const MAX: usize = 200;

/// The name of a setting of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysctlName(String);

/// Why a text is no name of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlNameError {
    /// It is too long.
    #[error("it has {0} characters, more than {MAX}")]
    Long(usize),
    /// There is nothing where a part should be.
    #[error("a part of it is empty")]
    Empty,
    /// There is but one part.
    #[error("it has one part, and every setting has two or more")]
    Alone,
    /// It has a character that no setting has.
    #[error("{0:?} has no place in it")]
    Character(char),
}

impl SysctlName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it is below `/proc/sys`.
    #[must_use]
    pub fn path(&self) -> String {
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        self.0.chars().map(swap).collect()
    }
}

impl FromStr for SysctlName {
    type Err = SysctlNameError;

    fn from_str(text: &str) -> Result<SysctlName, SysctlNameError> {
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | ':' | '@');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(SysctlNameError::Character(other));
        }
        if text.len() > MAX {
            return Err(SysctlNameError::Long(text.len()));
        }
        // A part of slashes alone would be one of dots in the path, and lead out of it.
        if text.split('.').any(|part| part.trim_matches('/').is_empty()) {
            return Err(SysctlNameError::Empty);
        }
        if !text.contains('.') {
            return Err(SysctlNameError::Alone);
        }
        Ok(SysctlName(text.to_owned()))
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for SysctlName {
    const WHAT: &'static str = "the name of a kernel setting";
    const EXAMPLE: &'static str = "vm.swappiness";
    const PATTERN: &'static str = "^[0-9A-Za-z_/:@-]+(\\.[0-9A-Za-z_/:@-]+)+$";
}

#[cfg(test)]
mod tests {
    use super::SysctlName;

    #[test]
    fn names_and_their_paths() {
        for (name, path) in [
            ("vm.swappiness", "vm/swappiness"),
            ("net.ipv4.conf.eth0/7.rp_filter", "net/ipv4/conf/eth0.7/rp_filter"),
        ] {
            assert_eq!(name.parse::<SysctlName>().unwrap().path(), path);
        }
        for text in
            ["", "vm", "vm.", ".vm", "vm..x", "vm.//.x", "vm.a b", "vm.\n", "../x", "vm.x\0"]
        {
            assert!(text.parse::<SysctlName>().is_err(), "{text}");
        }
    }
}
