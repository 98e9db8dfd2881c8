// SPDX-License-Identifier: Apache-2.0
//! What the operator says of clients, beyond what their certificates say: roles of his own, and certificates that open
//! nothing any more.
//!
//! It comes with the identity, and is looked up with each call, so that a change holds for connections that are open too.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use stele_proto::method::Method;

/// Roles of the operator's own, and revoked certificates.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Access {
    /// The paths of the methods that each role opens.
    #[serde(default)]
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// The serial numbers of revoked certificates, in lower-case hex without zeros before them.
    #[serde(default)]
    pub revoked: BTreeSet<String>,
}

impl Access {
    /// Whether one of these roles opens this method.
    #[must_use]
    pub fn opens(&self, roles: &[String], method: Method) -> bool {
        let open = |role| self.roles.get(role).is_some_and(|paths| paths.contains(method.path()));
        roles.iter().any(open)
    }

    /// Whether the certificate with this serial number is revoked.
    #[must_use]
    pub fn is_revoked(&self, serial: &str) -> bool {
        // DER puts a zero byte before a number whose first bit is set; it is the same number.
        self.revoked.contains(serial.trim_start_matches('0'))
    }
}
