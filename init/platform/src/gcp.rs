// SPDX-License-Identifier: Apache-2.0
//! Google Compute Engine: <https://cloud.google.com/compute/docs/metadata/querying-metadata>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Region, Tags, Zone},
    Cut,
    Fact::{Product, Serial},
    Metadata, PLAIN, Platform,
    Sign::{Begins, Is},
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "gcp",
    signs: &[&[Is(Product, "Google Compute Engine")], &[Begins(Serial, "GoogleCloud-")]],
    metadata: Some(Metadata {
        ipv6: Some("http://[fd20:ce::254]"),
        headers: &[("Metadata-Flavor", "Google")],
        user_data: &["/computeMetadata/v1/instance/attributes/user-data"],
        attributes: &[
            (InstanceId, "/computeMetadata/v1/instance/id"),
            (Hostname, "/computeMetadata/v1/instance/hostname"),
            (Region, "/computeMetadata/v1/instance/zone"),
            (Zone, "/computeMetadata/v1/instance/zone"),
            (InstanceType, "/computeMetadata/v1/instance/machine-type"),
            (
                PublicAddress,
                "/computeMetadata/v1/instance/network-interfaces/?recursive=true&alt=json#/*/accessConfigs/*/externalIp",
            ),
            (Tags, "/computeMetadata/v1/instance/tags?alt=json#"),
        ],
        // They are the paths of what has these names.
        cuts: &[(Region, Cut::Region), (Zone, Cut::Last), (InstanceType, Cut::Last)],
        network: Some((
            "/computeMetadata/v1/instance/network-interfaces/?recursive=true&alt=json",
            "gcp",
        )),
        ..PLAIN
    }),
    channel: None,
    time_servers: &["metadata.google.internal"],
};
