// SPDX-License-Identifier: Apache-2.0
//! The network task: from the configuration and leases to links, addresses, routes and names.

use crate::node::Node;
use std::rc::Rc;

/// Starts to care for the network.
pub(crate) fn start(_node: &Rc<Node>) {}
