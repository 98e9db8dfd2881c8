// SPDX-License-Identifier: Apache-2.0
//! Who reaches the metadata service of the platform.

use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;

record! {
    /// Who reaches the metadata service of the platform that the machine runs on. Without it, only the program of the image
    /// that asks it: what a machine is told there, such as its first configuration and its credentials, is nobody else's.
    pub struct MetadataService as "MetadataService" {
        /// Let every program of the machine reach it, and whatever else is routed by the machine.
        pub open: bool,
    }
}

impl Check for MetadataService {
    fn check(&self, _: &Node, _: &mut Report) {}
}
