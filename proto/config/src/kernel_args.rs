// SPDX-License-Identifier: Apache-2.0
//! What the kernel is told when it starts, within what an image allows.

use crate::list::List;
use crate::node::Node;
use crate::record::{Check, did_you_mean, record};
use crate::report::Report;
use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// Most arguments of a document.
const MOST: usize = 64;
/// Most bytes of all of them: the kernel reads 2048, and the image's own come first.
const LONGEST_LINE: usize = 1024;

record! {
    /// What the kernel is told when it starts, besides what the image says itself. It comes into force with the next start of
    /// the machine, so it is applied with `--mode reboot` or `--mode staged`.
    ///
    /// The boot loader is told of them for one start at a time: however that start ends, the next one is of the signed image
    /// as it is, and that machine decides whether to start once more with the arguments. So one that does not come up with
    /// them comes up without: a configuration that was staged is taken back, and one that had been in force before is given
    /// up after three tries. An argument with which the machine hangs before its watchdog runs takes someone who switches it
    /// off and on.
    ///
    /// A machine that was not started from an image on its own disk, that has Secure Boot on, or that would have no memory
    /// left beside its huge pages refuses it.
    ///
    /// An image allows these. For processors: `amd_pstate`, `clocksource`, `cpufreq.default_governor`, `cpuidle.governor`,
    /// `idle`, `intel_idle.max_cstate`, `intel_pstate`, `maxcpus`, `mitigations` (`auto` or `auto,nosmt`), `nosmt`, `preempt`,
    /// `processor.max_cstate`, `threadirqs`, `tsc`.
    ///
    /// For processors that do one thing alone: `irqaffinity`, `isolcpus`, `nohz`, `nohz_full`, `rcu_nocb_poll`, `rcu_nocbs`,
    /// `skew_tick`.
    ///
    /// For memory: `default_hugepagesz`, `hugepages`, `hugepagesz`, `numa_balancing`, `psi`, `transparent_hugepage`.
    ///
    /// For devices: `amd_iommu` (`force_isolation`), `intel_iommu` (`on`), `iommu` (`force`, `pt` or `strict`), `iommu.strict`
    /// (`1`), `nvme_core.default_ps_max_latency_us`, `pci`, `pcie_aspm`, `pcie_ports`, `usbcore.autosuspend`.
    ///
    /// For its words: `console`, `ignore_loglevel`, `log_buf_len`, `loglevel`, `nomodeset`, `printk.time`, `video`.
    ///
    /// For more of what protects it: `init_on_free` (`1`), `lockdown` (`confidentiality`), `slub_debug`.
    pub struct KernelArgs as "KernelArgs" {
        /// The arguments, each as NAME or NAME=VALUE, in the order in which the kernel reads them.
        args: List<KernelArg, 1, MOST>,
    }
}

impl KernelArgs {
    /// The arguments, in order.
    #[must_use]
    pub fn args(&self) -> &[KernelArg] {
        &self.args
    }
}

impl Check for KernelArgs {
    fn check(&self, node: &Node, report: &mut Report) {
        let length: usize = self.args.iter().map(|arg| arg.as_str().len().saturating_add(1)).sum();
        if length > LONGEST_LINE {
            let message = format!("they have {length} bytes, more than {LONGEST_LINE}");
            report.find_at(node, "args", message, "fewer or shorter ones");
        }
    }
}

/// What an image allows: names, and the only good values of those that could weaken it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("amd_iommu", &["force_isolation"]),
    ("amd_pstate", &[]),
    ("clocksource", &[]),
    ("console", &[]),
    ("cpufreq.default_governor", &[]),
    ("cpuidle.governor", &[]),
    ("default_hugepagesz", &[]),
    ("hugepages", &[]),
    ("hugepagesz", &[]),
    ("idle", &[]),
    ("ignore_loglevel", &[]),
    ("init_on_free", &["1"]),
    ("intel_idle.max_cstate", &[]),
    ("intel_iommu", &["on"]),
    ("intel_pstate", &[]),
    ("iommu", &["force", "pt", "strict"]),
    ("iommu.strict", &["1"]),
    ("irqaffinity", &[]),
    ("isolcpus", &[]),
    ("lockdown", &["confidentiality"]),
    ("log_buf_len", &[]),
    ("loglevel", &[]),
    ("maxcpus", &[]),
    ("mitigations", &["auto", "auto,nosmt"]),
    ("nohz", &[]),
    ("nohz_full", &[]),
    ("nomodeset", &[]),
    ("nosmt", &[]),
    ("numa_balancing", &[]),
    ("nvme_core.default_ps_max_latency_us", &[]),
    ("pci", &[]),
    ("pcie_aspm", &[]),
    ("pcie_ports", &[]),
    ("preempt", &[]),
    ("printk.time", &[]),
    ("processor.max_cstate", &[]),
    ("psi", &[]),
    ("rcu_nocb_poll", &[]),
    ("rcu_nocbs", &[]),
    ("skew_tick", &[]),
    ("slub_debug", &[]),
    ("threadirqs", &[]),
    ("transparent_hugepage", &[]),
    ("tsc", &[]),
    ("usbcore.autosuspend", &[]),
    ("video", &[]),
];

/// What people ask for and no image allows, each with the reason. What ends with a dot stands for all that begin so.
const REFUSED: &[(&str, &str)] = &[
    ("debugfs", "it opens the kernel to whoever is root"),
    ("efi", "the machine needs its firmware's variables to go back from an image that fails"),
    ("init", "it starts another program in the place of PID 1"),
    ("initcall_blacklist", "it leaves out what protects the kernel"),
    ("initrd", "the image brings its own"),
    ("kasan", "the kernel is built without it"),
    ("lsm", "it leaves out what protects the kernel"),
    ("mem", "too little of it hangs the machine before anything could start it again"),
    ("module.sig_enforce", "the image decides whose modules are loaded"),
    (
        "module_blacklist",
        "the machine may need the module to come up; the kind KernelModule loads others",
    ),
    ("net.ifnames", "links are called as the kernel calls them"),
    ("noefi", "the machine needs its firmware's variables to go back from an image that fails"),
    ("nokaslr", "it puts the kernel where an attacker looks for it"),
    ("nopti", "it opens the kernel's memory to programs"),
    ("nowatchdog", "a machine that hangs has to start again"),
    ("oops", "a kernel that has run into a bug has to start again for an upgrade to be taken back"),
    ("panic", "a kernel that panics has to start again for an upgrade to be taken back"),
    ("rdinit", "it starts another program in the place of PID 1"),
    ("reboot", "the machine has to be able to start again"),
    ("ro", "the root is in the image"),
    ("root", "the root is in the image"),
    ("rootfstype", "the root is in the image"),
    ("rootwait", "the root is in the image"),
    ("rw", "the root is in the image"),
    ("security", "it leaves out what protects the kernel"),
    ("single", "there is no shell"),
    ("stele.", "the system says it to itself"),
    ("sysctl.", "the kind Sysctl makes settings"),
    ("systemd.", "there is no systemd"),
];

/// The longest argument.
const LONGEST: usize = 256;

/// `NAME` or `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelArg(String);

/// Why a text is no argument that the kernel may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelArgError {
    /// It is too long.
    #[error("it has {0} characters, more than {LONGEST}")]
    Long(usize),
    /// There is no name, or one with a character that none has.
    #[error("its name is not of letters, digits, ., - and _")]
    Name,
    /// The value has a character that would end it.
    #[error("{0:?} has no place in its value")]
    Character(char),
    /// It is never allowed.
    #[error("{name} can't be given: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Nobody has allowed it.
    #[error("{name} is not among what this image allows{hint}")]
    Unknown {
        /// Its name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// Its value would weaken the machine.
    #[error("this image allows {name} with {allowed} alone")]
    Value {
        /// Its name.
        name: String,
        /// The good values.
        allowed: String,
    },
}

impl KernelArg {
    /// The argument, as the kernel reads it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelArg {
    type Err = KernelArgError;

    fn from_str(text: &str) -> Result<KernelArg, KernelArgError> {
        if text.len() > LONGEST {
            return Err(KernelArgError::Long(text.chars().count()));
        }
        let (written, value) = text.split_once('=').unwrap_or((text, ""));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if written.is_empty() || !written.chars().all(allowed) {
            return Err(KernelArgError::Name);
        }
        // The kernel splits at spaces and looks for quotes.
        if let Some(other) = value.chars().find(|c| !c.is_ascii_graphic() || *c == '"') {
            return Err(KernelArgError::Character(other));
        }
        // To the kernel, both are one.
        let name = written.replace('-', "_");
        let Some((_, values)) = ALLOWED.iter().find(|(allowed, _)| *allowed == name) else {
            return Err(why_not(name));
        };
        if !values.is_empty() && !values.contains(&value) {
            return Err(KernelArgError::Value { name, allowed: values.join(" or ") });
        }
        let rest = text.get(written.len()..).unwrap_or_default();
        Ok(KernelArg(format!("{name}{rest}")))
    }
}

fn why_not(name: String) -> KernelArgError {
    let refused = REFUSED.iter().find(|(refused, _)| match refused.ends_with('.') {
        true => name.starts_with(refused),
        false => name == *refused,
    });
    if let Some((_, why)) = refused {
        return KernelArgError::Refused { name, why };
    }
    let names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let hint = did_you_mean(&name, &names);
    KernelArgError::Unknown { name, hint }
}

impl fmt::Display for KernelArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for KernelArg {
    const WHAT: &'static str = "a kernel argument";
    const EXAMPLE: &'static str = "mitigations=auto";
    const PATTERN: &'static str = "^[0-9A-Za-z._-]+(=[!#-~]*)?$";
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED, KernelArg, KernelArgs, REFUSED};
    use crate::shape::Shape;
    use crate::value::Value;

    #[test]
    fn the_manual_names_all_of_them_and_no_others() {
        let Shape::Record(record) = KernelArgs::shape() else { panic!("it is a record") };
        let text = record.doc.join(" ");
        let (_, text) = text.split_once("An image allows these.").unwrap();
        let mut named: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        named.sort_unstable();
        let values = |&(name, values): &(&'static str, &'static [&'static str])| {
            [name].into_iter().chain(values.iter().copied())
        };
        let mut all: Vec<&str> = ALLOWED.iter().flat_map(values).collect();
        all.sort_unstable();
        assert_eq!(named, all);
    }

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        for (name, _) in ALLOWED {
            let refused = |(refused, _): &&(&str, &str)| {
                name == refused || (refused.ends_with('.') && name.starts_with(refused))
            };
            assert!(!REFUSED.iter().any(|one| refused(&one)), "{name}");
        }
    }

    #[test]
    fn names_are_as_the_kernel_has_them() {
        for (text, kept) in [
            ("hugepages=64", "hugepages=64"),
            ("transparent-hugepage=never", "transparent_hugepage=never"),
            ("nosmt", "nosmt"),
            ("pci=realloc,nomsi-x", "pci=realloc,nomsi-x"),
        ] {
            assert_eq!(text.parse::<KernelArg>().unwrap().as_str(), kept);
        }
    }

    #[test]
    fn what_could_be_something_else_is_refused() {
        for text in [
            "",
            "--",
            "=1",
            "hugepages=1 init=/x",
            "hugepages=\"1",
            "hugepages=1\n",
            "init=/bin/sh",
            "rdinit=/x",
            "root=/dev/vda",
            "panic=0",
            "stele.args=1:1",
            "mitigations=off",
            "mitigations",
            "lockdown=none",
            "module.sig-enforce=0",
        ] {
            assert!(text.parse::<KernelArg>().is_err(), "{text}");
        }
    }
}
