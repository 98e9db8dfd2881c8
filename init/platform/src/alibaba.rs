// SPDX-License-Identifier: Apache-2.0
//! Alibaba Cloud: <https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Region, Zone},
    Fact::Product,
    Metadata, PLAIN, Platform, Server, Session,
    Sign::Is,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "alibaba",
    signs: &[&[Is(Product, "Alibaba Cloud ECS")]],
    metadata: Some(Metadata {
        server: Server::At("http://100.100.100.200"),
        session: Some(Session {
            path: "/latest/api/token",
            ask: ("X-aliyun-ecs-metadata-token-ttl-seconds", "21600"),
            say: "X-aliyun-ecs-metadata-token",
            optional: true,
        }),
        user_data: &["/latest/user-data"],
        attributes: &[
            (InstanceId, "/latest/meta-data/instance-id"),
            (Hostname, "/latest/meta-data/hostname"),
            (Region, "/latest/meta-data/region-id"),
            (Zone, "/latest/meta-data/zone-id"),
            (InstanceType, "/latest/meta-data/instance/instance-type"),
            (PublicAddress, "/latest/meta-data/eipv4"),
            (PublicAddress, "/latest/meta-data/public-ipv4"),
        ],
        ..PLAIN
    }),
    channel: None,
    time_servers: &["ntp.cloud.aliyuncs.com"],
};
