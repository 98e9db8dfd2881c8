// SPDX-License-Identifier: Apache-2.0
//! UpCloud: <https://developers.upcloud.com/1.3/8-servers/#metadata-service>.

use crate::{
    Attribute::{Hostname, InstanceId, PublicAddress, Region, Tags},
    Fact::Vendor,
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "upcloud",
    signs: &[&[Is(Vendor, "UpCloud")]],
    metadata: Some(Metadata {
        user_data: &["/metadata/v1/user_data"],
        attributes: &[
            (InstanceId, "/metadata/v1/instance_id"),
            (Hostname, "/metadata/v1/hostname"),
            (Region, "/metadata/v1/region"),
            (
                PublicAddress,
                "/metadata/v1.json#/network/interfaces/*type=public/ip_addresses/*/address",
            ),
            (Tags, "/metadata/v1.json#/tags"),
        ],
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
