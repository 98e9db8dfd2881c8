// SPDX-License-Identifier: Apache-2.0
//! IBM Cloud VPC: <https://cloud.ibm.com/docs/vpc?topic=vpc-user-data>. Its user-data is on a drive.

use crate::{Fact::AssetTag, Platform, Sign::Begins};

pub(crate) const PLATFORM: Platform = Platform {
    name: "ibm",
    signs: &[&[Begins(AssetTag, "ibmcloud")]],
    metadata: None,
    channel: None,
    time_servers: &["time.adn.networklayer.com"],
};
