// SPDX-License-Identifier: Apache-2.0
//! `ctl dashboard`: nodes in a terminal, a view at a time.
//!
//! One task asks the node for what the view on the screen shows, once a second and when another view is chosen; nothing
//! else is asked for. A node that does not answer is told of, and asked again.

mod draw;
mod page;
mod screen;

// The views.
mod health;
mod logs;
mod network;
mod resources;
mod services;

use crate::{
    app::{App, Misuse, Outcome, Reach, Targets},
    client::Session,
    output,
};
use anyhow::{Context as _, Result};
use page::Page;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use screen::{Next, Screen, View, Wanted};
use std::{
    io::{self, IsTerminal as _},
    thread,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

/// Arguments of `ctl dashboard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Between two looks at a node.
const PAUSE: Duration = Duration::from_secs(1);

/// What a look at a node found.
#[derive(Debug)]
struct Seen {
    wanted: Wanted,
    page: Result<Page, String>,
}

/// Shows nodes until the user has seen enough.
pub(crate) async fn run(app: &App, _args: &Args) -> Result<Outcome> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Misuse(
            "ctl dashboard needs a terminal. ctl status says how nodes are, once".to_owned(),
        )
        .into());
    }
    let targets = app.targets(Reach::Look)?;
    let nodes = targets.nodes.iter().map(crate::node::Node::name).collect();
    let mut screen = Screen::new(nodes, app.paint.is_on());
    let (choose, wanted) = watch::channel(screen.wanted());
    let (tell, seen) = mpsc::channel(1);
    tokio::spawn(look(targets, wanted, tell));
    let mut terminal = ratatui::try_init().context("Taking over the terminal")?;
    let result = show(&mut terminal, &mut screen, &choose, seen).await;
    ratatui::restore();
    result.map(|()| Outcome::Done)
}

/// Draws what is seen, and does what keys say.
async fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    choose: &watch::Sender<Wanted>,
    mut seen: mpsc::Receiver<Seen>,
) -> Result<()> {
    let (press, mut events) = mpsc::channel(16);
    // Reading a key blocks; the thread ends with the program.
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if press.blocking_send(event).is_err() {
                break;
            }
        }
    });
    loop {
        terminal.draw(|frame| draw::draw(frame, screen)).context("Drawing")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match screen.press(key) {
                    Next::End => return Ok(()),
                    Next::Stay => {
                        let wanted = screen.wanted();
                        choose.send_if_modified(|now| {
                            let changed = *now != wanted;
                            *now = wanted;
                            changed
                        });
                    }
                },
                Some(_) => {} // another size of the terminal, most likely: it is drawn again
                None => return Ok(()),
            },
            Some(Seen { wanted, page }) = seen.recv() => screen.see(&wanted, page),
        }
    }
}

/// Looks at what is wanted, again and again.
async fn look(targets: Targets, mut wanted: watch::Receiver<Wanted>, tell: mpsc::Sender<Seen>) {
    let mut session: Option<(usize, Session)> = None;
    loop {
        let now = wanted.borrow_and_update().clone();
        let page = page(&targets, &mut session, &now).await;
        let page = page.map_err(|error| output::plain_lines(&format!("{error:#}")));
        if page.is_err() {
            session = None;
        }
        if tell.send(Seen { wanted: now, page }).await.is_err() {
            return;
        }
        // Another view is fetched at once.
        if let Ok(Err(_ended)) = timeout(PAUSE, wanted.changed()).await {
            return;
        }
    }
}

async fn page(
    targets: &Targets,
    session: &mut Option<(usize, Session)>,
    wanted: &Wanted,
) -> Result<Page> {
    let connected = match session.take().filter(|(index, _)| *index == wanted.node) {
        Some((_, connected)) => connected,
        None => {
            let node = targets.nodes.get(wanted.node).context("There is no such node")?;
            targets.connect(node).await?
        }
    };
    let connected = &session.insert((wanted.node, connected)).1;
    match wanted.view {
        View::Health => health::page(connected).await,
        View::Services => services::page(connected).await,
        View::Network => network::page(connected).await,
        View::Resources => resources::page(connected, wanted.choice).await,
        View::Logs => logs::page(connected, wanted.choice).await,
    }
}
