// SPDX-License-Identifier: Apache-2.0
//! What someone wants of a configuration, and why it is refused.

use crate::{
    api::{Caller, Code},
    network,
    node::Node,
    report,
    state::StateError,
};
use std::{net::IpAddr, time::Duration};
use stele_config::MachineConfig;
use stele_machine::{
    access::{Client, locks_out},
    change::{Change, Effect},
    network::firewall::admits,
};
use stele_proto::{method::Method, v1};

/// The TCP port of the API.
const API_PORT: u16 = 50_000;

/// How long one may wait to be confirmed.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Who brings it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Author {
    /// A certificate's subject, or the name of a source.
    pub(crate) subject: String,
    /// The certificate's serial number.
    pub(crate) serial: String,
    /// The request, as in the audit log.
    pub(crate) request: String,
    /// The roles of the kind ClientAccess by which the caller may; none for who may by another.
    pub(crate) own_roles: Vec<String>,
    /// Where the caller connects from, where that is known.
    pub(crate) source: Option<IpAddr>,
    /// The address of the machine that the caller has connected to, where that is known.
    pub(crate) reached: Option<IpAddr>,
}

impl Author {
    /// A caller of the API.
    pub(crate) fn of(caller: &Caller) -> Author {
        Author {
            subject: caller.subject.clone(),
            serial: caller.serial.clone(),
            request: caller.request.clone(),
            own_roles: caller.own_roles.clone(),
            source: caller.source,
            reached: caller.reached,
        }
    }
}

/// When it takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Live,
    Staged,
    Reboot,
}

/// What someone wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intent {
    pub(crate) author: Author,
    pub(crate) dry_run: bool,
    /// The generation that it was made from; 0 for any.
    pub(crate) base: u64,
    pub(crate) mode: Mode,
    pub(crate) confirm_within: Option<Duration>,
}

impl Intent {
    /// What a source that was found at the start wants, in place of the generation `base` if there is one.
    pub(crate) fn of_source(name: &str, base: u64) -> Intent {
        let author = Author { subject: name.to_owned(), ..Author::default() };
        Intent { author, base, ..Intent::default() }
    }

    /// The same with a restart of the machine.
    pub(crate) fn with_restart(self) -> Intent {
        Intent { mode: Mode::Reboot, ..self }
    }

    /// What a caller wants.
    pub(crate) fn of_caller(
        caller: &Caller,
        dry_run: bool,
        base: u64,
        mode: v1::ApplyMode,
        confirm_within: Option<prost_types::Duration>,
    ) -> Result<Intent, Refused> {
        let confirm_within = match confirm_within {
            None => None,
            Some(within) => Some(
                Duration::try_from(within)
                    .ok()
                    .filter(|within| (SHORTEST..=LONGEST).contains(within))
                    .ok_or(Refused::Within)?,
            ),
        };
        let mode = match mode {
            v1::ApplyMode::Unspecified | v1::ApplyMode::Live => Mode::Live,
            v1::ApplyMode::Staged => Mode::Staged,
            v1::ApplyMode::Reboot => Mode::Reboot,
        };
        Ok(Intent { author: Author::of(caller), dry_run, base, mode, confirm_within })
    }

    /// Why whoever brings this configuration could bring no other one after it. Once it has to be confirmed, that is no matter:
    /// somebody else confirms it, or the machine goes back.
    pub(super) fn locks_out(&self, config: &MachineConfig) -> Result<(), Refused> {
        if self.confirm_within.is_some() {
            return Ok(());
        }
        let Author { serial, own_roles: own, source, .. } = &self.author;
        // Whoever brings the first configuration may do so on another network than the one that the machine is for, and that
        // configuration can't wait to be confirmed.
        let source = source.filter(|_| !serial.is_empty());
        if config.firewall().is_some_and(|firewall| !admits(firewall, API_PORT, source)) {
            let does = match source {
                Some(source) => format!("does not let {source}"),
                None => "lets nobody".to_owned(),
            };
            let reason = format!("the Firewall {does} connect to the API (TCP port {API_PORT})");
            return Err(Refused::LocksOut { reason });
        }
        if serial.is_empty() {
            return Ok(());
        }
        match locks_out(config, Client { serial, own }, Method::ConfigApply.path()) {
            Some(reason) => Err(Refused::LocksOut { reason }),
            None => Ok(()),
        }
    }

    /// Why whoever brings this configuration would lose the connection by which it came, as the machine would not have the address
    /// any more. That of a first configuration may be on another network than the one that the machine is for.
    pub(super) fn cuts_off(&self, node: &Node, config: &MachineConfig) -> Result<(), Refused> {
        let asked = self.confirm_within.is_none() && !self.author.serial.is_empty();
        let Some(address) = self.author.reached.filter(|_| asked) else { return Ok(()) };
        match network::loses(node, config, address) {
            Ok(None) => Ok(()),
            Ok(Some(link)) => {
                let dhcp = if address.is_ipv4() { "dhcp4" } else { "dhcp6" };
                let reason = format!(
                    "{link} loses the address {address} of this connection: no Link has it in its addresses, or {dhcp} on {link}"
                );
                Err(Refused::LocksOut { reason })
            }
            Err(error) => {
                let error = report::chain(&error);
                tracing::warn!(error, "whether a configuration cuts its author off is not known");
                Ok(())
            }
        }
    }

    /// Whether these changes can be made in this way.
    pub(super) fn fits(
        &self,
        first: bool,
        persistent: bool,
        plan: &[Change],
    ) -> Result<(), Refused> {
        if first {
            return if self.mode == Mode::Live && self.confirm_within.is_none() {
                Ok(())
            } else {
                Err(Refused::First)
            };
        }
        if self.mode != Mode::Live {
            return if persistent { Ok(()) } else { Err(Refused::NoState) };
        }
        let rebooting = plan.iter().filter(|change| change.effect == Effect::Reboot);
        let rebooting: Vec<String> = rebooting.map(ToString::to_string).collect();
        if rebooting.is_empty() || self.dry_run {
            return Ok(());
        }
        Err(Refused::NeedsRestart { changes: rebooting.join("\n") })
    }
}

/// Why what is wanted is refused, although the configuration is valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("a configuration waits to be confirmed for 10 seconds at least and 24 hours at most")]
    Within,
    #[error(
        "the first configuration of a machine takes effect at once and for good: there is none to go back to, or to run with meanwhile"
    )]
    First,
    #[error(
        "this machine keeps nothing over a restart, as it has no STATE volume: a configuration can be applied live only"
    )]
    NoState,
    #[error(
        "these changes take a restart of the machine; apply them with the mode reboot, or staged for the next one:\n{changes}"
    )]
    NeedsRestart { changes: String },
    #[error(
        "it would shut out whoever brings it, as {reason}; give it a time in which it has to be confirmed"
    )]
    LocksOut { reason: String },
    #[error(
        "it was made from generation {base}, and generation {active} by {author} is in force now; look at what has changed meanwhile and apply again"
    )]
    Conflict { base: u64, active: u64, author: String },
    #[error(
        "generation {generation} waits to be confirmed; confirm it or go back from it before anything else"
    )]
    Waits { generation: u64 },
    #[error("no configuration waits to be confirmed")]
    NothingWaits,
    #[error("generation {number} can no longer be confirmed: {reason}; it can be applied again")]
    TooLate { number: u64, reason: String },
    #[error("generation {asked} does not wait to be confirmed; generation {waiting} does")]
    AnotherWaits { asked: u64, waiting: u64 },
    #[error(
        "this connection is older than the configuration that it is to confirm, and so does not show that the node can be reached; connect anew"
    )]
    OldConnection,
    #[error(
        "it could not be put in force, and the machine is back on generation {previous}: {reason}"
    )]
    Impossible { reason: String, previous: u64 },
    #[error("generation {number} is not to be had: {why}")]
    NoSuch { number: u64, why: String },
    #[error("there is no generation before {active} that was kept")]
    NoneBefore { active: u64 },
    #[error("keeping the configuration: {}", report::chain(.0))]
    Keep(StateError),
}

impl Refused {
    /// What a caller is told.
    pub(super) fn code(&self) -> Code {
        match self {
            Refused::Within => Code::InvalidArgument,
            Refused::Conflict { .. } => Code::Aborted,
            Refused::NoSuch { .. } | Refused::NoneBefore { .. } => Code::NotFound,
            Refused::Keep(_) => Code::ResourceExhausted,
            Refused::First
            | Refused::NoState
            | Refused::NeedsRestart { .. }
            | Refused::LocksOut { .. }
            | Refused::Waits { .. }
            | Refused::NothingWaits
            | Refused::TooLate { .. }
            | Refused::AnotherWaits { .. }
            | Refused::OldConnection
            | Refused::Impossible { .. } => Code::FailedPrecondition,
        }
    }
}

impl From<Refused> for crate::api::Refusal {
    fn from(refused: Refused) -> crate::api::Refusal {
        super::AcceptError::Refused(refused).into()
    }
}
