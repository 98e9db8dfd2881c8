// SPDX-License-Identifier: Apache-2.0
//! Kernel arguments of the configuration: has the boot loader start the running image once more with them, and keeps in
//! `/state/kernel-args.json` that this was tried; what to do is decided in `stele_machine::arguments`.

use crate::{
    boots::Reason,
    configuration::Active,
    node::Node,
    report,
    state::{self, StateError},
    store::Kind,
    upgrade,
};
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_config::{KernelArg, MachineConfig};
use stele_kernel::{efivars, power::End};
use stele_machine::{
    arguments::{self, Attempt, Decision, Now, Running},
    boots::Start,
};

/// What the image says of itself; among it, its command line.
const MANIFEST: &str = "/usr/share/stele/manifest.json";
/// How long preparing the next start may hold up the end of this one.
const AHEAD: Duration = Duration::from_secs(10);

/// The kernel's arguments besides those of the image.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    running: Option<Running>,
    /// The attempt of which nobody knows yet that it came up.
    attempt: RefCell<Option<Attempt>>,
    given_up: RefCell<Option<GivenUp>>,
}

/// Arguments that this start goes on without.
#[derive(Clone, Debug)]
struct GivenUp {
    args: Vec<String>,
    reason: String,
}

/// What `ctl get kernelargs` shows.
#[derive(Serialize)]
struct Status<'a> {
    state: &'static str,
    /// Those that the kernel has.
    args: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    wanted: &'a [String],
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Arguments {
    /// Those that the running kernel was started with.
    pub(crate) fn of_this_kernel() -> Arguments {
        let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Arguments { running: Running::parse(&line), ..Arguments::default() }
    }

    /// The generation for whose arguments this start was made.
    pub(crate) fn started_for(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.generation)
    }

    /// The arguments themselves.
    pub(crate) fn running(&self) -> &[String] {
        self.running.as_ref().map(|running| running.args.as_slice()).unwrap_or_default()
    }

    /// Takes up the attempt that an earlier start has left.
    pub(crate) fn take_up(&self, attempt: Option<Attempt>) {
        self.attempt.replace(attempt);
    }

    /// The attempt that has failed, if this start is the first to see it.
    pub(crate) fn failed(&self) -> Option<Attempt> {
        let attempt = self.attempt.borrow().clone()?;
        let is_this_start = self.started_for() == Some(attempt.generation);
        (attempt.failure.is_empty() && !is_this_start).then_some(attempt)
    }

    /// Why the start with the arguments of this generation did not come up.
    pub(crate) fn failure(&self, generation: u64) -> Option<String> {
        let attempt = self.attempt.borrow();
        let attempt = attempt.as_ref().filter(|attempt| attempt.generation == generation)?;
        let failure = attempt.failure.as_str();
        (!failure.is_empty())
            .then(|| format!("the machine did not come up with its kernel arguments: {failure}"))
    }

    /// Why this start goes on without what its configuration asks for, if it does.
    pub(crate) fn given_up(&self) -> Option<String> {
        let given_up = self.given_up.borrow();
        given_up.as_ref().map(|given_up| format!("KernelArgs: {}", given_up.reason))
    }
}

/// What is behind this beginning of a word of the kernel command line.
pub(crate) fn given(begin: &str) -> Option<String> {
    value(&fs::read_to_string("/proc/cmdline").ok()?, begin)
}

fn value(line: &str, begin: &str) -> Option<String> {
    line.split_whitespace().find_map(|word| word.strip_prefix(begin)).map(str::to_owned)
}

fn file() -> PathBuf {
    Path::new(state::ROOT).join("kernel-args.json")
}

/// Reads the attempt that an earlier start has left. May block.
pub(crate) fn read() -> Option<Attempt> {
    if !file().exists() {
        return None;
    }
    let read = state::read_json(&file());
    read.inspect_err(|error| {
        let error = report::chain(error);
        tracing::error!(error, "kernel arguments were tried, and which is lost");
    })
    .ok()
}

/// Keeps why the last attempt did not come up.
pub(crate) async fn note_failure(node: &Node, failure: String) {
    let Some(attempt) = node.arguments.failed() else { return };
    tracing::error!(attempt.generation, failure, "a start with kernel arguments did not come up");
    let attempt = Attempt { failure, ..attempt };
    node.arguments.attempt.replace(Some(attempt.clone()));
    if let Err(error) = keep_attempt(Some(attempt)).await {
        tracing::error!(error, "keeping why kernel arguments failed failed");
    }
}

async fn keep_attempt(attempt: Option<Attempt>) -> Result<(), String> {
    let work = tokio::task::spawn_blocking(move || match attempt {
        Some(attempt) => state::write_json(&file(), &attempt),
        None => state::remove(&file()).map_err(|source| StateError::Write { file: file(), source }),
    });
    match work.await {
        Ok(kept) => kept.map_err(|error| report::chain(&error)),
        Err(lost) => Err(lost.to_string()),
    }
}

/// What a configuration asks for.
pub(crate) fn words(config: &MachineConfig) -> Vec<String> {
    config.kernel_args().iter().map(KernelArg::to_string).collect()
}

fn now<'a>(node: &'a Node, active: &Active, wanted: &'a [String]) -> Now<'a> {
    Now {
        generation: active.stored.number,
        wanted,
        running: node.arguments.running.as_ref(),
        image: &node.release.version,
        boot: node.state.get().map_or(0, |state| state.boot),
    }
}

/// Why this machine can't be started with arguments.
pub(crate) fn obstacle(persistent: bool) -> Option<&'static str> {
    if !persistent {
        return Some(
            "this machine keeps nothing over a restart, as it has no STATE volume, and so could not go back from them",
        );
    }
    if !upgrade::has_loader() {
        return Some(
            "this machine was not started by its boot loader from an image on its own disk, and nothing else starts it with arguments",
        );
    }
    efivars::secure_boot().then_some(
        "Secure Boot is on, and the firmware then takes no arguments but those that are signed with the image",
    )
}

/// Starts the machine again if its configuration asks for arguments that the kernel has not. Says whether it does.
pub(crate) async fn settle(node: &Rc<Node>) -> bool {
    let Some(active) = node.configuration.active() else { return false };
    let wanted = words(&active.config);
    let decision = {
        let last = node.arguments.attempt.borrow();
        arguments::decide(&now(node, &active, &wanted), last.as_ref())
    };
    let reason = match decision {
        Decision::Stay => return false,
        Decision::GiveUp(reason) => reason,
        Decision::Start(_) if matches!(node.boots.started(), Start::Safe { .. }) => {
            "the machine is in safe mode".to_owned()
        }
        Decision::Start(attempt) => match ask(node, attempt, &wanted, Next::Now).await {
            Ok(()) => {
                let generation = active.stored.number;
                let why = format!("to start with the kernel arguments of generation {generation}");
                tracing::info!(target: report::CONSOLE, "restarting {why}");
                node.end(End::Restart, Reason::again(why));
                return true;
            }
            Err(reason) => reason,
        },
    };
    tracing::error!(reason, "going on without the kernel arguments of the configuration");
    node.arguments.given_up.replace(Some(GivenUp { args: wanted, reason }));
    false
}

/// When the start is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// At once.
    Now,
    /// When the machine restarts, if the loader would take the same image then.
    IfSame,
}

/// Has the boot loader make the next start with these arguments: what is tried is on disk before that.
async fn ask(
    node: &Rc<Node>,
    attempt: Attempt,
    wanted: &[String],
    next: Next,
) -> Result<(), String> {
    let persistent = node.state.get().is_some_and(|state| state.persistent);
    if let Some(obstacle) = obstacle(persistent) {
        return Err(obstacle.to_owned());
    }
    let own = tokio::task::spawn_blocking(own_line).await.map_err(|lost| lost.to_string())??;
    let options = arguments::line(&own, attempt.generation, wanted);
    let before = node.arguments.attempt.borrow().clone();
    keep_attempt(Some(attempt)).await?;
    let asked = match next {
        Next::Now => upgrade::start_once(node, &options).await.map(|()| true),
        Next::IfSame => upgrade::start_once_if_same(node, &options).await,
    };
    if !matches!(asked, Ok(true)) {
        keep_attempt(before).await?;
    }
    asked.map(drop)
}

/// The command line that the image is signed with.
fn own_line() -> Result<String, String> {
    #[derive(Deserialize)]
    struct Manifest {
        cmdline: String,
    }
    let read: Result<Manifest, StateError> = state::read_json(Path::new(MANIFEST));
    read.map(|manifest| manifest.cmdline).map_err(|error| report::chain(&error))
}

/// The machine has come up: what it came up with was no failure.
pub(crate) async fn is_up(node: &Node) {
    let Some(active) = node.configuration.active() else { return };
    let wanted = words(&active.config);
    if !now(node, &active, &wanted).is_so() || node.arguments.attempt.borrow().is_none() {
        return;
    }
    match keep_attempt(None).await {
        Ok(()) => node.arguments.take_up(None),
        Err(error) => tracing::error!(error, "forgetting that kernel arguments were tried failed"),
    }
}

/// The machine restarts: if it would come back as it is, it comes back with its arguments at once.
pub(crate) async fn look_ahead(node: &Rc<Node>) {
    let Some(active) = node.configuration.active() else { return };
    let wanted = words(&active.config);
    let own = node.boots.wanted_generation(node) == Some(active.stored.number);
    let proved = !node.health.is_pending() && !matches!(node.boots.started(), Start::Safe { .. });
    let Some(attempt) = arguments::again(&now(node, &active, &wanted)) else { return };
    if !own || !proved || !node.configuration.is_settled() {
        return;
    }
    match tokio::time::timeout(AHEAD, ask(node, attempt, &wanted, Next::IfSame)).await {
        Ok(Ok(())) => {}
        // The next start does it.
        Ok(Err(error)) => {
            tracing::warn!(error, "the next start begins without its kernel arguments")
        }
        Err(_) => tracing::warn!("preparing the next start takes too long; going on without"),
    }
}

/// Says how they are, for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    loop {
        let active = configuration.borrow_and_update().clone();
        if let Some(active) = active {
            active.cause().carry(async { publish(&node, &active) }).await;
        }
        if configuration.changed().await.is_err() {
            return;
        }
    }
}

fn publish(node: &Node, active: &Active) {
    let wanted = words(&active.config);
    let running = node.arguments.running();
    let given_up = node.arguments.given_up.borrow();
    let given_up = given_up.as_ref().filter(|given_up| given_up.args == wanted);
    let (state, reason) = match given_up {
        _ if now(node, active, &wanted).is_so() => ("active", String::new()),
        Some(given_up) => ("failed", given_up.reason.clone()),
        None if wanted.is_empty() => ("staying", "they go with the next start".to_owned()),
        None => ("waiting", "they come with the next start: ctl reboot".to_owned()),
    };
    let mut statuses = BTreeMap::new();
    if !wanted.is_empty() || !running.is_empty() {
        let wanted = if state == "active" { &[] } else { wanted.as_slice() };
        let status = Status { state, args: running, wanted, reason };
        statuses.insert("kernel".to_owned(), status);
    }
    node.store.replace(Kind::KernelArgs, &statuses);
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn words_have_values() {
        let line = "quiet stele.platform=aws stele.config=http://10.0.2.2/a=b\n";
        assert_eq!(value(line, "stele.platform=").as_deref(), Some("aws"));
        assert_eq!(value(line, "stele.config=").as_deref(), Some("http://10.0.2.2/a=b"));
        assert_eq!(value(line, "platform="), None);
    }
}
