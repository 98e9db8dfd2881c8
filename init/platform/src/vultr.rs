// SPDX-License-Identifier: Apache-2.0
//! Vultr: <https://www.vultr.com/metadata/>.

use crate::{
    Attribute::{Hostname, InstanceId, PublicAddress, Region},
    Fact::Vendor,
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "vultr",
    signs: &[&[Is(Vendor, "Vultr")]],
    metadata: Some(Metadata {
        user_data: &["/user-data/user-data", "/latest/user-data"],
        attributes: &[
            (InstanceId, "/v1/instance-v2-id"),
            (Hostname, "/v1/hostname"),
            (Region, "/v1/region/regioncode"),
            (PublicAddress, "/v1.json#/interfaces/*network-type=public/ipv4/address"),
            (PublicAddress, "/v1.json#/interfaces/*network-type=public/ipv4/additional/*/address"),
            (PublicAddress, "/v1.json#/interfaces/*network-type=public/ipv6/address"),
        ],
        network: Some(("/v1.json", "vultr")),
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
