// SPDX-License-Identifier: Apache-2.0
//! When a service starts, is ready, waits, and is given up.
//!
//! ```text
//!            Start                 Spawned                  Ready (or no readiness protocol)
//!   Stopped ───────► Starting ────────────────► Starting ────────────────────────────────► Running
//!      ▲                ▲  │ SpawnFailed / Exited / start deadline passed                      │ Exited
//!      │                │  ▼                                                                   ▼
//!      │                └─ Waiting (backoff: 250 ms, doubled up to 60 s) ◄─────────────────────┘
//!      │ Exited
//!   Stopping ◄── Stop from any state with a process: SIGTERM, after 10 s SIGKILL
//! ```
//!
//! A service that needs a clock that is right is Held from Start to ClockRight. That is no failure of its own.
//!
//! A service that ran for a minute has recovered: its next failure waits the shortest time again. Time is a number of
//! milliseconds that only goes forward; the machine has no other clock.

use serde::Serialize;

/// Milliseconds since boot.
pub type Millis = u64;

/// Why nothing is done yet that needs a clock that is right.
pub const AWAITS_CLOCK: &str = "waiting for the clock to be right";
/// The first wait after a failure.
pub const BACKOFF_FIRST: Millis = 250;
/// The longest.
pub const BACKOFF_LONGEST: Millis = 60_000;
/// Running this long forgets earlier failures.
pub const RECOVERED_AFTER: Millis = 60_000;
/// How long a service may take to say that it is ready.
pub const START_DEADLINE: Millis = 60_000;
/// How long a service may take to end after SIGTERM.
pub const STOP_DEADLINE: Millis = 10_000;

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not wanted.
    Stopped,
    /// Started, and not ready yet.
    Starting,
    /// Up.
    Running,
    /// Wanted, and not started yet: the clock was never right.
    Held,
    /// Failed, and waiting for its next start.
    Waiting,
    /// Asked to end.
    Stopping,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is wanted.
    Start,
    /// It is not wanted any more.
    Stop,
    /// Its process exists.
    Spawned,
    /// Its process could not be made, for this reason.
    SpawnFailed(String),
    /// It said that it is ready.
    Ready,
    /// Its process ended, in this way.
    Exited(String),
    /// The deadline that was set has passed.
    Deadline,
    /// The clock is right, for the first time since boot.
    ClockRight,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make its process.
    Spawn,
    /// Send SIGTERM.
    Terminate,
    /// Send SIGKILL to all of it.
    Kill,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Whether the service says when it is ready.
    notifies: bool,
    /// Whether it must not start yet, because the clock was never right.
    awaits_clock: bool,
    state: State,
    /// When this state began.
    since: Millis,
    /// When to be told of [`Event::Deadline`].
    deadline: Option<Millis>,
    /// Whether a process exists.
    alive: bool,
    /// Whether it is wanted again while it still stops.
    wanted: bool,
    /// How often it was started again since boot.
    restarts: u64,
    /// Failures in a row.
    failures: u32,
    /// Why it is in this state.
    reason: String,
}

impl Service {
    /// A service that is stopped.
    #[must_use]
    pub fn new(notifies: bool) -> Service {
        Service {
            notifies,
            awaits_clock: false,
            state: State::Stopped,
            since: 0,
            deadline: None,
            alive: false,
            wanted: false,
            restarts: 0,
            failures: 0,
            reason: String::new(),
        }
    }

    /// The same, that does not start before [`Event::ClockRight`].
    #[must_use]
    pub fn after_clock(self) -> Service {
        Service { awaits_clock: true, ..self }
    }

    /// Whether it must not start yet, because the clock was never right.
    #[must_use]
    pub fn awaits_clock(&self) -> bool {
        self.awaits_clock
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When it began to.
    #[must_use]
    pub fn since(&self) -> Millis {
        self.since
    }

    /// When to tell it [`Event::Deadline`].
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.deadline
    }

    /// How often it was started again since boot.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Why it is in this state; empty where nothing is to be said.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Takes an event, and says what to do.
    pub fn step(&mut self, event: Event, now: Millis) -> Option<Effect> {
        match (self.state, event) {
            (State::Held, Event::ClockRight) => {
                self.awaits_clock = false;
                self.spawn(now)
            }
            (_, Event::ClockRight) => {
                self.awaits_clock = false;
                None
            }
            (State::Stopped, Event::Start) if self.awaits_clock => {
                let reason = AWAITS_CLOCK.to_owned();
                self.enter(State::Held, now, None, reason);
                None
            }
            (State::Stopped, Event::Start) => self.spawn(now),
            (State::Waiting, Event::Start | Event::Deadline) => {
                self.wanted = true;
                self.restarts = self.restarts.saturating_add(1);
                self.spawn(now)
            }
            (State::Stopping, Event::Start) => {
                self.wanted = true;
                None
            }
            (State::Starting, Event::Spawned) => {
                self.alive = true;
                if self.notifies {
                    self.deadline = Some(now.saturating_add(START_DEADLINE));
                } else {
                    self.enter(State::Running, now, None, String::new());
                }
                None
            }
            (State::Starting, Event::Ready) => {
                self.enter(State::Running, now, None, String::new());
                None
            }
            (State::Starting, Event::SpawnFailed(reason)) => {
                self.fail(now, reason);
                None
            }
            (State::Starting, Event::Deadline) if self.alive => {
                self.reason = format!("not ready within {} s", START_DEADLINE / 1000);
                self.deadline = None;
                Some(Effect::Kill)
            }
            (State::Starting | State::Running, Event::Exited(reason)) => {
                self.alive = false;
                if self.state == State::Running && now.saturating_sub(self.since) >= RECOVERED_AFTER
                {
                    self.failures = 0;
                }
                let told = std::mem::take(&mut self.reason);
                self.fail(now, if told.is_empty() { reason } else { format!("{told}; {reason}") });
                None
            }
            (State::Starting | State::Running, Event::Stop) => {
                self.wanted = false;
                self.enter(State::Stopping, now, Some(STOP_DEADLINE), String::new());
                Some(Effect::Terminate)
            }
            (State::Held | State::Waiting, Event::Stop) => {
                self.wanted = false;
                self.enter(State::Stopped, now, None, String::new());
                None
            }
            (State::Stopping, Event::Stop) => {
                self.wanted = false;
                None
            }
            (State::Stopping, Event::Deadline) => {
                self.reason =
                    format!("did not end within {} s of SIGTERM; killed", STOP_DEADLINE / 1000);
                self.deadline = None;
                Some(Effect::Kill)
            }
            (State::Stopping, Event::Exited(_) | Event::SpawnFailed(_)) => {
                self.alive = false;
                self.enter(State::Stopped, now, None, String::new());
                if self.wanted { self.spawn(now) } else { None }
            }
            (State::Stopping, Event::Spawned) => {
                // It was stopped between the wish for a process and the process.
                self.alive = true;
                Some(Effect::Terminate)
            }
            (
                State::Stopped,
                Event::Stop | Event::Spawned | Event::SpawnFailed(_) | Event::Exited(_),
            )
            | (State::Waiting, Event::Spawned | Event::SpawnFailed(_) | Event::Exited(_))
            | (
                State::Held,
                Event::Start | Event::Spawned | Event::SpawnFailed(_) | Event::Exited(_),
            )
            | (State::Starting | State::Running, Event::Start)
            | (State::Running, Event::Spawned | Event::SpawnFailed(_))
            | (_, Event::Ready | Event::Deadline) => None,
        }
    }

    fn spawn(&mut self, now: Millis) -> Option<Effect> {
        self.wanted = true;
        self.enter(State::Starting, now, None, String::new());
        Some(Effect::Spawn)
    }

    fn fail(&mut self, now: Millis, reason: String) {
        let wait = backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.enter(State::Waiting, now, Some(wait), reason);
    }

    fn enter(&mut self, state: State, now: Millis, deadline: Option<Millis>, reason: String) {
        self.state = state;
        self.since = now;
        self.deadline = deadline.map(|wait| now.saturating_add(wait));
        self.reason = reason;
    }
}

/// The wait after this many failures in a row before this one.
fn backoff(failures: u32) -> Millis {
    BACKOFF_FIRST
        .saturating_mul(1_u64.checked_shl(failures).unwrap_or(u64::MAX))
        .min(BACKOFF_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exited() -> Event {
        Event::Exited("exited with code 1".to_owned())
    }

    #[test]
    fn a_service_becomes_ready() {
        let mut service = Service::new(true);
        assert_eq!(service.step(Event::Start, 0), Some(Effect::Spawn));
        assert_eq!(service.step(Event::Spawned, 1), None);
        assert_eq!(service.state(), State::Starting);
        assert_eq!(service.step(Event::Ready, 5), None);
        assert_eq!(
            (service.state(), service.since(), service.deadline()),
            (State::Running, 5, None)
        );
    }

    #[test]
    fn a_crash_loop_backs_off_to_a_minute() {
        let mut service = Service::new(false);
        let mut now = 0;
        let mut waits = Vec::new();
        assert_eq!(service.step(Event::Start, now), Some(Effect::Spawn));
        for _ in 0..10 {
            service.step(Event::Spawned, now);
            service.step(exited(), now);
            assert_eq!(service.state(), State::Waiting);
            let deadline = service.deadline().unwrap();
            waits.push(deadline - now);
            now = deadline;
            assert_eq!(service.step(Event::Deadline, now), Some(Effect::Spawn));
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(service.restarts(), 10);
    }

    #[test]
    fn a_minute_of_running_forgets_failures() {
        let mut service = Service::new(false);
        service.step(Event::Start, 0);
        for _ in 0..5 {
            service.step(Event::Spawned, 0);
            service.step(exited(), 0);
            service.step(Event::Deadline, 0);
        }
        service.step(Event::Spawned, 0);
        service.step(exited(), RECOVERED_AFTER);
        assert_eq!(service.deadline(), Some(RECOVERED_AFTER + BACKOFF_FIRST));
    }

    #[test]
    fn a_service_that_will_not_end_is_killed() {
        let mut service = Service::new(false);
        service.step(Event::Start, 0);
        service.step(Event::Spawned, 0);
        assert_eq!(service.step(Event::Stop, 10), Some(Effect::Terminate));
        assert_eq!(service.step(Event::Deadline, 10 + STOP_DEADLINE), Some(Effect::Kill));
        assert_eq!(service.step(exited(), 20 + STOP_DEADLINE), None);
        assert_eq!(service.state(), State::Stopped);
    }

    #[test]
    fn a_start_while_stopping_starts_it_again() {
        let mut service = Service::new(false);
        service.step(Event::Start, 0);
        service.step(Event::Spawned, 0);
        service.step(Event::Stop, 1);
        assert_eq!(service.step(Event::Start, 2), None);
        assert_eq!(service.step(exited(), 3), Some(Effect::Spawn));
    }

    #[test]
    fn a_service_that_is_never_ready_is_killed_and_says_why() {
        let mut service = Service::new(true);
        service.step(Event::Start, 0);
        service.step(Event::Spawned, 0);
        assert_eq!(service.step(Event::Deadline, START_DEADLINE), Some(Effect::Kill));
        service.step(Event::Exited("killed by SIGKILL".to_owned()), START_DEADLINE);
        assert_eq!(service.reason(), "not ready within 60 s; killed by SIGKILL");
    }

    #[test]
    fn a_service_that_needs_the_clock_waits_for_it() {
        let mut service = Service::new(false).after_clock();
        assert_eq!(service.step(Event::Start, 5), None);
        assert_eq!(service.step(Event::Start, 6), None);
        assert_eq!((service.state(), service.since(), service.deadline()), (State::Held, 5, None));
        assert_eq!(service.reason(), "waiting for the clock to be right");
        assert_eq!(service.step(Event::Stop, 7), None);
        assert_eq!(service.state(), State::Stopped);
        service.step(Event::Start, 8);
        assert_eq!(service.step(Event::ClockRight, 9), Some(Effect::Spawn));
        assert_eq!((service.restarts(), service.reason()), (0, ""));
        service.step(Event::Spawned, 9);
        // Once is enough.
        service.step(exited(), 10);
        let next = service.deadline().unwrap();
        assert_eq!(service.step(Event::Deadline, next), Some(Effect::Spawn));
    }

    #[test]
    fn a_clock_that_was_right_before_is_not_waited_for() {
        let mut service = Service::new(false).after_clock();
        assert_eq!(service.step(Event::ClockRight, 1), None);
        assert_eq!(service.step(Event::Start, 2), Some(Effect::Spawn));
    }

    proptest! {
        /// Against a world that answers effects truthfully: never two processes, and a stop always ends in no process.
        #[test]
        fn never_two_processes(choices in prop::collection::vec(0_u8..6, 0..200), notifies: bool, clock: bool) {
            let service = Service::new(notifies);
            let mut service = if clock { service.after_clock() } else { service };
            let mut process = false;
            let mut now = 0;
            for choice in choices {
                now += 100;
                let event = match choice {
                    0 => Event::Start,
                    1 => Event::Stop,
                    2 if process => Event::Ready,
                    3 if process => { process = false; exited() }
                    4 if service.deadline().is_some() => { now = now.max(service.deadline().unwrap()); Event::Deadline }
                    5 => Event::ClockRight,
                    _ => continue,
                };
                let mut effect = service.step(event, now);
                while effect == Some(Effect::Spawn) {
                    prop_assert!(!process, "a second process");
                    process = true;
                    effect = service.step(Event::Spawned, now);
                }
                prop_assert_eq!(matches!(service.state(), State::Stopped | State::Held | State::Waiting), !process);
            }
            service.step(Event::Stop, now);
            if process { service.step(exited(), now); }
            prop_assert_eq!(service.state(), State::Stopped);
        }
    }
}
