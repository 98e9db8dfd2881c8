// SPDX-License-Identifier: Apache-2.0
//! Nutanix AHV. Its user-data is on a drive.

use crate::{Fact::Vendor, Platform, Sign::Is};

pub(crate) const PLATFORM: Platform = Platform {
    name: "nutanix",
    signs: &[&[Is(Vendor, "Nutanix")]],
    metadata: None,
    channel: None,
    time_servers: &[],
};
