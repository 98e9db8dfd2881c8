// SPDX-License-Identifier: Apache-2.0
//! A configure agent that waits for the next configuration.
//!
//! To start an agent takes several times as long as its work. So when one has been used, another is started, makes itself
//! ready, and waits with its sandbox around it. Each reads one configuration and ends, as before: nothing of one is left for the next.

use crate::{
    node::Node,
    one_shot::{self, Input, Piped},
    report,
};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// Its unit.
pub(super) const UNIT: &str = "configure";
/// Its control group: what ends another does not end it.
const NAME: &str = "configure-spare";
/// The change that was asked for goes first.
const PAUSE: Duration = Duration::from_secs(1);

/// The one that waits, if one does.
#[derive(Debug, Default)]
pub(super) struct Spare(RefCell<Option<Piped>>);

impl Spare {
    /// Takes it, if it is there and alive.
    pub(super) fn take(&self) -> Option<Piped> {
        self.0.take().filter(Piped::is_alive)
    }
}

/// Has one waiting soon.
pub(super) fn provide(node: &Rc<Node>) {
    let node = Rc::clone(node);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(PAUSE).await;
        let mut spare = node.configuration.spare.0.borrow_mut();
        if spare.as_ref().is_some_and(Piped::is_alive) {
            return;
        }
        *spare = None;
        let Some(unit) = node.units.get(UNIT) else { return };
        match one_shot::start_unit(&node, NAME, unit, &["--ahead".to_owned()], Input::Pipe) {
            Ok(piped) => *spare = Some(piped),
            // The next configuration starts its own, and says so if it can't either.
            Err(error) => tracing::debug!(error = report::chain(&error), "no spare agent"),
        }
    });
}
