// SPDX-License-Identifier: Apache-2.0
//! Oracle Cloud Infrastructure: <https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, Region, Tags, Zone},
    Fact::AssetTag,
    Metadata, PLAIN, Platform,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "oracle",
    signs: &[&[Is(AssetTag, "OracleCloud.com")]],
    metadata: Some(Metadata {
        ipv6: Some("http://[fd00:c1::a9fe:a9fe]"),
        headers: &[("Authorization", "Bearer Oracle")],
        user_data: &["/opc/v2/instance/metadata/user_data"],
        attributes: &[
            (InstanceId, "/opc/v2/instance/id"),
            (Hostname, "/opc/v2/instance/hostname"),
            (Region, "/opc/v2/instance/canonicalRegionName"),
            (Zone, "/opc/v2/instance/availabilityDomain"),
            (InstanceType, "/opc/v2/instance/shape"),
            (Tags, "/opc/v2/instance/freeformTags#"),
        ],
        network: Some(("/opc/v2/vnics/", "oracle")),
        ..PLAIN
    }),
    channel: None,
    time_servers: &["169.254.169.254"],
};
