// SPDX-License-Identifier: Apache-2.0
//! Oracle VirtualBox.

use crate::{Fact::Product, Platform, Sign::Is};

pub(crate) const PLATFORM: Platform = Platform {
    name: "virtualbox",
    signs: &[&[Is(Product, "VirtualBox")]],
    metadata: None,
    channel: None,
    time_servers: &[],
};
