// SPDX-License-Identifier: Apache-2.0
//! Who the node is, and whom it obeys.

use crate::pem::{Certificates, PrivateKey};
use crate::record::{Check, record};

record! {
    /// Who the node is, and whom it obeys. Required: without it a machine waits in maintenance mode.
    ///
    /// `ctl gen config` makes all three.
    pub struct Identity as "Identity" {
        /// The certificate of the operator's authority; several while one replaces another. Whoever has a client
        /// certificate of it may speak to the node. Its key never comes to a node.
        ca: Certificates<8>,
        /// The node's own intermediate certificate, signed by `ca`. With it the node makes the certificates that it
        /// serves, and nothing else.
        certificate: Certificates<1>,
        /// The private key of `certificate`, as PKCS#8. It is redacted wherever the configuration is shown to anyone
        /// below `os:admin`.
        key: PrivateKey,
    }
}

impl Check for Identity {}

impl Identity {
    /// The certificates of the operator's authority, as PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        self.ca.as_str()
    }

    /// The node's own intermediate certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        self.certificate.as_str()
    }

    /// The private key of the certificate, as PEM (PKCS#8).
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_str()
    }
}
