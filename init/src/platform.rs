// SPDX-License-Identifier: Apache-2.0
//! Where the machine runs: what the firmware is a sign of, or the kernel command line says, and what the platform's metadata
//! service or its hypervisor knows of it. All of it is the resource `Platform`.

use crate::{
    arguments,
    network::{called, given},
    node::Node,
    one_shot, report,
    store::Kind,
};
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::chown,
    path::Path,
    rc::Rc,
    time::Duration,
};
use stele_kernel::{
    hypervisor,
    net::{Fence, Ports},
    process::Exit,
};
use stele_platform::{Channel, CheckIn, Fact, Facts, Found, Metadata, Platform, Server};

const DMI: &str = "/sys/class/dmi/id";
/// What the kernel command line calls it.
const ARGUMENT: &str = "stele.platform=";
/// Hardware of one's own.
const METAL: &str = "metal";
/// The unit of the metadata agent, and what a metadata service is called among the sources.
pub(crate) const METADATA: &str = "metadata";
/// The user of the metadata agent, as its unit has it.
const AGENT: u32 = 210;
/// What only the agent reaches of the services of a platform: all ports at which services listen but those of names (53) and of the
/// time (123), which are for everyone. Those from which others connect (RFC 6335, 6, and Linux' own from 32768) stay open: to
/// them go the machine's answers to those who ask it from there, as the load balancer of Azure does from its wireserver.
const CLOSED: [Ports; 5] = [
    Ports::Tcp(1, 52),
    Ports::Tcp(54, 32767),
    Ports::Udp(1, 52),
    Ports::Udp(54, 122),
    Ports::Udp(124, 32767),
];
/// No documents.
const EMPTY: &[u8] = b"[]";
/// The attribute by which a machine is the same one.
pub(crate) const INSTANCE: &str = "instanceId";
/// The attribute that may be its name.
pub(crate) const HOSTNAME: &str = "hostname";
/// The largest answer: user-data, and a line of attributes.
const LARGEST_ANSWER: usize = crate::configuration::LARGEST + 64 * 1024;
/// How long one conversation with the service, or the hypervisor, may take.
const DEADLINE: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest attribute that is shown, and the longest reason.
const LONGEST_TEXT: usize = 400;

/// What `ctl get platform` shows.
#[derive(Serialize)]
struct Status<'a> {
    platform: &'a str,
    state: State,
    evidence: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    /// Who reaches the metadata service, once there is a configuration.
    #[serde(skip_serializing_if = "str::is_empty")]
    reach: &'a str,
    /// What the platform was told, if it wants to be told anything.
    #[serde(skip_serializing_if = "str::is_empty")]
    told: &'a str,
    #[serde(flatten)]
    attributes: &'a BTreeMap<String, String>,
}

/// How far it has come with the metadata service, or the hypervisor.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// There is none to be asked.
    #[default]
    Known,
    /// It is being asked.
    Asking,
    /// It has answered.
    Answered,
    /// It does not answer. A service will be asked again.
    Failed,
}

/// The platform that the machine runs on.
#[derive(Debug)]
pub(crate) struct Here {
    /// None on hardware of one's own.
    platform: Cell<Option<Platform>>,
    shown: RefCell<Shown>,
}

/// What the resource says of it.
#[derive(Debug, Default)]
struct Shown {
    evidence: String,
    state: State,
    reason: String,
    reach: String,
    told: String,
    attributes: BTreeMap<String, String>,
}

/// What a platform says that bears on the configuration.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// What it calls the machine.
    pub(crate) instance: Option<String>,
    /// Whether it describes the network.
    pub(crate) describes_network: bool,
    /// Whether it has a name for the machine.
    pub(crate) names_machine: bool,
    /// Its files of user-data.
    pub(crate) user_data: Vec<Vec<u8>>,
}

/// The first line of an agent's answer; what is behind it is the user-data.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    attributes: BTreeMap<String, String>,
    network: Vec<serde_json::Value>,
    user_data: bool,
}

impl Here {
    /// Finds out, and says so.
    pub(crate) fn find(node: &Node) -> Here {
        let here = decide(&facts(), arguments::given(ARGUMENT).as_deref());
        here.tell_the_console();
        here.say(node, |_| {});
        here
    }

    /// Looks again, now that the drives are known: one may tell a platform from the hypervisor that it is made with.
    pub(crate) fn see_drives(&self, node: &Node, labels: Vec<String>) {
        let facts = Facts { drives: labels, ..facts() };
        self.becomes(node, decide(&facts, arguments::given(ARGUMENT).as_deref()));
    }

    fn becomes(&self, node: &Node, known: Here) {
        if known.name() == self.name() {
            return;
        }
        node.store.remove(Kind::Platform, self.name());
        self.platform.set(known.platform.get());
        self.say(node, |shown| shown.evidence = known.shown.into_inner().evidence);
        self.tell_the_console();
    }

    fn tell_the_console(&self) {
        let (name, shown) = (self.name(), self.shown.borrow());
        tracing::info!(target: report::CONSOLE, "platform {name}: {}", shown.evidence);
    }

    pub(crate) fn name(&self) -> &'static str {
        self.platform.get().map_or(METAL, |platform| platform.name)
    }

    /// The servers of the time that the platform has for its machines.
    pub(crate) fn time_servers(&self) -> &'static [&'static str] {
        self.platform.get().map_or(&[], |platform| platform.time_servers)
    }

    fn metadata(&self) -> Option<Metadata> {
        self.platform.get()?.metadata
    }

    /// Whether this is a platform, and not hardware of one's own.
    pub(crate) fn is_known(&self) -> bool {
        self.platform.get().is_some()
    }

    /// Which instance it is taken for where the hypervisor does not say.
    pub(crate) fn assumed(&self) -> Option<String> {
        let fact = self.channel()?.instance?;
        Some(fact.of(&facts())).filter(|said| !said.is_empty())
    }

    /// What the firmware calls the machine, where this source is whoever gives it an address: that may be a stranger on another
    /// link than the platform's.
    pub(crate) fn firmware_beside(&self, source: &str) -> Option<String> {
        match self.metadata()?.server {
            Server::Dhcp(_) if source == METADATA => {
                Some(facts().uuid).filter(|said| !said.is_empty())
            }
            Server::Dhcp(_) | Server::At(_) => None,
        }
    }

    fn channel(&self) -> Option<Channel> {
        self.platform.get()?.channel
    }

    /// What there is to be asked, as it is called among the sources, and as the unit of its agent.
    pub(crate) fn source(&self) -> Option<&'static str> {
        let channel = self.channel().map(|channel| channel.name);
        self.metadata().map(|_service| METADATA).or(channel)
    }

    /// Where the services of the platform are that only the agent is to reach.
    pub(crate) fn services(&self, node: &Node) -> Vec<Fence> {
        let Some(metadata) = self.metadata() else { return Vec::new() };
        let servers: Vec<IpAddr> = match metadata.server {
            Server::At(server) => address(server).into_iter().collect(),
            // Which of them is the service is not known: each may have the user-data.
            Server::Dhcp(_) => {
                node.dhcp_servers.borrow().values().copied().map(IpAddr::V4).collect()
            }
        };
        let ipv6 = metadata.ipv6.and_then(address);
        let told = match metadata.check_in {
            Some(CheckIn::Wireserver { server }) => address(server),
            Some(CheckIn::Send { .. } | CheckIn::PhoneHome { .. }) | None => None,
        };
        let fences = |address| CLOSED.map(|ports| Fence { address, ports, user: AGENT });
        servers.into_iter().chain(ipv6).chain(told).flat_map(fences).collect()
    }

    /// Says who reaches them.
    pub(crate) fn fenced(&self, node: &Node, up: &[Fence], failure: Option<&String>) {
        if self.metadata().is_none() {
            return;
        }
        let reach = match failure {
            Some(failure) => failure.clone(),
            None if up.is_empty() => "everyone".to_owned(),
            None => "the metadata agent alone".to_owned(),
        };
        self.say(node, |shown| shown.reach = reach);
    }

    fn say(&self, node: &Node, change: impl FnOnce(&mut Shown)) {
        let mut shown = self.shown.borrow_mut();
        change(&mut shown);
        let Shown { evidence, state, reason, reach, told, attributes } = &*shown;
        let platform = self.name();
        let status = Status { platform, state: *state, evidence, reason, reach, told, attributes };
        node.store.put(Kind::Platform, platform, &status);
    }

    /// Takes what the platform knows of the machine: it is shown, and may be the machine's name. Returns whether it is.
    pub(crate) async fn take(&self, node: &Node, attributes: BTreeMap<String, String>) -> bool {
        let name = attributes.get(HOSTNAME).cloned();
        self.say(node, |shown| shown.attributes.extend(attributes));
        if let Some(name) = &name {
            called::take(node, name).await;
        }
        name.is_some()
    }

    /// Asks what the platform knows: a metadata service until it answers, waiting longer each time; a hypervisor, which answers
    /// at once if at all, one time. Returns why it does not.
    pub(crate) async fn ask(&self, node: &Rc<Node>) -> Result<Said, String> {
        if self.channel().is_some() {
            return self.converse(node).await;
        }
        self.say(node, |shown| {
            shown.state = State::Asking;
            shown.reason = "waiting for an address".to_owned();
        });
        let ask = async || self.converse(node).await.ok();
        // Who is asked on the link needs no address that others have given: it may be the one that gives it.
        let near = self.metadata().and_then(|metadata| metadata.ipv6.and_then(address));
        let near =
            near.is_some_and(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        Ok(match near {
            true => node.ask_neighbour_until_answered(LONGEST_WAIT, ask).await,
            false => node.ask_until_answered(LONGEST_WAIT, ask).await,
        })
    }

    async fn converse(&self, node: &Node) -> Result<Said, String> {
        match self.hear(node).await {
            Ok((mut attributes, network, user_data)) => {
                let unsaid = self.assumed().filter(|_| !attributes.contains_key(INSTANCE));
                attributes.extend(unsaid.map(|assumed| (INSTANCE.to_owned(), assumed)));
                let describes_network = network != EMPTY;
                given::take(node, network).await;
                let instance = attributes.get(INSTANCE).cloned();
                let names_machine = self.take(node, attributes).await;
                self.say(node, |shown| {
                    shown.state = State::Answered;
                    shown.reason = String::new();
                });
                let user_data = Vec::from_iter(user_data);
                Ok(Said { instance, describes_network, names_machine, user_data })
            }
            Err(reason) => {
                tracing::warn!(platform = self.name(), reason, "the platform does not answer");
                self.say(node, |shown| {
                    shown.state = State::Failed;
                    shown.reason.clone_from(&reason);
                });
                Err(reason)
            }
        }
    }

    /// Has the agent ask once.
    async fn hear(&self, node: &Node) -> Result<Heard, String> {
        match self.channel() {
            None => understand(&run_metadata(node, &[self.name().to_owned()]).await?),
            Some(Channel { name, device, .. }) => {
                if let (Some(device), Some(unit)) = (device, node.units.get(name)) {
                    let given = chown(device, Some(unit.sandbox.uid), None);
                    given.map_err(|error| format!("giving {device} to its agent: {error}"))?;
                }
                let arguments: Vec<String> = device.map(str::to_owned).into_iter().collect();
                understand(&run(node, name, &arguments).await?)
            }
        }
    }

    /// Has the hypervisor forget user-data of its own that is in force now: every program on the machine could read it. A machine
    /// that keeps nothing needs it again.
    pub(crate) async fn forget_user_data(&self, node: &Node, source: &str) {
        let Some(channel) = self.channel().filter(|it| it.forgets && it.name == source) else {
            return;
        };
        if !node.state.get().is_some_and(|state| state.persistent) {
            return;
        }
        let told = match run(node, channel.name, &["--forget".to_owned()]).await {
            Ok(_nothing) => "to forget the user-data".to_owned(),
            Err(reason) => {
                tracing::warn!(platform = self.name(), reason, "the platform keeps the user-data");
                reason
            }
        };
        self.say(node, |shown| shown.told = told);
    }

    /// Tells a platform that wants to hear it that the machine is up, with a configuration or waiting for one: a machine that
    /// says nothing is taken for one that does not start.
    pub(crate) async fn check_in(&self, node: &Rc<Node>) {
        if self.metadata().and_then(|metadata| metadata.check_in).is_none() {
            return;
        }
        let arguments = ["--check-in".to_owned(), self.name().to_owned()];
        node.ask_until_answered(LONGEST_WAIT, async || {
            let said = run_metadata(node, &arguments).await.map(drop);
            if let Err(reason) = &said {
                tracing::warn!(platform = self.name(), reason, "telling the platform failed");
            }
            let told = said.as_ref().map_or_else(Clone::clone, |()| "the machine is up".to_owned());
            self.say(node, |shown| shown.told = told);
            said.ok()
        })
        .await;
    }
}

/// Attributes, what is said of the network, and the user-data.
type Heard = (BTreeMap<String, String>, Vec<u8>, Option<Vec<u8>>);

/// What an agent answers; it is shown, so it is made fit for that.
fn understand(stdout: &[u8]) -> Result<Heard, String> {
    let odd = || "the agent's answer makes no sense".to_owned();
    let end = stdout.iter().position(|byte| *byte == b'\n').ok_or_else(odd)?;
    let (line, rest) = stdout.split_at_checked(end).ok_or_else(odd)?;
    let answer: Answer = serde_json::from_slice(line).map_err(|_| odd())?;
    let shown = fit_to_show(answer.attributes);
    let user_data = rest.get(1..).filter(|_| answer.user_data).map(<[u8]>::to_vec);
    let network = serde_json::to_vec(&answer.network).unwrap_or_default();
    Ok((shown, network, user_data))
}

/// Runs the metadata agent, which is told where the DHCP servers are.
async fn run_metadata(node: &Node, arguments: &[String]) -> Result<Vec<u8>, String> {
    let servers: Vec<String> =
        node.dhcp_servers.borrow().values().map(Ipv4Addr::to_string).collect();
    let arguments = [arguments, &servers].concat();
    run(node, METADATA, &arguments).await
}

/// Runs an agent that speaks with the platform.
async fn run(node: &Node, unit: &str, arguments: &[String]) -> Result<Vec<u8>, String> {
    let output = one_shot::run(node, unit, arguments, &[], LARGEST_ANSWER, DEADLINE).await;
    let output = output.map_err(|error| report::chain(&error))?;
    if output.exit == Exit::Code(0) {
        return Ok(output.stdout);
    }
    let complaint = report::plain(&output.complaint, LONGEST_TEXT);
    Err(if complaint.is_empty() { output.exit.to_string() } else { complaint })
}

/// Attributes as an agent told them, made fit to be shown.
pub(crate) fn fit_to_show(attributes: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = attributes.into_iter().take(32);
    shown.map(|(key, value)| (key, report::plain(&value, LONGEST_TEXT))).collect()
}

/// The command line decides; otherwise the firmware does.
fn decide(facts: &Facts, said: Option<&str>) -> Here {
    let by_hand = || format!("{ARGUMENT} on the kernel command line");
    match said {
        Some(METAL) => return here(None, by_hand()),
        Some(name) => match stele_platform::named(name) {
            Some(platform) => return here(Some(platform), by_hand()),
            None => tracing::error!(name, "{ARGUMENT} names no platform that this image knows"),
        },
        None => {}
    }
    match stele_platform::detect(facts) {
        Some(Found { platform, evidence }) => here(Some(platform), evidence),
        None => here(None, "the firmware names no platform that this image knows".to_owned()),
    }
}

fn here(platform: Option<Platform>, evidence: String) -> Here {
    let shown = Shown { evidence, ..Shown::default() };
    Here { platform: Cell::new(platform), shown: RefCell::new(shown) }
}

/// Whom a URL without a path names by address, if it does.
fn address(server: &str) -> Option<IpAddr> {
    let host = server.strip_prefix("http://")?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// What a file of the firmware's says.
pub(crate) fn dmi(file: &str) -> String {
    let text = fs::read_to_string(Path::new(DMI).join(file)).unwrap_or_default();
    report::plain(text.trim(), LONGEST_TEXT)
}

/// What the firmware says of the machine, and the processor of the hypervisor.
pub(crate) fn facts() -> Facts {
    let read = |fact: Fact| dmi(fact.name());
    Facts {
        vendor: read(Fact::Vendor),
        product: read(Fact::Product),
        uuid: read(Fact::Uuid),
        serial: read(Fact::Serial),
        asset_tag: read(Fact::AssetTag),
        hypervisor: hypervisor::name().unwrap_or_default(),
        drives: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_is_open_for_the_agent() {
        let unit = include_str!("../units/metadata.json");
        let unit: crate::unit::Unit = serde_json::from_str(unit).unwrap();
        assert_eq!(unit.sandbox.uid, AGENT);
        let node = Node::new(BTreeMap::new(), crate::node::Release::default());
        let services = |name: &str| decide(&Facts::default(), Some(name)).services(&node);
        let fenced = |name: &str| {
            let fences = services(name);
            fences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let hetzner = services("hetzner");
        for address in ["169.254.169.254", "fe80::a9fe:a9fe"] {
            let fences = hetzner.iter().filter(|fence| fence.address.to_string() == address);
            let fences: Vec<_> = fences.map(|fence| (fence.ports, fence.user)).collect();
            let closed = |tcp: bool, port: u16| {
                fences.iter().any(|(ports, user)| match ports {
                    Ports::Tcp(first, last) => {
                        tcp && (first..=last).contains(&&port) && *user == AGENT
                    }
                    Ports::Udp(first, last) => {
                        !tcp && (first..=last).contains(&&port) && *user == AGENT
                    }
                })
            };
            for port in 1..=u16::MAX {
                let listens = port < 32768 && port != 53;
                assert_eq!(closed(true, port), listens, "TCP {port} of {address}");
                assert_eq!(closed(false, port), listens && port != 123, "UDP {port} of {address}");
            }
        }
        assert!(fenced("azure").contains("168.63.129.16"));
        assert_eq!(fenced("cloudstack"), "");
        for (link, server) in [("eth1", [10, 1, 1, 1]), ("eth0", [10, 0, 2, 2])] {
            node.dhcp_servers.borrow_mut().insert(link.to_owned(), server.into());
        }
        for server in ["10.1.1.1", "10.0.2.2"] {
            assert!(fenced("cloudstack").contains(server), "{server} has given a lease");
        }
        assert_eq!(fenced("equinix"), "");
    }

    #[test]
    fn a_drive_tells_the_platform_later() {
        let node = Node::new(BTreeMap::new(), crate::node::Release::default());
        let firmware = Facts { vendor: "QEMU".to_owned(), ..Facts::default() };
        let here = decide(&firmware, None);
        here.becomes(&node, decide(&firmware, None));
        assert_eq!(here.name(), "qemu");
        let drives = vec!["context".to_owned()];
        here.becomes(&node, decide(&Facts { drives, ..firmware }, None));
        assert_eq!(here.name(), "opennebula");
        assert_eq!(node.store.names(Kind::Platform), ["opennebula"]);
    }

    #[test]
    fn the_command_line_decides() {
        let facts = Facts { vendor: "Hetzner".to_owned(), ..Facts::default() };
        let name = |said: Option<&str>| decide(&facts, said).name();
        assert_eq!(name(None), "hetzner");
        assert_eq!(name(Some("aws")), "aws");
        assert_eq!(name(Some("metal")), METAL);
        assert_eq!(name(Some("nonsense")), "hetzner");
        assert_eq!(decide(&Facts::default(), None).name(), METAL);
        let source = |said: &str| decide(&facts, Some(said)).source();
        assert_eq!(source("hetzner"), Some(METADATA));
        assert_eq!(source("vmware"), Some("guestinfo"));
        assert_eq!(source("hyperv"), Some("kvp"));
        assert_eq!((source("virtualbox"), source("metal")), (None, None));
    }
}
