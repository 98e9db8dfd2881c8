// SPDX-License-Identifier: Apache-2.0
//! Which images a machine takes, and how long a new one may take to prove itself.

use crate::list::List;
use crate::node::Node;
use crate::pem::PublicKey;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use std::time::Duration;
use stele_layout::version::Version;

record! {
    /// Which images the machine takes, and how long a new one has to show that it is healthy. Without it, only images
    /// that are signed with a key that the running one carries, and none older than the newest that was healthy here.
    pub struct UpgradePolicy as "UpgradePolicy" {
        /// By when the system itself must be healthy after it has started with a new image: its services, its network, its
        /// API and its volumes. Otherwise the machine goes back to the image before.
        deadline: Span<10, 3600> = "3m",
        /// Images down to this version are taken although a newer one has been healthy here. Without it, none is.
        oldest: Option<Version>,
        /// Public keys for ECDSA on P-256 with which images may be signed, one PEM block each. They count besides those
        /// that the image carries.
        keys: List<PublicKey, 0, 16>,
        /// The keys that the image carries count no more; only `keys` do.
        replace_keys as "replaceKeys": bool,
    }
}

impl UpgradePolicy {
    /// By when the system itself must be healthy after it has started with a new image.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline.duration()
    }

    /// The oldest version that is taken although a newer one has been healthy here.
    #[must_use]
    pub fn oldest(&self) -> Option<&Version> {
        self.oldest.as_ref()
    }

    /// Public keys with which images may be signed, each as PEM.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(PublicKey::as_str)
    }

    /// True if the keys that the image carries count no more.
    #[must_use]
    pub fn replace_keys(&self) -> bool {
        self.replace_keys
    }
}

impl Check for UpgradePolicy {
    fn check(&self, node: &Node, report: &mut Report) {
        if self.replace_keys && self.keys.is_empty() {
            let message = "leaves no key, and so no image that could be taken";
            report.find_at(
                node,
                "replaceKeys",
                message,
                "the keys that replace those of the image",
            );
        }
    }
}
