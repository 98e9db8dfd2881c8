// SPDX-License-Identifier: Apache-2.0
//! Documents of the network in the making, by who finds it described in other words.

use crate::virtual_link::BondMode;
use crate::{Cidr, Finding, Resolver, canonical};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Items of a list, and addresses of a link; more say nothing.
const MOST: usize = 256;
const MOST_ADDRESSES: usize = 64;
/// Name servers that are taken, and search domains: as many as a `Resolver` has.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
/// How often what is wrong is left out and the rest looked at again: what is wrong may hide that something else is.
const ROUNDS: usize = 64;

/// Documents in the making. Nothing is checked before they are whole.
#[derive(Debug, Default)]
pub struct NetworkDraft {
    links: BTreeMap<String, Map<String, Value>>,
    made: Vec<Value>,
    servers: Vec<Value>,
    search: Vec<Value>,
}

impl NetworkDraft {
    /// Whether anything is said of links.
    #[must_use]
    pub fn has_links(&self) -> bool {
        !self.links.is_empty() || !self.made.is_empty()
    }

    /// There is a `Link` of this name.
    pub fn link(&mut self, name: &str) {
        self.keys(name);
    }

    /// Sets a key of a `Link`.
    pub fn set(&mut self, link: &str, key: &str, value: impl Into<Value>) {
        self.keys(link).insert(key.to_owned(), value.into());
    }

    /// Adds to a list of a `Link`, once.
    pub fn push(&mut self, link: &str, key: &str, value: impl Into<Value>) {
        let most = if key == "addresses" { MOST_ADDRESSES } else { MOST };
        let list = self.keys(link).entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            push_once(list, value.into(), most);
        }
    }

    /// A route by a `Link`.
    pub fn route(&mut self, link: &str, to: &str, via: Option<&str>, metric: Option<u64>) {
        let mut route = Map::from_iter([("to".to_owned(), to.into())]);
        route.extend(via.map(|via| ("via".to_owned(), via.into())));
        route.extend(metric.map(|metric| ("metric".to_owned(), metric.into())));
        self.push(link, "routes", route);
    }

    /// A name server, unless it is one of the host that said so and of nobody else.
    pub fn server(&mut self, server: IpAddr) {
        let nobody = server.is_unspecified() || server.is_multicast();
        if nobody || server == IpAddr::V4(Resolver::STUB) {
            return;
        }
        push_once(&mut self.servers, server.to_string().into(), MOST_SERVERS);
    }

    /// A search domain.
    pub fn domain(&mut self, domain: &str) {
        push_once(&mut self.search, domain.into(), MOST_DOMAINS);
    }

    /// A `VLAN`, and a `Link` for it.
    pub fn vlan(&mut self, name: &str, link: &str, id: Option<u64>) {
        self.make("VLAN", json!({ "name": name, "link": link, "id": id }));
        self.link(name);
    }

    /// A `Bond` in a mode by its name or the kernel's number, with more keys, and a `Link` for it.
    pub fn bond(&mut self, name: &str, links: &[&str], mode: &str, more: Map<String, Value>) {
        let mode = mode.parse().ok().and_then(BondMode::word).unwrap_or(mode);
        let mut bond = json!({ "name": name, "links": links, "mode": mode });
        if let Value::Object(bond) = &mut bond {
            bond.extend(more);
        }
        self.make("Bond", bond);
        self.link(name);
    }

    /// A `Bridge`, and a `Link` for it.
    pub fn bridge(&mut self, name: &str, links: &[&str], tree: bool) {
        let ports: Vec<Value> = links.iter().map(|link| json!({ "link": link })).collect();
        self.make("Bridge", json!({ "name": name, "ports": ports, "stp": tree }));
        self.link(name);
    }

    /// The `Link` in whose network an address is, by those of its addresses that are known so far.
    #[must_use]
    pub fn link_towards(&self, address: IpAddr) -> Option<String> {
        let holds = |text: &Value| {
            let cidr: Option<Cidr> = text.as_str().and_then(|text| text.parse().ok());
            cidr.is_some_and(|cidr| cidr.contains(address))
        };
        let mut links = self.links.iter();
        let link = links.find(|(_, keys)| {
            keys.get("addresses").and_then(Value::as_array).is_some_and(|all| all.iter().any(holds))
        });
        link.map(|(name, _)| name.clone())
    }

    /// What came of it, and what was left out because no document can say it: one wrong route is no reason to have no network.
    #[must_use]
    pub fn documents(mut self) -> (Vec<Value>, Vec<Finding>) {
        let mut left_out = self.bare_members();
        let mut documents = self.whole();
        for _ in 0..ROUNDS {
            let text = Value::Array(documents.clone()).to_string();
            let Err(findings) = canonical::read_network(text.as_bytes()) else {
                return (documents, left_out);
            };
            let less = leave_out(&mut documents, &findings);
            left_out.extend(findings);
            if !less {
                // It is wrong with all of them together.
                break;
            }
        }
        (Vec::new(), left_out)
    }

    /// Takes addresses and the like from links that are in a bond or a bridge, which has them in their place.
    fn bare_members(&mut self) -> Vec<Finding> {
        let mut left_out = Vec::new();
        for whole in &self.made {
            let (links, ports) = (whole["links"].as_array(), whole["ports"].as_array());
            let ports = ports.into_iter().flatten().map(|port| &port["link"]);
            let members = links.into_iter().flatten().chain(ports).filter_map(Value::as_str);
            for member in members {
                let Some(keys) = self.links.get_mut(member) else { continue };
                for key in ["addresses", "dhcp4", "dhcp6", "routes"] {
                    if keys.remove(key).is_some() {
                        left_out.push(Finding {
                            document: 0,
                            kind: "Link".to_owned(),
                            path: key.to_owned(),
                            line: 0,
                            message: format!("{member} is in {}, which has them", whole["name"]),
                            expected: String::new(),
                            warning: true,
                        });
                    }
                }
            }
        }
        left_out
    }

    fn whole(mut self) -> Vec<Value> {
        for (name, mut link) in std::mem::take(&mut self.links) {
            link.insert("name".to_owned(), name.into());
            self.make("Link", Value::Object(link));
        }
        if !self.servers.is_empty() || !self.search.is_empty() {
            let resolver = json!({ "servers": self.servers, "search": self.search });
            self.make("Resolver", resolver);
        }
        self.made
    }

    fn keys(&mut self, link: &str) -> &mut Map<String, Value> {
        self.links.entry(link.to_owned()).or_default()
    }

    fn make(&mut self, kind: &str, mut body: Value) {
        if let Value::Object(body) = &mut body {
            body.insert("apiVersion".to_owned(), crate::newest_version(kind).into());
            body.insert("kind".to_owned(), kind.into());
        }
        self.made.push(body);
    }
}

/// Takes what is wrong out of documents: a key, an item of a list, or a document where that is not enough. What a link is found
/// by is all or nothing: without it, the document would be for another link. Returns whether there was anything.
fn leave_out(documents: &mut Vec<Value>, findings: &[Finding]) -> bool {
    let (mut places, mut gone) = (BTreeSet::new(), BTreeSet::new());
    // From behind: what comes behind an item that is taken out has another place afterwards.
    for finding in findings.iter().rev() {
        let Some(index) = (finding.document as usize).checked_sub(1) else { continue };
        let Some(document) = documents.get_mut(index) else { continue };
        let place = match finding.path.split_once(']') {
            Some((item, _)) => item,
            None => finding.path.as_str(),
        };
        if places.insert((index, place)) && !take_out(document, place) {
            gone.insert(index);
        }
    }
    // What sets a link up goes with what makes it.
    let made = gone.iter().filter_map(|index| documents.get(*index));
    let made = made.filter(|document| document["kind"] != "Link").map(|made| made["name"].clone());
    let made: Vec<Value> = made.collect();
    let mut index = 0..;
    documents.retain(|document| {
        let goes = index.next().is_some_and(|index| gone.contains(&index));
        let follows = document["kind"] == "Link" && made.contains(&document["name"]);
        !goes && !follows
    });
    !places.is_empty()
}

/// Takes out what is at `mtu`, `dhcp4.metric` or `routes[1`. Returns whether that is enough.
fn take_out(document: &mut Value, place: &str) -> bool {
    if let Some((list, index)) = place.split_once('[') {
        let list = document.get_mut(list).and_then(Value::as_array_mut);
        return match (list, index.parse::<usize>()) {
            (Some(list), Ok(index)) if index < list.len() => {
                list.remove(index);
                true
            }
            _ => false,
        };
    }
    let (keys, last) = match place.rsplit_once('.') {
        Some((parent, last)) => {
            (document.pointer_mut(&format!("/{}", parent.replace('.', "/"))), last)
        }
        None => (Some(document), place),
    };
    let keys = keys.and_then(Value::as_object_mut).filter(|_| !place.starts_with("match"));
    keys.is_some_and(|keys| keys.remove(last).is_some())
}

fn push_once(list: &mut Vec<Value>, value: Value, most: usize) {
    if list.len() < most && !list.contains(&value) {
        list.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(draft: NetworkDraft) -> (Vec<Value>, Vec<String>) {
        let (documents, left_out) = draft.documents();
        let text = Value::Array(documents.clone()).to_string();
        canonical::read_network(text.as_bytes()).expect("what is left can be read");
        let place = |finding: Finding| format!("{} {}", finding.kind, finding.path);
        (documents, left_out.into_iter().map(place).collect())
    }

    #[test]
    fn what_no_document_can_say_is_left_out_and_the_rest_holds() {
        let mut draft = NetworkDraft::default();
        draft.set("eth0", "mtu", 576);
        draft.push("eth0", "addresses", "192.0.2.7/24");
        draft.push("eth0", "addresses", "192.0.2.8/99");
        draft.push("eth0", "addresses", "2001:db8::7/64");
        // More than there are rounds.
        for number in 0..100 {
            draft.route("eth0", &format!("10.{number}.0.1/16"), Some("192.0.2.1"), None);
        }
        draft.route("eth0", "0.0.0.0/0", Some("192.0.2.1"), None);
        draft.route("eth0", "10.0.0.0/8", Some("nobody"), None);
        draft.set("eth1", "match", json!({ "mac": "none" }));
        draft.push("eth1", "addresses", "198.51.100.7/24");
        draft.set("a-name-that-is-far-too-long", "mtu", 1500);
        draft.vlan("eth0.5000", "eth0", Some(5000));
        draft.push("eth0.5000", "addresses", "203.0.113.7/24");
        let (documents, left_out) = said(draft);
        let names: Vec<&str> = documents.iter().filter_map(|one| one["name"].as_str()).collect();
        // What another link would have otherwise goes as a whole.
        assert_eq!(names, ["eth0"]);
        assert_eq!(documents[0]["addresses"], json!(["192.0.2.7/24", "2001:db8::7/64"]));
        let default = json!([{ "to": "0.0.0.0/0", "via": "192.0.2.1" }]);
        assert_eq!((&documents[0]["routes"], documents[0].get("mtu")), (&default, None));
        for place in ["Link mtu", "Link addresses[1]", "Link match.mac", "Link name", "VLAN id"] {
            assert!(left_out.iter().any(|one| one == place), "{place} of {left_out:?}");
        }
    }

    #[test]
    fn what_is_in_a_bond_or_a_bridge_has_nothing_of_its_own() {
        let mut draft = NetworkDraft::default();
        draft.push("eth0", "addresses", "192.0.2.7/24");
        draft.set("eth1", "dhcp4", json!({}));
        draft.bridge("br0", &["eth0"], false);
        draft.bond("bond0", &["eth1"], "active-backup", Map::new());
        let (documents, left_out) = said(draft);
        assert_eq!(documents.len(), 6);
        assert_eq!(left_out, ["Link addresses", "Link dhcp4"]);
        // A circle has no beginning.
        let mut draft = NetworkDraft::default();
        draft.bridge("br0", &["br1"], false);
        draft.bridge("br1", &["br0"], false);
        let (documents, left_out) = said(draft);
        assert!(documents.is_empty() && !left_out.is_empty());
    }

    #[test]
    fn nothing_is_left_out_of_what_is_right() {
        let mut draft = NetworkDraft::default();
        draft.set("eth0", "dhcp4", json!({}));
        for number in 0..7 {
            draft.domain(&format!("{number}.example.com"));
        }
        let (documents, left_out) = said(draft);
        assert_eq!((documents.len(), left_out), (2, Vec::new()));
        assert_eq!(documents[1]["search"].as_array().map(Vec::len), Some(MOST_DOMAINS));
    }
}
