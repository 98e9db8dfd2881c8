// SPDX-License-Identifier: Apache-2.0
//! OpenNebula: <https://docs.opennebula.io/stable/management_and_operations/references/template.html#context-section>. Its
//! user-data is on a drive, and the firmware names the hypervisor.

use crate::Platform;

pub(crate) const PLATFORM: Platform = Platform { name: "opennebula", signs: &[], metadata: None };
