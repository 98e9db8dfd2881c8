// SPDX-License-Identifier: Apache-2.0
//! How the network is, as resources, and what the certificate and the console need to know of it.

use crate::{
    dns::Wanted,
    node::{NetworkIdentity, Node},
    store::Kind,
};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr};
use stele_config::{Cidr, Domain, Hosts, HostsEntry, Mac, RouteType, RoutingRule, Table};
use stele_machine::network::{
    Observed, delegation,
    desired::Desired,
    lease::{Dhcp, Held, Lasts as _, Lease},
    lease6::Lease6,
    names::{Origin, Resolver},
    rules::Rule,
    status::Status,
    virtual_link::Form,
    vlans::Vlans,
};
use tokio::sync::watch;

/// What there is to show.
pub(super) struct View<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) dhcp: &'a BTreeMap<String, Dhcp>,
    /// How the links are that the machine has or should have.
    pub(super) links: &'a [Status],
    /// Why links that the kernel should make are not there.
    pub(super) unmade: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkStatus {
    state: String,
    /// The document that it is set up by.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
    /// The kind of document that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<&'static str>,
    /// The link that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<String>,
    /// The link that it uses whenever it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    /// The one that its device was made with, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    permanent_mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    /// The largest that it can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<bool>,
    addresses: Vec<String>,
    /// The VLAN of packets without a tag, in a bridge that looks at tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pvid: Option<u16>,
    /// Its other VLANs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlans: Vec<String>,
    /// Why a DHCPv6 server is asked, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    dhcp6: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Seconds after boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<f64>,
}

#[derive(Serialize)]
struct AddressStatus {
    link: String,
    address: String,
    origin: &'static str,
}

#[derive(Serialize)]
struct RouteStatus {
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<IpAddr>,
    link: String,
    metric: u32,
    table: u32,
    /// The address that the machine's own packets have that take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    /// How it leads nowhere.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    nowhere: Option<&'static str>,
    origin: &'static str,
}

#[derive(Serialize)]
struct RuleStatus {
    priority: u32,
    family: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incoming: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    table: u32,
    origin: &'static str,
    /// The document that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Networks that the machine may give to others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    routers: Vec<String>,
    dns_servers: Vec<IpAddr>,
    ntp_servers: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// How long it holds; absent for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    /// When it was obtained first, in seconds after boot.
    since: f64,
}

#[derive(Serialize)]
struct HostsStatus {
    hosts: Vec<String>,
}

#[derive(Serialize)]
struct HostnameStatus<'a> {
    hostname: &'a str,
    origin: &'static str,
}

/// Says how everything is.
pub(super) fn publish(node: &Node, view: &View<'_>, (hostname, origin): (&str, Origin)) {
    node.store.replace(Kind::Link, &links(view));
    node.store.replace(Kind::Address, &addresses(view));
    node.store.replace(Kind::Route, &routes(view));
    let active = node.configuration.active();
    let documents = active.as_deref().map(|active| active.config.routing_rules());
    node.store.replace(Kind::RoutingRule, &rules(view, documents.unwrap_or_default()));
    node.store.replace(Kind::Lease, &leases(view.dhcp));
    node.store.put(
        Kind::Hostname,
        "hostname",
        &HostnameStatus { hostname, origin: origin.as_str() },
    );
}

/// Says which names of machines the configuration gives.
pub(super) fn hosts(node: &Node, documents: &[Hosts]) {
    let line = |host: &HostsEntry| {
        let names: Vec<&str> = host.names().iter().map(|name| name.as_str()).collect();
        format!("{} {}", host.address(), names.join(" "))
    };
    let describe = |hosts: &Hosts| {
        let status = HostsStatus { hosts: hosts.hosts().iter().map(line).collect() };
        (hosts.name().to_string(), status)
    };
    let statuses: BTreeMap<_, _> = documents.iter().map(describe).collect();
    node.store.replace(Kind::Hosts, &statuses);
}

/// Tells the writer of the identity what the certificate is to hold.
pub(super) fn identify(node: &Node, hostname: String, addresses: Vec<IpAddr>) {
    let identity = NetworkIdentity { hostname, addresses };
    tell(&node.identity, identity);
}

/// Tells the keeper of name resolution whom to ask, by what this generation and the leases say.
pub(super) fn name_servers(node: &Node, generation: Option<u64>, resolver: Resolver) {
    let wanted = Wanted { generation, resolver };
    tell(&node.resolver, wanted);
}

/// Tells the keeper of the clock whom the leases name.
pub(super) fn name_time_servers(node: &Node, servers: Vec<IpAddr>) {
    tell(&node.time_servers, servers);
}

fn links(view: &View<'_>) -> BTreeMap<String, LinkStatus> {
    let describe = |status: &Status| {
        let link = view.observed.links.iter().find(|link| link.name == status.name);
        let mut addresses = view.observed.addresses.iter().collect::<Vec<_>>();
        addresses.retain(|address| link.is_some_and(|link| link.index == address.index));
        let mac = link.and_then(|link| link.mac).map(Mac::from);
        let device = link.map(|link| &link.device);
        let vlans = link.and_then(|link| link.vlans.as_ref());
        let text = LinkStatus {
            state: status.state.to_string(),
            document: (view.desired.links.get(&status.name))
                .map(|desired| desired.document.clone())
                .filter(|document| !document.is_empty()),
            made_by: view.desired.made.get(&status.name).map(Form::kind),
            master: link.and_then(|link| link.master).map(|master| name(view, master)),
            primary: link.and_then(|link| link.primary).map(|primary| name(view, primary)),
            index: link.map(|link| link.index),
            mac: mac.map(|mac| mac.to_string()),
            permanent_mac: device
                .and_then(|device| device.mac.filter(|own| Some(*own) != mac))
                .map(|own| own.to_string()),
            path: device.and_then(|device| Some(device.path.as_ref()?.to_string())),
            driver: device.and_then(|device| Some(device.driver.as_ref()?.to_string())),
            mtu: link.map(|link| link.mtu),
            max_mtu: link.and_then(|link| link.max_mtu),
            carrier: link.map(|link| link.carrier),
            addresses: addresses.into_iter().map(|address| address.cidr.to_string()).collect(),
            pvid: vlans.and_then(Vlans::native),
            vlans: vlans
                .map(|vlans| vlans.others().iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            dhcp6: view.desired.links.get(&status.name).map(|desired| {
                let why = desired.why6.as_str();
                match view.dhcp.get(&status.name).map(|dhcp| dhcp.six.word.as_str()) {
                    Some("") | None => why.to_owned(),
                    Some(word) => format!("{why}. {word}"),
                }
            }),
            reason: view.unmade.get(&status.name).unwrap_or(&status.reason).clone(),
            since: status.since.map(|since| since.as_secs_f64()),
        };
        (status.name.clone(), text)
    };
    view.links.iter().map(describe).collect()
}

fn addresses(view: &View<'_>) -> BTreeMap<String, AddressStatus> {
    let describe = |address: &stele_machine::network::Address| {
        let link = name(view, address.index);
        let desired = view.desired.links.get(&link);
        let leased = view.dhcp.get(&link).is_some_and(|dhcp| dhcp.gives(&address.cidr))
            || desired.is_some_and(|desired| desired.has_delegated(&address.cidr));
        let origin = if leased { Origin::Lease.as_str() } else { origin(address.ours) };
        let text = address.cidr.to_string();
        (format!("{link}/{text}"), AddressStatus { link, address: text, origin })
    };
    view.observed.addresses.iter().map(describe).collect()
}

fn routes(view: &View<'_>) -> BTreeMap<String, RouteStatus> {
    let describe = |route: &stele_machine::network::Route| {
        let link = name(view, route.index);
        let lease = view.dhcp.get(&link).and_then(|dhcp| dhcp.four.lease.as_ref());
        let leased = lease.is_some_and(|lease| lease.routes().contains(&(route.to, route.via)));
        // Nowhere is where what is left of a prefix leads, which a lease brings.
        let left = route.nowhere.is_some() && route.metric == delegation::LAST;
        let leased = route.ours && (leased || left);
        let origin = if leased { Origin::Lease.as_str() } else { origin(route.ours) };
        let (source, nowhere) = (route.source, route.nowhere.map(RouteType::as_str));
        let (to, metric, table) = (route.to.to_string(), route.metric, route.table);
        let mut name = format!("{link}/{to}/{metric}");
        if table != Table::MAIN.number() {
            name = format!("{name}/{table}");
        }
        (name, RouteStatus { to, via: route.via, link, metric, table, source, nowhere, origin })
    };
    view.observed.routes.iter().map(describe).collect()
}

fn rules(view: &View<'_>, documents: &[RoutingRule]) -> BTreeMap<String, RuleStatus> {
    // Each has a priority of its own.
    let document = |rule: &Rule| {
        let mut ours = documents.iter().filter(|_| rule.ours);
        ours.find(|document| document.priority() == rule.priority)
            .map(|document| document.name().to_string())
    };
    let describe = |rule: &Rule| {
        let family = if rule.ipv6 { "ipv6" } else { "ipv4" };
        let status = RuleStatus {
            priority: rule.priority,
            family,
            from: rule.from.map(|from| from.to_string()),
            to: rule.to.map(|to| to.to_string()),
            incoming: rule.incoming.clone(),
            mark: rule.mark,
            table: rule.table,
            origin: origin(rule.ours),
            document: document(rule),
        };
        (format!("{}/{family}/{}", rule.priority, rule.table), status)
    };
    view.observed.rules.iter().map(describe).collect()
}

fn leases(dhcp: &BTreeMap<String, Dhcp>) -> BTreeMap<String, LeaseStatus> {
    let four = dhcp.iter().filter_map(|(link, dhcp)| Some((link.clone(), lease(&dhcp.four)?)));
    let six = dhcp.iter();
    let six = six.filter_map(|(link, dhcp)| Some((format!("{link}/dhcp6"), lease6(&dhcp.six)?)));
    four.chain(six).collect()
}

fn lease(dhcp: &Held<Lease>) -> Option<LeaseStatus> {
    let lease = dhcp.lease.as_ref()?;
    let routers = lease.routes().iter().filter(|(to, _)| to.prefix() == 0);
    Some(LeaseStatus {
        address: Some(lease.address().to_string()),
        routers: routers.filter_map(|(_, via)| via.map(|via| via.to_string())).collect(),
        dns_servers: lease.dns_servers().to_vec(),
        ntp_servers: lease.ntp_servers().to_vec(),
        domain: all(lease.domains()),
        server: lease.server().map(|server| server.to_string()),
        seconds: lease.duration().map(|duration| duration.as_secs()),
        since: dhcp.since.as_secs_f64(),
        ..LeaseStatus::default()
    })
}

fn lease6(dhcp: &Held<Lease6>) -> Option<LeaseStatus> {
    let lease = dhcp.lease.as_ref()?;
    let text = |all: &[Cidr]| all.iter().map(Cidr::to_string).collect::<Vec<_>>();
    Some(LeaseStatus {
        address: Some(text(lease.addresses()).join(" ")).filter(|all| !all.is_empty()),
        prefixes: text(lease.prefixes()),
        dns_servers: lease.dns_servers().to_vec(),
        ntp_servers: lease.ntp_servers().to_vec(),
        domain: all(lease.domains()),
        server: Some(lease.server().to_owned()),
        seconds: lease.duration().map(|duration| duration.as_secs()),
        since: dhcp.since.as_secs_f64(),
        ..LeaseStatus::default()
    })
}

fn all(domains: &[Domain]) -> Option<String> {
    let names: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    Some(names.join(" ")).filter(|all| !all.is_empty())
}

/// Shows what is to be known from now on; whoever watches is woken only by something else.
pub(super) fn tell<T: PartialEq>(shown: &watch::Sender<T>, now: T) {
    shown.send_if_modified(|before| {
        let new = *before != now;
        *before = now;
        new
    });
}

fn origin(ours: bool) -> &'static str {
    if ours { Origin::Configuration.as_str() } else { "kernel" }
}

fn name(view: &View<'_>, index: u32) -> String {
    let link = view.observed.links.iter().find(|link| link.index == index);
    link.map_or_else(|| index.to_string(), |link| link.name.clone())
}
