// SPDX-License-Identifier: Apache-2.0
//! Scaleway. Its service answers from low ports only.

use crate::{Fact::Vendor, Platform, Sign::Is};

pub(crate) const PLATFORM: Platform =
    Platform { name: "scaleway", signs: &[&[Is(Vendor, "Scaleway")]], metadata: None };
