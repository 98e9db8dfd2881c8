// SPDX-License-Identifier: Apache-2.0
//! VMware. Its hypervisor hands over what the machine's settings have below `guestinfo.`, in the keys of cloud-init:
//! <https://docs.cloud-init.io/en/latest/reference/datasources/vmware.html>.

use crate::{
    Channel,
    Fact::{Hypervisor, Uuid, Vendor},
    Platform,
    Sign::{Begins, Is},
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "vmware",
    // Its firmware may be that of the host (`SMBIOS.reflectHost`).
    signs: &[&[Begins(Vendor, "VMware")], &[Is(Hypervisor, "VMwareVMware")]],
    metadata: None,
    channel: Some(Channel { name: "guestinfo", device: None, instance: Some(Uuid), forgets: true }),
    time_servers: &[],
};
