// SPDX-License-Identifier: Apache-2.0
//! The kernel modules that the network's documents need. The kernel can't ask for them: there is no program that it could start.
//!
//! They are loaded beside the network's task, which goes on meanwhile and is woken when they are there.

use crate::node::Node;
use std::{collections::BTreeSet, rc::Rc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How long the network waits for a module.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was asked for, and what was tried.
pub(super) struct Modules {
    node: Rc<Node>,
    asked: BTreeSet<&'static str>,
    tried: watch::Sender<BTreeSet<&'static str>>,
    news: watch::Receiver<BTreeSet<&'static str>>,
}

impl Modules {
    pub(super) fn new(node: Rc<Node>) -> Modules {
        let (tried, news) = watch::channel(BTreeSet::new());
        Modules { node, asked: BTreeSet::new(), tried, news }
    }

    /// Whether a module was ever asked for.
    pub(super) fn asked(&self, module: &str) -> bool {
        self.asked.contains(module)
    }

    /// Has a module loaded that was not asked for yet. True once that was tried: without it the kernel says why not.
    pub(super) fn ready(&mut self, (module, parameters): (&'static str, &'static str)) -> bool {
        if self.asked.insert(module) {
            let (node, tried) = (Rc::clone(&self.node), self.tried.clone());
            tokio::task::spawn_local(async move {
                if let Some(devices) = node.devices.get() {
                    let loaded = timeout(PATIENCE, devices.load(module, parameters)).await;
                    if loaded.is_err() {
                        tracing::error!(module, "the module is not loaded after {PATIENCE:?}");
                    }
                }
                tried.send_modify(|all| {
                    all.insert(module);
                });
            });
        }
        self.tried.borrow().contains(module)
    }

    /// Waits until another one was tried.
    pub(super) async fn tried(&mut self) {
        // An error would mean that the sender is gone, which lives as long.
        let _changed = self.news.changed().await;
    }
}
