// SPDX-License-Identifier: Apache-2.0
//! `ctl slots`: the images on a node.

use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    output::{self, Format, Table, plain},
    span,
};
use anyhow::Result;
use serde_json::{Value, json};
use stele_proto::v1::{Slot, SlotState, StatusRequest, StatusResponse};

/// Arguments of `ctl slots`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: FormatArg,
}

/// Shows the slots.
pub(crate) async fn run(app: &App, args: &Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets
        .each(|session| async move {
            Ok(session
                .answer("Asking for the slots", session.upgrade().status(StatusRequest {}))
                .await?)
        })
        .await;
    if args.format.output != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|status| value(&status)),
        });
        return app.print_values(args.format.output, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    let mut table = Table::new(
        many.then_some("NODE")
            .into_iter()
            .chain(["SLOT", "VERSION", "STATE", "RUNNING", "TRIES", "SIZE"]),
    );
    let mut space = String::new();
    for (node, status) in good {
        let name = if many { format!("{}: ", node.name()) } else { String::new() };
        if status.esp_size > 0 {
            let (free, size) =
                (span::format_bytes(status.esp_free), span::format_bytes(status.esp_size));
            space.push_str(&format!("{name}{free} of {size} free for images.\n"));
        }
        if !status.floor.is_empty() {
            let floor = plain(&status.floor);
            space.push_str(&format!(
                "{name}Nothing older than {floor} is taken: it was healthy here.\n"
            ));
        }
        if let Some(scheduled) = &status.scheduled {
            let at = scheduled.at.as_ref().map(span::format_timestamp).unwrap_or_default();
            space.push_str(&format!("{name}Moves to {} at {at}.\n", plain(&scheduled.slot)));
        }
        for slot in status.slots {
            let tries = tries(&slot);
            let running = if slot.running { "yes" } else { "" }.to_owned();
            let size = span::format_bytes(slot.size);
            let state = state(&slot);
            table.row(many.then(|| node.name()).into_iter().chain([
                slot.id,
                slot.version,
                state.to_owned(),
                running,
                tries,
                size,
            ]));
        }
    }
    output::print(&table.render(app.paint))?;
    output::print(&space)?;
    Ok(outcome)
}

/// A slot's state, in a word.
pub(crate) fn state(slot: &Slot) -> &'static str {
    match slot.state() {
        SlotState::Unspecified => "unknown",
        SlotState::Staged => "staged",
        SlotState::Trying => "trying",
        SlotState::Good => "good",
        SlotState::Bad => "bad",
    }
}

fn tries(slot: &Slot) -> String {
    match (slot.tries_left, slot.tries_done) {
        (0, 0) => String::new(),
        (left, done) => format!("{left} left, {done} used"),
    }
}

/// The slots, for programs.
pub(crate) fn value(status: &StatusResponse) -> Value {
    let slot = |slot: &Slot| {
        json!({
            "id": slot.id, "version": slot.version, "state": state(slot), "running": slot.running,
            "triesLeft": slot.tries_left, "triesDone": slot.tries_done, "size": slot.size, "file": slot.file,
        })
    };
    let scheduled = status.scheduled.as_ref().map(|scheduled| {
        let at = scheduled.at.as_ref().map(span::format_timestamp);
        json!({ "slot": scheduled.slot, "at": at })
    });
    json!({
        "slots": status.slots.iter().map(slot).collect::<Vec<_>>(),
        "espFree": status.esp_free, "espSize": status.esp_size,
        "floor": status.floor, "scheduled": scheduled,
    })
}
