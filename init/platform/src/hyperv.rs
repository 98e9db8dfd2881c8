// SPDX-License-Identifier: Apache-2.0
//! Microsoft Hyper-V. Its hypervisor hands over pairs of a key and a value ("data exchange"):
//! <https://learn.microsoft.com/en-us/virtualization/hyper-v-on-windows/reference/integration-services>.

use crate::{
    Channel,
    Fact::{Product, Vendor},
    Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "hyperv",
    signs: &[&[Is(Vendor, "Microsoft Corporation"), Is(Product, "Virtual Machine")]],
    metadata: None,
    channel: Some(Channel {
        name: "kvp",
        device: Some("/dev/vmbus/hv_kvp"),
        instance: None,
        forgets: false,
    }),
    time_servers: &[],
};
