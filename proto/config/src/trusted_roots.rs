// SPDX-License-Identifier: Apache-2.0
//! Authorities that the machine believes besides those of the image.

use crate::Name;
use crate::pem::Certificates;
use crate::record::{Check, record};

/// Most documents.
pub(crate) const MAX_ROOTS: usize = 64;

record! {
    /// Authorities that the machine believes besides those of the image, when it fetches images and configurations and when
    /// it checks its health over https. It takes no part in who may speak to the API.
    pub struct TrustedRoots as "TrustedRoots" {
        /// What they are called together.
        name: Name,
        /// Their certificates.
        certificates: Certificates<64>,
    }
}

impl TrustedRoots {
    /// What they are called together.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Their certificates, as PEM.
    #[must_use]
    pub fn certificates(&self) -> &str {
        self.certificates.as_str()
    }
}

impl Check for TrustedRoots {}
