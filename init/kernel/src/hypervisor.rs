// SPDX-License-Identifier: Apache-2.0
//! What a hypervisor calls itself: the processor tells its guests, whatever their firmware says (CPUID, leaf 0x40000000;
//! <https://docs.kernel.org/virt/kvm/x86/cpuid.html>).

use std::arch::x86_64::__cpuid;

/// The leaf that says what the processor can do, and the bit of ECX by which it is one of a hypervisor's.
const FEATURES: (u32, u32) = (1, 1 << 31);
/// The leaf with the name.
const NAME: u32 = 0x4000_0000;

/// Its name, if there is one.
#[must_use]
pub fn name() -> Option<String> {
    let (leaf, guest) = FEATURES;
    if __cpuid(leaf).ecx & guest == 0 {
        return None;
    }
    let said = __cpuid(NAME);
    let bytes: Vec<u8> =
        [said.ebx, said.ecx, said.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    let name = String::from_utf8_lossy(&bytes);
    Some(name.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn there_is_one_where_the_kernel_says_so() {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let guest = flags.split_whitespace().any(|flag| flag == "hypervisor");
        assert_eq!(name().is_some(), guest);
        assert!(
            name()
                .is_none_or(|name| name.chars().all(|char| char.is_ascii_graphic() || char == ' '))
        );
    }
}
