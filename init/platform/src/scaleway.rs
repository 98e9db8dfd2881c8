// SPDX-License-Identifier: Apache-2.0
//! Scaleway: <https://www.scaleway.com/en/docs/instances/how-to/use-cloud-init/>. Its service answers from low ports only, so that
//! what users of a machine run can't ask it, and wants to hear when the machine is up.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Tags, Zone},
    CheckIn,
    Fact::Vendor,
    Metadata, PLAIN, Platform, Server,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "scaleway",
    signs: &[&[Is(Vendor, "Scaleway")]],
    metadata: Some(Metadata {
        server: Server::At("http://169.254.42.42"),
        ipv6: Some("http://[fd00:42::42]"),
        low_port: true,
        user_data: &["/user_data/cloud-init"],
        attributes: &[
            (InstanceId, "/conf?format=json#/id"),
            (Hostname, "/conf?format=json#/hostname"),
            (Zone, "/conf?format=json#/location/zone_id"),
            (InstanceType, "/conf?format=json#/commercial_type"),
            (PublicAddress, "/conf?format=json#/public_ip/address"),
            (PublicAddress, "/conf?format=json#/public_ips_v4/*/address"),
            (PublicAddress, "/conf?format=json#/public_ips_v6/*/address"),
            (Tags, "/conf?format=json#/tags"),
        ],
        network: Some(("/conf?format=json", "scaleway")),
        check_in: Some(CheckIn::Send {
            method: "PATCH",
            path: "/state",
            body: r#"{"state_detail":"booted"}"#,
        }),
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
