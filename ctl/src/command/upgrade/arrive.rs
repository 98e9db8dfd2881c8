// SPDX-License-Identifier: Apache-2.0
//! Following a node through its reboot: into the new image, through its health gate, or back.
//!
//! ```text
//! another boot id ─► the wanted slot runs ─► on trial: each check turns green ─► permanent
//!                     │                        └► the gate fails, or the boot ends ─► another try, or
//!                     └► another slot runs: it went back; once that has proved itself, why
//! ```

use super::{Report, WaitArgs, bar::Bars};
use crate::{
    app::Targets,
    client::Session,
    command::{boots, follow, follow::Wait, slots},
    failure::Failure,
    node::Node,
    output::plain,
    resources::{Thing, list_known},
    span,
};
use anyhow::{Context as _, Result, bail};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    time::{Duration, Instant},
};
use stele_proto::v1::{Mode, StatusResponse, VersionResponse};

/// What a node ran before.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) version: VersionResponse,
    pub(super) slot: String,
}

impl Leaving {
    /// Asks a node what it runs now.
    pub(super) async fn ask(session: &Session) -> Result<Leaving, Failure> {
        let version = follow::version(session).await?;
        let status = follow::slots(session).await?;
        let slot = status.slots.into_iter().find(|slot| slot.running);
        Ok(Leaving { version, slot: slot.map(|slot| slot.id).unwrap_or_default() })
    }
}

/// An image on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    slot: String,
    version: String,
    state: String,
    running: bool,
}

/// What one look at a node saw.
#[derive(Clone, Debug)]
struct Sight {
    version: VersionResponse,
    images: Vec<Image>,
    gate: Option<Thing>,
    checks: Vec<Thing>,
    /// Newest first.
    boots: Vec<Thing>,
}

async fn look(session: &Session, version: VersionResponse) -> Result<Sight, Failure> {
    let mut images: Vec<Image> =
        list_known(session, "Slot").await?.iter().map(from_resource).collect();
    if images.iter().all(|image| !image.running) {
        images = from_status(&follow::slots(session).await?);
    }
    let mut boots = list_known(session, "Boot").await?;
    boots.sort_by_key(|boot| std::cmp::Reverse(boot.count()));
    let gate = list_known(session, "Gate").await?.pop();
    let checks = list_known(session, "HealthCheck").await?;
    Ok(Sight { version, images, gate, checks, boots })
}

fn from_resource(slot: &Thing) -> Image {
    Image {
        slot: slot.name.clone(),
        version: slot.text("version").to_owned(),
        state: slot.text("state").to_owned(),
        running: slot.status.get("running") == Some(&true.into()),
    }
}

fn from_status(status: &StatusResponse) -> Vec<Image> {
    let image = |slot: &stele_proto::v1::Slot| Image {
        slot: slot.id.clone(),
        version: slot.version.clone(),
        state: slots::state(slot).to_owned(),
        running: slot.running,
    };
    status.slots.iter().map(image).collect()
}

/// Something to be told on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// That stays to be read.
    Note(String),
    /// The same, as far as there is room for it.
    Step(String),
    /// What the node does now; and for how long it may go on.
    Now(String, String),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Arrival {
    Good(Image),
    WentBack(String),
}

/// What was seen of the way so far.
#[derive(Debug)]
struct Way {
    leaving: Leaving,
    /// The slot that is wanted; any other than the one that is left, if the node has not said which.
    slot: String,
    /// The boot that is being watched.
    boot_id: String,
    passing: BTreeSet<String>,
    /// The newest boot whose end was told.
    told: u64,
    /// How long the node was up at least, and when that was.
    up: Option<(f64, Instant)>,
}

impl Way {
    fn new(leaving: Leaving, slot: &str) -> Way {
        Way {
            slot: slot.to_owned(),
            boot_id: leaving.version.boot_id.clone(),
            passing: BTreeSet::new(),
            told: leaving.version.boot,
            up: None,
            leaving,
        }
    }

    fn is_wanted(&self, image: &Image) -> bool {
        if self.slot.is_empty() { image.slot != self.leaving.slot } else { image.slot == self.slot }
    }

    /// Takes in what was seen; says when the way has ended.
    fn step(&mut self, sight: &Sight, now: Instant, say: &mut impl FnMut(Word)) -> Option<Arrival> {
        if sight.version.boot_id != self.boot_id {
            self.boot_id.clone_from(&sight.version.boot_id);
            self.passing.clear();
            self.up = None;
        }
        let running = sight.images.iter().find(|image| image.running)?;
        let wanted = self.is_wanted(running);
        self.tell_ends(sight, say);
        let gate = sight.gate.as_ref().map_or("", |gate| gate.text("state"));
        if sight.version.mode() == Mode::Safe {
            return Some(Arrival::WentBack(self.safe(sight)));
        }
        if wanted && running.state == "good" && gate != "pending" {
            self.tell_checks(sight, say);
            return Some(Arrival::Good(running.clone()));
        }
        if !wanted && gate != "pending" && gate != "failed" {
            return Some(Arrival::WentBack(self.why(sight, running)));
        }
        self.tell_checks(sight, say);
        self.tell_gate(sight, running, wanted, now, say);
        None
    }

    /// The boots of the wanted image that have ended meanwhile, each once.
    fn tell_ends(&mut self, sight: &Sight, say: &mut impl FnMut(Word)) {
        for boot in sight.boots.iter().rev() {
            if boot.count() <= self.told || boot.text("ended").is_empty() {
                continue;
            }
            self.told = boot.count();
            let failed = boot.text("health") == "failed"
                || !matches!(boot.text("ended"), "reboot" | "power off");
            say(Word::Note(format!(
                "boot {} of {} ({}) {}: {}",
                boot.name,
                boot.text("image"),
                boot.text("started"),
                if failed { "failed" } else { "ended" },
                boot.text("cause"),
            )));
        }
    }

    /// The checks that have turned green, or red again.
    fn tell_checks(&mut self, sight: &Sight, say: &mut impl FnMut(Word)) {
        for check in &sight.checks {
            let passes = check.text("state") == "passing";
            if passes && self.passing.insert(check.name.clone()) {
                say(Word::Step(format!("{} passes", check.name)));
            } else if !passes && self.passing.remove(&check.name) {
                say(Word::Note(format!("{} fails again: {}", check.name, check.text("reason"))));
            }
        }
    }

    fn tell_gate(
        &mut self,
        sight: &Sight,
        running: &Image,
        wanted: bool,
        now: Instant,
        say: &mut impl FnMut(Word),
    ) {
        let Some(gate) = &sight.gate else {
            return say(Word::Now(
                format!("runs {}, which is {}", running.version, running.state),
                String::new(),
            ));
        };
        let role = if wanted { "on trial" } else { "back, and has to prove itself" };
        match gate.text("state") {
            "pending" => {
                let (passing, all) = required(sight);
                let text = format!(
                    "{} is {role}: {passing} of {all} required checks pass, {}",
                    running.version,
                    gate.text("reason"),
                );
                let left = self.left(sight, gate, now);
                say(Word::Now(
                    text,
                    left.map_or_else(String::new, |left| {
                        format!("; {} left", span::format_duration(left))
                    }),
                ));
            }
            "failed" => say(Word::Now(
                format!("{} failed its health gate: {}", running.version, gate.text("reason")),
                String::new(),
            )),
            _ => say(Word::Now(
                format!("runs {}, which is {}", running.version, running.state),
                String::new(),
            )),
        }
    }

    /// How long the gate stays open. What the node's clock says is not needed: its checks tell how long it is up at least.
    fn left(&mut self, sight: &Sight, gate: &Thing, now: Instant) -> Option<Duration> {
        let deadline = gate.number("deadline")?;
        let newest = sight.checks.iter().filter_map(|check| check.number("since"));
        let newest = newest.fold(0.0, f64::max);
        let known = self.up.map_or(0.0, |(up, then)| up + (now - then).as_secs_f64());
        let up = known.max(newest);
        self.up = Some((up, now));
        Duration::try_from_secs_f64((deadline - up).max(0.0)).ok()
    }

    /// Why the node is not where it should be, as far as its records say.
    fn why(&self, sight: &Sight, running: &Image) -> String {
        let name = if self.slot.is_empty() { "another image" } else { &self.slot };
        let tried = sight.images.iter().find(|image| image.slot == self.slot);
        let fate = tried.map_or_else(String::new, |tried| format!(", which is {}", tried.state));
        let version = &running.version;
        match self.last_failure(sight) {
            Some(boot) => {
                format!(
                    "The node went back: it runs {version}, because {} failed: {}\n  {}",
                    boot.text("image"),
                    boot.text("cause"),
                    hints(boot),
                )
            }
            None => format!(
                "The node went back: it runs {version}, and not {name}{fate}\n  \
                 ctl logs kernel --boot -1 shows how the boot before ended, and ctl slots what there is"
            ),
        }
    }

    fn safe(&self, sight: &Sight) -> String {
        let hints =
            self.last_failure(sight).map_or_else(String::new, |boot| format!("; {}", hints(boot)));
        format!(
            "The node is in SAFE MODE, and waits for a person: {}\n  ctl status says what can be done{hints}",
            sight.version.reason
        )
    }

    /// The newest boot since then that ended, of an image other than the one that was left.
    fn last_failure<'s>(&self, sight: &'s Sight) -> Option<&'s Thing> {
        sight.boots.iter().find(|boot| {
            boot.count() > self.leaving.version.boot
                && !boot.text("ended").is_empty()
                && boot.text("image") != self.leaving.version.version
        })
    }
}

/// Where more is to be read of a boot.
fn hints(boot: &Thing) -> String {
    let checks = format!("ctl boots {} shows all that is known of it", boot.name);
    match boots::evidence(boot) {
        Some(command) => format!("{checks}, {command} what it left behind"),
        None => checks,
    }
}

/// How many of the checks that count pass, and how many there are.
fn required(sight: &Sight) -> (usize, usize) {
    let counted: Vec<&Thing> =
        sight.checks.iter().filter(|check| check.text("need") == "required").collect();
    (counted.iter().filter(|check| check.text("state") == "passing").count(), counted.len())
}

/// Follows a node into a slot (any other than the one it leaves, if the node has not said which), until that is good or
/// the node is back where it was.
pub(super) async fn arrive(
    targets: &Targets,
    node: &Node,
    bars: &Bars,
    wait: &WaitArgs,
    leaving: Leaving,
    slot: &str,
) -> Result<Report> {
    let deadline = Wait::new(targets, node, wait.wait_timeout);
    let name = if slot.is_empty() { "another image" } else { slot };
    let wanted = format!("{name} was not found good");
    let before = leaving.version.version.clone();
    let old = leaving.version.boot_id.clone();
    let way = RefCell::new(Way::new(leaving, slot));
    let arrival = deadline.until(&wanted, async |session| {
        let version = follow::version(&session).await?;
        if version.boot_id == old || version.mode() == Mode::Stopping {
            return Ok(None);
        }
        let sight = look(&session, version).await?;
        Ok(way.borrow_mut().step(&sight, Instant::now(), &mut |word| match word {
            Word::Note(text) => bars.note(node, &plain(&text)),
            Word::Step(text) => bars.step(node, &plain(&text)),
            Word::Now(text, left) => bars.say_for(node, &plain(&text), &left),
        }))
    });
    match arrival.await.with_context(|| format!("Following the node into {name}"))? {
        Arrival::Good(image) => {
            let said = format!("runs {} (was {before}); {} is good", image.version, image.slot);
            Ok(Report { said, before, after: Some(image.version), slot: image.slot })
        }
        Arrival::WentBack(why) => bail!("{}", crate::output::plain_lines(&why)),
    }
}

#[cfg(test)]
mod tests;
