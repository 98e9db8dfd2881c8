// SPDX-License-Identifier: Apache-2.0
//! KubeVirt: <https://kubevirt.io/user-guide/user_workloads/startup_scripts/>. Its user-data is on a drive.

use crate::{Fact::Vendor, Platform, Sign::Is};

pub(crate) const PLATFORM: Platform = Platform {
    name: "kubevirt",
    signs: &[&[Is(Vendor, "KubeVirt")]],
    metadata: None,
    channel: None,
    time_servers: &[],
};
