// SPDX-License-Identifier: Apache-2.0
//! Documents of the network in the making, by who finds it described in other words.

use crate::Resolver;
use crate::virtual_link::BondMode;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// Items of a list, and addresses of a link; more say nothing.
const MOST: usize = 256;
const MOST_ADDRESSES: usize = 64;
/// Name servers that are taken, and search domains.
const MOST_SERVERS: usize = 3;

/// Documents in the making. Nothing is checked here: [`crate::canonical::read_network`] reads what comes of it as strictly as
/// a stranger's.
#[derive(Debug, Default)]
pub struct NetworkDraft {
    links: BTreeMap<String, Map<String, Value>>,
    made: Vec<Value>,
    servers: Vec<Value>,
    search: Vec<Value>,
}

impl NetworkDraft {
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
        push_once(&mut self.search, domain.into(), MOST_SERVERS);
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

    /// What came of it.
    #[must_use]
    pub fn documents(mut self) -> Vec<Value> {
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

fn push_once(list: &mut Vec<Value>, value: Value, most: usize) {
    if list.len() < most && !list.contains(&value) {
        list.push(value);
    }
}
