// SPDX-License-Identifier: Apache-2.0
//! The node: what every part of PID 1 can reach. Each part owns its state; the others see it through here.

use crate::{
    arguments::Arguments,
    boots::{Boots, Reason},
    configuration::Configuration,
    convergence::Convergence,
    devices::Devices,
    diagnose::Places,
    dns,
    health::Healths,
    images::Images,
    lag::Lag,
    logs::Logs,
    network::given::CommandLine,
    process::Children,
    sinks::Sinks,
    state::State,
    store::{Kind, Store},
    supervisor::Supervisor,
    time::Clock,
    turns::Turns,
    unit::Unit,
    upgrade::Upgrades,
    volumes::Volume,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::Duration,
};
use stele_config::Hostname;
use stele_kernel::power::End;
use stele_machine::{
    boots::Start,
    network::given::{Fits, Given},
};
use stele_proto::v1::Mode;
use tokio::{sync::watch, time::Instant};

/// How long a caller may wait for its answer before the machine goes down under it.
const PARTING: Duration = Duration::from_millis(500);
/// From the first question to the second, when others do not answer.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    /// The image's units.
    pub(crate) units: BTreeMap<String, Unit>,
    /// The image: what os-release says.
    pub(crate) release: Release,
    /// Random, one for each boot: random(4).
    pub(crate) boot_id: String,
    pub(crate) logs: Logs,
    pub(crate) store: Store,
    pub(crate) children: Children,
    pub(crate) supervisor: Supervisor,
    pub(crate) configuration: Configuration,
    pub(crate) convergence: Convergence,
    pub(crate) volumes: RefCell<BTreeMap<&'static str, Volume>>,
    /// The devices, once boot cares for them.
    pub(crate) devices: OnceCell<Devices>,
    /// The state partition and what follows from it, once boot knows.
    pub(crate) state: OnceCell<State>,
    /// What the network gave this machine, for the certificate and the console.
    pub(crate) identity: watch::Sender<NetworkIdentity>,
    /// Whether it has an IPv6 address by which it reaches those on its links.
    pub(crate) link_local: watch::Sender<bool>,
    /// The generation of the identity by which apid serves, once it has said so.
    pub(crate) serves: Cell<Option<u64>>,
    /// What the kernel command line says of it, once that was read.
    pub(crate) command_line: OnceCell<CommandLine>,
    /// For which links others mean what they say.
    pub(crate) fits: RefCell<Fits>,
    /// What others than the configuration say of the network.
    pub(crate) given: watch::Sender<Option<Rc<Given>>>,
    /// What they call the machine.
    pub(crate) called: watch::Sender<Option<Hostname>>,
    /// The server of each link's last lease, which on some platforms is the metadata service, too.
    pub(crate) dhcp_servers: RefCell<BTreeMap<String, Ipv4Addr>>,
    /// Whom to ask for names.
    pub(crate) resolver: watch::Sender<dns::Wanted>,
    /// The time servers that leases name.
    pub(crate) time_servers: watch::Sender<Vec<IpAddr>>,
    pub(crate) clock: Clock,
    /// What the console last said of how to reach the node.
    pub(crate) announced: RefCell<Vec<String>>,
    /// Set once, when the machine is to end.
    pub(crate) ending: watch::Sender<Option<End>>,
    /// Why, once it is.
    pub(crate) reason: RefCell<Reason>,
    pub(crate) upgrades: Upgrades,
    pub(crate) images: Images,
    pub(crate) boots: Boots,
    pub(crate) arguments: Arguments,
    pub(crate) health: Healths,
    pub(crate) sinks: Sinks,
    /// For diagnostics under way.
    pub(crate) diagnoses: Places,
    /// When what has no events of its own was last looked at.
    pub(crate) looked: RefCell<BTreeMap<Kind, Instant>>,
    /// How late the loop was.
    pub(crate) lag: Lag,
    /// Who has much to do works in turns.
    pub(crate) turns: Turns,
}

/// What the network calls this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkIdentity {
    pub(crate) hostname: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The image: what os-release says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Release {
    pub(crate) version: String,
    /// Seconds since the epoch.
    pub(crate) build_time: i64,
}

impl Release {
    /// Reads os-release(5); what it does not say stays empty.
    pub(crate) fn parse(text: &str) -> Release {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        Release {
            version: value("IMAGE_VERSION").unwrap_or_default(),
            build_time: value("BUILD_TIME").and_then(|seconds| seconds.parse().ok()).unwrap_or(0),
        }
    }
}

impl Node {
    pub(crate) fn new(units: BTreeMap<String, Unit>, release: Release) -> Node {
        Node {
            units,
            release,
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            logs: Logs::new(),
            store: Store::default(),
            children: Children::default(),
            supervisor: Supervisor::default(),
            configuration: Configuration::default(),
            convergence: Convergence::default(),
            volumes: RefCell::default(),
            devices: OnceCell::new(),
            state: OnceCell::new(),
            identity: watch::Sender::new(NetworkIdentity::default()),
            serves: Cell::default(),
            link_local: watch::Sender::new(false),
            command_line: OnceCell::new(),
            fits: RefCell::default(),
            given: watch::Sender::new(None),
            called: watch::Sender::new(None),
            dhcp_servers: RefCell::default(),
            resolver: watch::Sender::default(),
            time_servers: watch::Sender::default(),
            clock: Clock::default(),
            announced: RefCell::default(),
            ending: watch::Sender::new(None),
            reason: RefCell::default(),
            upgrades: Upgrades::default(),
            images: Images::default(),
            boots: Boots::default(),
            arguments: Arguments::of_this_kernel(),
            health: Healths::default(),
            sinks: Sinks::default(),
            diagnoses: Places::default(),
            looked: RefCell::default(),
            lag: Lag::default(),
            turns: Turns::default(),
        }
    }

    /// Loads a module that no device asks for, such as a file system's.
    pub(crate) async fn load_module(&self, name: &str) {
        if let Some(devices) = self.devices.get() {
            devices.load(name, "").await;
        }
    }

    /// Asks others until they answer, waiting longer each time, and for as long as it takes while the machine has no address
    /// by which it reaches them.
    pub(crate) async fn ask_until_answered<T>(
        &self,
        longest: Duration,
        ask: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        self.ask_when(async || self.reaches_far().await, longest, ask).await
    }

    /// The same of somebody on a link of the machine.
    pub(crate) async fn ask_neighbour_until_answered<T>(
        &self,
        longest: Duration,
        ask: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        self.ask_when(async || self.reaches_near().await, longest, ask).await
    }

    async fn ask_when<T>(
        &self,
        can_ask: impl AsyncFn(),
        longest: Duration,
        mut ask: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let mut wait = FIRST_WAIT;
        loop {
            can_ask().await;
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(longest);
        }
    }

    /// Waits for an address by which it reaches others than those on its links.
    async fn reaches_far(&self) {
        let mut identity = self.identity.subscribe();
        let found = identity.wait_for(|identity| !identity.addresses.is_empty()).await;
        // It locks what it shows: kept while something else is waited for, it would stop PID 1 with the next address.
        drop(found);
    }

    /// Waits for an address by which it reaches those on its links.
    async fn reaches_near(&self) {
        let mut link_local = self.link_local.subscribe();
        let near = async { link_local.wait_for(|near| *near).await.map(|near| *near) };
        tokio::select! {
            _near = near => {}
            () = self.reaches_far() => {}
        }
    }

    /// What the machine is doing as a whole.
    pub(crate) fn mode(&self) -> Mode {
        if self.ending.borrow().is_some() {
            Mode::Stopping
        } else if matches!(self.boots.started(), Start::Safe { .. }) {
            Mode::Safe
        } else if self.configuration.active().is_some() {
            Mode::Running
        } else {
            Mode::Maintenance
        }
    }

    /// Ends the machine in order. The first to ask decides how.
    pub(crate) fn end(&self, how: End, reason: Reason) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(how);
                *self.reason.borrow_mut() = reason;
            }
            first
        });
    }

    /// The same in a moment, so that who asked for it gets an answer.
    pub(crate) fn end_soon(self: &Rc<Self>, how: End, reason: Reason) {
        let node = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(PARTING).await;
            node.end(how, reason);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read() {
        let release = Release::parse("ID=stele\nIMAGE_VERSION=\"1.2.3\"\nBUILD_TIME=1700000000\n");
        assert_eq!((release.version.as_str(), release.build_time), ("1.2.3", 1_700_000_000));
        assert_eq!(Release::parse("").build_time, 0);
    }
}
