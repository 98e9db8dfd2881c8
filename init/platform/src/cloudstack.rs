// SPDX-License-Identifier: Apache-2.0
//! Apache CloudStack: <https://docs.cloudstack.apache.org/en/latest/adminguide/virtual_machines/user-data.html>. The virtual
//! router that gives addresses is the metadata service, too.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Zone},
    Fact::Product,
    Metadata, PLAIN, Platform, Server,
    Sign::Begins,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "cloudstack",
    signs: &[&[Begins(Product, "CloudStack")]],
    metadata: Some(Metadata {
        // The name that virtual routers give themselves: another machine may be the one that gives addresses, or none.
        server: Server::Dhcp("http://data-server."),
        user_data: &["/latest/user-data"],
        attributes: &[
            (InstanceId, "/latest/meta-data/instance-id"),
            (Hostname, "/latest/meta-data/local-hostname"),
            (Zone, "/latest/meta-data/availability-zone"),
            (InstanceType, "/latest/meta-data/service-offering"),
            (PublicAddress, "/latest/meta-data/public-ipv4"),
        ],
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
