// SPDX-License-Identifier: Apache-2.0
//! Microsoft Azure: <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Region, Tags, Zone},
    CheckIn,
    Fact::AssetTag,
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "azure",
    signs: &[&[Is(AssetTag, "7783-7084-3265-9085-8269-3286-77")]],
    metadata: Some(Metadata {
        headers: &[("Metadata", "true")],
        user_data: &["/metadata/instance/compute/userData?api-version=2021-01-01&format=text"],
        attributes: &[
            (InstanceId, "/metadata/instance/compute/vmId?api-version=2021-01-01&format=text"),
            (Hostname, "/metadata/instance/compute/name?api-version=2021-01-01&format=text"),
            (Region, "/metadata/instance/compute/location?api-version=2021-01-01&format=text"),
            (Zone, "/metadata/instance/compute/zone?api-version=2021-01-01&format=text"),
            (InstanceType, "/metadata/instance/compute/vmSize?api-version=2021-01-01&format=text"),
            (
                PublicAddress,
                "/metadata/instance/network?api-version=2021-01-01#/interface/*/ipv4/ipAddress/*/publicIpAddress",
            ),
            (Tags, "/metadata/instance/compute/tags?api-version=2021-01-01&format=text"),
        ],
        network: Some(("/metadata/instance/network?api-version=2021-01-01", "azure")),
        // It says so of what it does not know yet: "Errors and debugging" of its documentation.
        not_yet: &[404, 410],
        check_in: Some(CheckIn::Wireserver { server: "http://168.63.129.16" }),
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
