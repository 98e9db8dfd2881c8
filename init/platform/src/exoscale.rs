// SPDX-License-Identifier: Apache-2.0
//! Exoscale: <https://community.exoscale.com/product/compute/instances/how-to/cloud-init/>.

use crate::{
    Attribute::{Hostname, InstanceId, InstanceType, PublicAddress, Zone},
    Fact::Product,
    Metadata, PLAIN, Platform,
    Sign::Begins,
};

pub(crate) const PLATFORM: Platform = Platform {
    name: "exoscale",
    signs: &[&[Begins(Product, "Exoscale")]],
    metadata: Some(Metadata {
        user_data: &["/1.0/user-data"],
        attributes: &[
            (InstanceId, "/1.0/meta-data/instance-id"),
            (Hostname, "/1.0/meta-data/local-hostname"),
            (Zone, "/1.0/meta-data/availability-zone"),
            (InstanceType, "/1.0/meta-data/service-offering"),
            (PublicAddress, "/1.0/meta-data/public-ipv4"),
        ],
        ..PLAIN
    }),
    channel: None,
    time_servers: &[],
};
