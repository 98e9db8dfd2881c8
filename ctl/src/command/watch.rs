// SPDX-License-Identifier: Apache-2.0
//! `ctl get -w`: what there is, then every change as it happens.
//!
//! A table's rows are held back until every node has sent all it has, so that the columns fit; each later row is
//! written in the same columns.

use super::get::{self, table::Columns};
use crate::{
    app::{App, Outcome, Reach, Targets},
    failure::Failure,
    node::Node,
    output::{self, Table},
    view::View,
};
use anyhow::Result;
use serde_json::json;
use std::convert::Infallible;
use stele_proto::v1::{Change, Kind, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tonic::{Code, Status};

/// What one node's stream says.
enum Event {
    Kind(Kind),
    Response(WatchResponse),
    /// It took too long to read, and begins anew.
    Behind(anyhow::Error),
    Ended(anyhow::Error),
}

/// Follows a kind on all nodes.
pub(crate) async fn run(app: &App, kind: String, name: String, view: &View) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let (sender, receiver) = mpsc::channel(256);
    for (index, node) in targets.nodes.iter().enumerate() {
        let (targets, node, sender) = (targets.clone(), node.clone(), sender.clone());
        let (kind, name) = (kind.clone(), name.clone());
        tokio::spawn(async move {
            let error = follow(&targets, &node, &kind, name, index, &sender).await;
            // The other side is gone when its reader is.
            let _ = sender.send((index, Event::Ended(error))).await;
        });
    }
    drop(sender);
    show(app, &targets, receiver, view).await
}

/// Passes a node's streams on until something is wrong with one. Of one that was too slow a reader, the node lets go; then the next
/// one says again what there is.
async fn follow(
    targets: &Targets,
    node: &Node,
    kind: &str,
    name: String,
    index: usize,
    sender: &mpsc::Sender<(usize, Event)>,
) -> anyhow::Error {
    let tell = async |event| {
        let told = sender.send((index, event)).await;
        told.map_err(|_nobody| anyhow::anyhow!("nobody watches any more"))
    };
    let streams = async {
        let session = targets.connect(node).await?;
        let kind = get::find_kind(&session, kind).await?;
        let tried = format!("Watching {}", kind.name);
        let request = WatchRequest { kind: kind.name.clone(), name };
        tell(Event::Kind(kind)).await?;
        loop {
            let failed = |status: Status| Failure::status(tried.clone(), &status);
            let watch = session.resources().watch(request.clone()).await;
            let mut stream = watch.map_err(failed)?.into_inner();
            let status = loop {
                match stream.message().await {
                    Ok(Some(response)) => tell(Event::Response(response)).await?,
                    Ok(None) => {
                        let ended = "the node ended the stream";
                        return Err(Failure::new(tried, ended, None).into());
                    }
                    Err(status) => break status,
                }
            };
            if status.code() != Code::ResourceExhausted {
                return Err(failed(status).into());
            }
            tell(Event::Behind(failed(status).into())).await?;
        }
    };
    let ended: Result<Infallible> = streams.await;
    match ended {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn show(
    app: &App,
    targets: &Targets,
    mut receiver: mpsc::Receiver<(usize, Event)>,
    view: &View,
) -> Result<Outcome> {
    let mut kind: Option<Kind> = None;
    let mut waiting: Vec<bool> = targets.nodes.iter().map(|_| true).collect();
    let mut held: Vec<Vec<String>> = Vec::new();
    let mut widths: Option<Vec<usize>> = None;
    let mut outcome = Outcome::Done;
    let (many, wide) = (targets.are_many(), view.is_wide());
    while let Some((index, event)) = receiver.recv().await {
        let node = &targets.nodes[index];
        match event {
            Event::Kind(new) => {
                kind.get_or_insert(new);
            }
            Event::Behind(error) => app.complain(Some(node), &error),
            Event::Ended(error) => {
                app.complain(Some(node), &error);
                outcome = Outcome::Failed;
                waiting[index] = false;
            }
            Event::Response(response) if view.is_table() => {
                let change = response.change();
                if change == Change::Synced {
                    waiting[index] = false;
                }
                if let (Some(resource), Some(kind)) = (&response.resource, &kind) {
                    let mut cells = Columns { kind, many, wide }.row(resource, &node.name());
                    cells.push(name(change).to_owned());
                    held.push(cells);
                }
            }
            Event::Response(response) => {
                let resource = response.resource.as_ref().map(get::resource);
                view.print_event(
                    &json!({ "node": node.name(), "change": name(response.change()), "resource": resource }),
                )?;
            }
        }
        let (Some(kind), false) = (&kind, waiting.contains(&true) && widths.is_none()) else {
            continue;
        };
        if view.is_table() && (widths.is_none() || !held.is_empty()) {
            let mut header = Columns { kind, many, wide }.header();
            header.push("CHANGE".to_owned());
            let mut table = Table::new(header);
            held.drain(..).for_each(|cells| table.row(cells));
            match &widths {
                Some(widths) => output::print(&table.render_rows(widths))?,
                None => {
                    output::print(&table.render(app.paint))?;
                    widths = Some(table.widths());
                }
            }
        }
    }
    Ok(outcome)
}

pub(crate) fn name(change: Change) -> &'static str {
    match change {
        Change::Unspecified => "",
        Change::Added => "added",
        Change::Modified => "modified",
        Change::Removed => "removed",
        Change::Synced => "synced",
    }
}
