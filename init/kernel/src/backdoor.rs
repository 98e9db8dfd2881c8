// SPDX-License-Identifier: Apache-2.0
//! The port at which VMware's hypervisor listens to programs of a guest. It watches for one `in` instruction with a certain
//! number in EAX, and takes and gives words by the other registers; no rights are needed for it. Described in
//! <https://sites.google.com/site/chitchatvmback/backdoor> and the headers of open-vm-tools (`backdoor_def.h`).
//!
//! Anywhere else the processor refuses the instruction, and the kernel ends the process with SIGSEGV.

use std::arch::asm;

/// What makes the hypervisor look ("VMXh").
const MAGIC: u32 = 0x564d_5868;
/// The port.
const PORT: u32 = 0x5658;
/// The command for a step of a message; of all commands this is the one that is ever given.
const MESSAGE: u32 = 0x1e;

/// A step of a message to the hypervisor, and its answer, which has the same form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Which step; in an answer its status.
    pub kind: u16,
    /// The channel; some answers say other things here.
    pub channel: u16,
    /// What is said in this step.
    pub value: u32,
    /// What the hypervisor knows the channel's owner by.
    pub cookies: [u32; 2],
}

/// Takes a step.
#[must_use]
#[inline(never)]
#[expect(unsafe_code, reason = "no other way leads to an `in` instruction")]
pub fn step(step: Step) -> Step {
    let mut value = u64::from(step.value);
    let mut command = u32::from(step.kind) << 16 | MESSAGE;
    let mut place = u32::from(step.channel) << 16 | PORT;
    let [mut first, mut second] = step.cookies;
    // SAFETY: with this command and port the hypervisor reads and writes the registers that are named here and nothing else, no
    // memory among it. RBX, which the compiler keeps for itself, is put back. Where there is no such hypervisor, the process
    // ends at the instruction.
    unsafe {
        asm!(
            "xchg rbx, {value}",
            "in eax, dx",
            "xchg rbx, {value}",
            value = inout(reg) value,
            inout("eax") MAGIC => _,
            inout("ecx") command,
            inout("edx") place,
            inout("esi") first,
            inout("edi") second,
            options(nomem, nostack),
        );
    }
    let [a, b, c, d, ..] = value.to_le_bytes();
    Step {
        kind: high(command),
        channel: high(place),
        value: u32::from_le_bytes([a, b, c, d]),
        cookies: [first, second],
    }
}

fn high(register: u32) -> u16 {
    let [.., a, b] = register.to_le_bytes();
    u16::from_le_bytes([a, b])
}
