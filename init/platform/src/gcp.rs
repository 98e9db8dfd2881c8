// SPDX-License-Identifier: Apache-2.0
//! Google Compute Engine: <https://cloud.google.com/compute/docs/metadata/querying-metadata>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Zone},
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
            (Zone, "/computeMetadata/v1/instance/zone"),
            (InstanceType, "/computeMetadata/v1/instance/machine-type"),
            (
                PublicAddress,
                "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
            ),
        ],
        network: Some((
            "/computeMetadata/v1/instance/network-interfaces/?recursive=true&alt=json",
            "gcp",
        )),
        ..PLAIN
    }),
    channel: None,
    time_servers: &["metadata.google.internal"],
};
