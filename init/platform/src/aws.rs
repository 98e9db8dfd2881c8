// SPDX-License-Identifier: Apache-2.0
//! Amazon EC2, IMDSv2: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Region, Tags, Zone},
    Fact::{SwappedUuid, Uuid, Vendor},
    Metadata, PLAIN, Platform, Session,
    Sign::{Begins, Is},
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "aws",
    signs: &[&[Is(Vendor, "Amazon EC2")], &[Begins(Uuid, "ec2")], &[Begins(SwappedUuid, "ec2")]],
    metadata: Some(Metadata {
        ipv6: Some("http://[fd00:ec2::254]"),
        session: Some(Session {
            path: "/latest/api/token",
            ask: ("X-aws-ec2-metadata-token-ttl-seconds", "21600"),
            say: "X-aws-ec2-metadata-token",
            // Services made after this one, that know the first version only.
            optional: true,
        }),
        user_data: &["/2019-10-01/user-data"],
        attributes: &[
            (InstanceId, "/2021-01-03/meta-data/instance-id"),
            (Hostname, "/2021-01-03/meta-data/hostname"),
            (Region, "/2021-01-03/meta-data/placement/region"),
            (Zone, "/2021-01-03/meta-data/placement/availability-zone"),
            (InstanceType, "/2021-01-03/meta-data/instance-type"),
            (PublicAddress, "/2021-01-03/meta-data/public-ipv4"),
            (PublicAddress, "/2021-01-03/meta-data/network/interfaces/macs/*/public-ipv4s"),
            // There only if the instance is to know them.
            (Tags, "/2021-01-03/meta-data/tags/instance/*"),
        ],
        ..PLAIN
    }),
    channel: None,
    time_servers: &["169.254.169.123", "[fd00:ec2::123]"],
};
