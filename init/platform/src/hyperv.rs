// SPDX-License-Identifier: Apache-2.0
//! Microsoft Hyper-V.

use crate::{
    Fact::{Product, Vendor},
    Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "hyperv",
    signs: &[&[Is(Vendor, "Microsoft Corporation"), Is(Product, "Virtual Machine")]],
    metadata: None,
    time_servers: &[],
};
