// SPDX-License-Identifier: Apache-2.0
//! What the tests of the network begin with.

use super::Link;
use stele_config::Device;

/// A link that works.
pub(super) fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: None,
        device: Device::default(),
        mtu: 1500,
        first_mtu: 1500,
        max_mtu: None,
        up: true,
        carrier: true,
        arp: true,
        physical: true,
        form: None,
        ours: false,
        master: None,
        primary: None,
        vlans: None,
        says: None,
    }
}
