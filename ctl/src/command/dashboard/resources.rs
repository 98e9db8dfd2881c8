// SPDX-License-Identifier: Apache-2.0
//! The view of all resources, a kind at a time.

use super::page::{Page, table};
use crate::client::Session;
use anyhow::Result;
use stele_proto::v1::ListKindsRequest;

pub(super) async fn page(session: &Session, choice: usize) -> Result<Page> {
    let tried = "Listing the kinds";
    let kinds = session.answer(tried, session.resources().list_kinds(ListKindsRequest {})).await?;
    let choices: Vec<String> = kinds.kinds.into_iter().map(|kind| kind.name).collect();
    let parts = match choices.get(choice) {
        Some(kind) => table(session, kind).await?.into_iter().collect(),
        None => Vec::new(),
    };
    Ok(Page { choices, parts, at_end: false })
}
