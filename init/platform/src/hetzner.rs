// SPDX-License-Identifier: Apache-2.0
//! Hetzner Cloud: <https://docs.hetzner.cloud/reference/cloud#server-metadata>.

use crate::{
    Attribute::{Hostname, InstanceId, PublicAddress, Region, Zone},
    Fact::Vendor,
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "hetzner",
    signs: &[&[Is(Vendor, "Hetzner")]],
    metadata: Some(Metadata {
        ipv6: Some("http://[fe80::a9fe:a9fe]"),
        user_data: &["/hetzner/v1/userdata"],
        attributes: &[
            (InstanceId, "/hetzner/v1/metadata/instance-id"),
            (Hostname, "/hetzner/v1/metadata/hostname"),
            (Region, "/hetzner/v1/metadata/region"),
            (Zone, "/hetzner/v1/metadata/availability-zone"),
            (PublicAddress, "/hetzner/v1/metadata/public-ipv4"),
        ],
        network: Some(("/hetzner/v1/metadata/network-config", "nocloud")),
        ..PLAIN
    }),
    channel: None,
    time_servers: &["ntp1.hetzner.de", "ntp2.hetzner.com", "ntp3.hetzner.net"],
};
