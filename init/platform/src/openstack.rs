// SPDX-License-Identifier: Apache-2.0
//! OpenStack Nova: <https://docs.openstack.org/nova/latest/user/metadata.html>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Tags, Zone},
    Fact::{AssetTag, Product},
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "openstack",
    signs: &[
        &[Is(Product, "OpenStack Nova")],
        &[Is(Product, "OpenStack Compute")],
        &[Is(AssetTag, "OpenStack Nova")],
        &[Is(AssetTag, "OpenStack Compute")],
        &[Is(AssetTag, "OpenTelekomCloud")],
        &[Is(AssetTag, "SAP CCloud VM")],
        &[Is(AssetTag, "HUAWEICLOUD")],
        &[Is(AssetTag, "Samsung Cloud Platform")],
    ],
    metadata: Some(Metadata {
        ipv6: Some("http://[fe80::a9fe:a9fe]"),
        user_data: &["/openstack/latest/user_data"],
        attributes: &[
            (InstanceId, "/latest/meta-data/instance-id"),
            (Hostname, "/openstack/latest/meta_data.json#/hostname"),
            (Zone, "/openstack/latest/meta_data.json#/availability_zone"),
            (InstanceType, "/latest/meta-data/instance-type"),
            (PublicAddress, "/latest/meta-data/public-ipv4"),
            (Tags, "/openstack/latest/meta_data.json#/meta"),
        ],
        network: Some(("/openstack/latest/network_data.json", "openstack")),
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
