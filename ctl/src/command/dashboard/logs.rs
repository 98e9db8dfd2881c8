// SPDX-License-Identifier: Apache-2.0
//! The view of the logs of the running boot, the end of one at a time.

use super::page::{Page, Part, Tone};
use crate::{client::Session, command::logs};
use anyhow::Result;
use stele_proto::v1::{ListLogsRequest, LogRequest};

/// Lines that are fetched.
const LINES: u32 = 200;

pub(super) async fn page(session: &Session, choice: usize) -> Result<Page> {
    let tried = "Listing the logs";
    let logs = session.answer(tried, session.logs().list_logs(ListLogsRequest {})).await?.logs;
    let choices: Vec<String> =
        logs.into_iter().filter(|log| log.boot == 0).map(|log| log.name).collect();
    let Some(name) = choices.get(choice) else { return Ok(Page { choices, ..Page::default() }) };
    let request = LogRequest { name: name.clone(), tail: LINES, ..LogRequest::default() };
    let text = logs::read(session, request).await?;
    let text = String::from_utf8_lossy(&text);
    let tone = |line: &str| match line.split_whitespace().nth(1) {
        Some("emerg" | "alert" | "crit" | "err") => Tone::Bad,
        Some("warning") => Tone::Odd,
        Some(_) | None => Tone::Plain,
    };
    let part = Part::lines(name, text.lines().map(|line| (tone(line), line.to_owned())));
    Ok(Page { choices, parts: vec![part], at_end: true })
}
