// SPDX-License-Identifier: Apache-2.0
//! What a view shows: lines and tables, with how good or bad each is.

use crate::{
    client::Session,
    command::get::{self, table::Columns},
    failure::Failure,
    output::plain,
};
use anyhow::Result;
use tonic::Code;

/// How good or bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Plain,
    /// On its way, or odd.
    Odd,
    /// Wrong.
    Bad,
}

/// A page, from top to bottom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// What can be chosen in this view.
    pub(super) choices: Vec<String>,
    /// Its parts.
    pub(super) parts: Vec<Part>,
    /// True to show the end of it, rather than the beginning.
    pub(super) at_end: bool,
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its title.
    pub(super) title: String,
    /// The headings of its columns; none for lines.
    pub(super) header: Vec<String>,
    /// Its rows; a line is a row of one cell.
    pub(super) rows: Vec<(Tone, Vec<String>)>,
}

impl Part {
    /// Lines of text.
    pub(super) fn lines(title: &str, lines: impl IntoIterator<Item = (Tone, String)>) -> Part {
        let row = |(tone, line): (Tone, String)| (tone, vec![plain(&line).into_owned()]);
        Part {
            title: title.to_owned(),
            header: Vec::new(),
            rows: lines.into_iter().map(row).collect(),
        }
    }
}

/// How good or bad a state is.
fn tone(state: &str) -> Tone {
    match state {
        "failed" | "failing" | "conflict" | "absent" | "starving" | "bad" | "lost" => Tone::Bad,
        "waiting" | "held" | "pending" | "starting" | "stopping" | "down" | "no-carrier"
        | "staying" => Tone::Odd,
        _ => Tone::Plain,
    }
}

/// True if the node does not know what it was asked for, rather than being gone.
pub(super) fn is_unknown(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Failure>() {
        Some(failure) => matches!(failure.code, Some(Code::NotFound | Code::Unimplemented)),
        None => true,
    }
}

/// All resources of a kind as a table; nothing of a kind that the node does not know.
pub(super) async fn table(session: &Session, kind: &str) -> Result<Option<Part>> {
    let listed = get::list(session, kind, String::new()).await;
    let (kind, resources) = match listed {
        Ok(listed) => listed,
        Err(error) if is_unknown(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let columns = Columns { kind: &kind, many: false, wide: false };
    let header = columns.header();
    let state = header.iter().position(|heading| heading == "STATE");
    let row = |resource| {
        let cells: Vec<String> = columns.row(resource, "");
        let tone = state.and_then(|index| cells.get(index)).map_or(Tone::Plain, |cell| tone(cell));
        (tone, cells.iter().map(|cell| plain(cell).into_owned()).collect())
    };
    let rows = resources.iter().map(row).collect();
    Ok(Some(Part { title: kind.name.clone(), header, rows }))
}

/// The tables of several kinds.
pub(super) async fn tables(session: &Session, kinds: &[&str]) -> Result<Page> {
    let mut parts = Vec::new();
    for kind in kinds {
        parts.extend(table(session, kind).await?);
    }
    Ok(Page { parts, ..Page::default() })
}
