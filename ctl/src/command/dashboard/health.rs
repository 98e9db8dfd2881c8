// SPDX-License-Identifier: Apache-2.0
//! The first view: how the node is, what of it fails, and what happened last.

use super::page::{Page, Part, Tone, is_unknown, tables};
use crate::{
    client::Session,
    command::{events, status},
};
use anyhow::Result;
use stele_proto::v1::EventsRequest;

/// Events that are shown.
const EVENTS: u32 = 10;

pub(super) async fn page(session: &Session) -> Result<Page> {
    let text = status::text(session).await?;
    let lines = text.lines().map(|line| (Tone::Plain, line.to_owned()));
    let mut page = tables(session, &["HealthCheck", "Memory", "Volume"]).await?;
    page.parts.insert(0, Part::lines("Node", lines));
    let mut happened = Vec::new();
    let request = EventsRequest { tail: EVENTS, ..EventsRequest::default() };
    let read = events::each(session, request, session.patience(), |events| {
        happened.extend(events.iter().map(|event| {
            let tone = match events::severity(event) {
                "error" => Tone::Bad,
                "warning" => Tone::Odd,
                _ => Tone::Plain,
            };
            (tone, events::line(event, crate::output::Paint::new(false)))
        }));
        Ok(())
    })
    .await;
    // A node of an older version has none.
    if !matches!(read, Err(ref error) if is_unknown(error)) {
        read?;
    }
    page.parts.push(Part::lines("Events", happened));
    Ok(page)
}
