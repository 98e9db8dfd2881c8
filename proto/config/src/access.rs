// SPDX-License-Identifier: Apache-2.0
//! Which client certificates open what.

use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Methods, Name, Serial};

record! {
    /// Which client certificates open what, besides those with one of the roles that every machine knows (`os:reader`,
    /// `os:operator`, `os:admin`). Without it, only those roles are known, and every certificate holds until it expires.
    ///
    /// A change holds at once, for connections that are open too: one whose client may do less than before is closed.
    pub struct ClientAccess as "ClientAccess" {
        /// Roles of one's own. A client has a role if its certificate names it as an organization (`O=`).
        roles: List<ClientRole, 0, 32>,
        /// The serial numbers of certificates that open nothing any more.
        revoked: List<Serial, 0, 1024>,
    }
}

record! {
    /// A role: a name, and what it opens.
    pub struct ClientRole as "ClientRole" {
        /// What it is called.
        name: Name,
        /// Which methods of the API it opens: paths as in the reference of the API, or the beginning of some and `*`. A
        /// method shows what it shows to `os:reader`: no secrets.
        methods: List<Methods, 1, 64>,
    }
}

impl ClientAccess {
    /// Roles of one's own.
    #[must_use]
    pub fn roles(&self) -> &[ClientRole] {
        &self.roles
    }

    /// The serial numbers of certificates that open nothing any more.
    #[must_use]
    pub fn revoked(&self) -> &[Serial] {
        &self.revoked
    }
}

impl ClientRole {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Which methods it opens.
    #[must_use]
    pub fn methods(&self) -> &[Methods] {
        &self.methods
    }

    /// True if it opens the method with this path.
    #[must_use]
    pub fn opens(&self, path: &str) -> bool {
        self.methods.iter().any(|methods| methods.covers(path))
    }
}

impl Check for ClientAccess {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, role) in self.roles.iter().enumerate() {
            if self.roles.iter().take(index).any(|earlier| earlier.name == role.name) {
                let message = format!("there is another role {}", role.name);
                report.find_item(node, ("roles", index), message, "another name for each role");
            }
        }
    }
}

impl Check for ClientRole {}
