// SPDX-License-Identifier: Apache-2.0
//! OpenNebula: <https://docs.opennebula.io/stable/management_and_operations/references/template.html#context-section>. Its
//! user-data is on a drive, by which it is known: the firmware names the hypervisor.

use crate::{
    Fact::{Hypervisor, Vendor},
    Platform,
    Sign::{Begins, Drive, Is},
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "opennebula",
    signs: &[
        &[Is(Vendor, "QEMU"), Drive("CONTEXT")],
        &[Begins(Vendor, "VMware"), Drive("CONTEXT")],
        &[Is(Hypervisor, "VMwareVMware"), Drive("CONTEXT")],
    ],
    metadata: None,
    channel: None,
    time_servers: &[],
};
