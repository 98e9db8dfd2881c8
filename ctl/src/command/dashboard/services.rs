// SPDX-License-Identifier: Apache-2.0
//! The view of the services: what runs, since when, and what of it does not.

use super::page::{Page, tables};
use crate::client::Session;
use anyhow::Result;

pub(super) async fn page(session: &Session) -> Result<Page> {
    tables(session, &["Service", "Watchdog"]).await
}
