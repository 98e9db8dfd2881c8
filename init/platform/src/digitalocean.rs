// SPDX-License-Identifier: Apache-2.0
//! DigitalOcean: <https://docs.digitalocean.com/reference/api/metadata/>.

use crate::{
    Attribute::{Hostname, InstanceId, PublicAddress, Region, Tags},
    Fact::Vendor,
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "digitalocean",
    signs: &[&[Is(Vendor, "DigitalOcean")]],
    metadata: Some(Metadata {
        user_data: &["/metadata/v1/user-data"],
        attributes: &[
            (InstanceId, "/metadata/v1/id"),
            (Hostname, "/metadata/v1/hostname"),
            (Region, "/metadata/v1/region"),
            (PublicAddress, "/metadata/v1.json#/interfaces/public/*/ipv4/ip_address"),
            (PublicAddress, "/metadata/v1.json#/interfaces/public/*/ipv6/ip_address"),
            (Tags, "/metadata/v1.json#/tags"),
        ],
        network: Some(("/metadata/v1.json", "digitalocean")),
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
