// SPDX-License-Identifier: Apache-2.0
//! Akamai's cloud, formerly Linode: <https://techdocs.akamai.com/cloud-computing/docs/metadata-service-api>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Region, Tags},
    Cut,
    Fact::Vendor,
    Metadata, PLAIN, Platform, Session,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "akamai",
    signs: &[&[Is(Vendor, "Akamai")], &[Is(Vendor, "Linode")]],
    metadata: Some(Metadata {
        ipv6: Some("http://[fd00:a9fe:a9fe::1]"),
        session: Some(Session {
            path: "/v1/token",
            ask: ("Metadata-Token-Expiry-Seconds", "3600"),
            say: "Metadata-Token",
            optional: false,
        }),
        user_data: &["/v1/user-data"],
        attributes: &[
            (InstanceId, "/v1/instance#/id"),
            (Hostname, "/v1/instance#/label"),
            (Region, "/v1/instance#/region"),
            (InstanceType, "/v1/instance#/type"),
            (PublicAddress, "/v1/network#/ipv4/public"),
            (Tags, "/v1/instance#/tags"),
        ],
        // They come with the length of a prefix.
        cuts: &[(PublicAddress, Cut::First)],
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
