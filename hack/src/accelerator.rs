// SPDX-License-Identifier: Apache-2.0
//! Whether QEMU may use the processor itself.
//!
//! A `/dev/kvm` alone says little: on a machine whose processor does not offer virtualization it can be opened and then
//! hangs. So the processor is asked first, and the device is not touched when it says no.

use std::{fs, path::Path};

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// The best one that works here.
    #[must_use]
    pub fn detect() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self::choose(&cpuinfo, || Path::new("/dev/kvm").exists())
    }

    fn choose(cpuinfo: &str, device: impl FnOnce() -> bool) -> Self {
        let virtualization = cpuinfo
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
        if virtualization && device() { Self::Kvm } else { Self::Tcg }
    }

    /// QEMU's arguments for it.
    ///
    /// The translator of QEMU 7.2 corrupts flags around `cmpxchg16b`, and 7 % of all boots crash: it runs without.
    #[must_use]
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max,-cx16"],
        }
    }

    /// How much longer than on the processor itself things may take.
    #[must_use]
    pub fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_processor_behind_it_is_not_touched() {
        let chosen = Accelerator::choose("flags\t\t: fpu sse2\n", || panic!("touched the device"));
        assert_eq!(chosen, Accelerator::Tcg);
    }

    #[test]
    fn a_processor_with_a_device_is_used() {
        assert_eq!(Accelerator::choose("flags\t\t: fpu svm sse2\n", || true), Accelerator::Kvm);
        assert_eq!(Accelerator::choose("flags\t\t: fpu vmx\n", || false), Accelerator::Tcg);
    }
}
