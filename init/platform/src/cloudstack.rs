// SPDX-License-Identifier: Apache-2.0
//! Apache CloudStack: <https://docs.cloudstack.apache.org/en/latest/adminguide/virtual_machines.html>. Its user-data is on a drive; its service has no address that is known beforehand.

use crate::{Fact::Product, Platform, Sign::Begins};

pub(crate) const PLATFORM: Platform =
    Platform { name: "cloudstack", signs: &[&[Begins(Product, "CloudStack")]], metadata: None };
