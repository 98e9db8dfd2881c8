// SPDX-License-Identifier: Apache-2.0
//! The view of the network: links, and what they have been given.

use super::page::{Page, tables};
use crate::client::Session;
use anyhow::Result;

pub(super) async fn page(session: &Session) -> Result<Page> {
    tables(session, &["Link", "Address", "Route", "Lease", "Resolver"]).await
}
