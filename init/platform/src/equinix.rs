// SPDX-License-Identifier: Apache-2.0
//! Equinix Metal, formerly Packet: <https://deploy.equinix.com/developers/docs/metal/server-metadata/metadata/>. Its machines
//! have the firmware of whoever made them.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Region, Tags, Zone},
    CheckIn, Metadata, PLAIN, Platform, Server,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "equinix",
    signs: &[],
    metadata: Some(Metadata {
        server: Server::At("https://metadata.platformequinix.com"),
        user_data: &["/userdata"],
        attributes: &[
            (InstanceId, "/metadata#/id"),
            (Hostname, "/metadata#/hostname"),
            (Region, "/metadata#/metro"),
            (Zone, "/metadata#/facility"),
            (InstanceType, "/metadata#/plan"),
            (PublicAddress, "/metadata#/network/addresses/*public=true/address"),
            (Tags, "/metadata#/tags"),
        ],
        network: Some(("/metadata", "equinix")),
        check_in: Some(CheckIn::PhoneHome {
            path: "/metadata#/phone_home_url",
            body: r#"{"instance_id":"","message":"up"}"#,
        }),
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
