// SPDX-License-Identifier: Apache-2.0
//! QEMU, and what is made with it: <https://www.qemu.org/docs/master/specs/fw_cfg.html>. Its user-data is in fw_cfg.

use crate::{Fact::Vendor, Platform, Sign::Is};

pub(crate) const PLATFORM: Platform = Platform {
    name: "qemu",
    signs: &[&[Is(Vendor, "QEMU")]],
    metadata: None,
    channel: None,
    time_servers: &[],
};
