// SPDX-License-Identifier: Apache-2.0
//! VMware.

use crate::{Fact::Vendor, Platform, Sign::Begins};

pub(crate) const PLATFORM: Platform = Platform {
    name: "vmware",
    signs: &[&[Begins(Vendor, "VMware")]],
    metadata: None,
    time_servers: &[],
};
