// SPDX-License-Identifier: Apache-2.0
//! What platforms say of the network, as documents: `Link`, `VLAN`, `Bond` and `Resolver`.
//!
//! * NoCloud's network-config, version 1 and 2 (netplan), as YAML or JSON; Hetzner's is of version 1:
//!   <https://docs.cloud-init.io/en/latest/reference/network-config.html>.
//! * OpenStack's network_data.json: <https://docs.openstack.org/nova/latest/user/metadata.html>.
//!
//! What is not understood is left out, as long as it takes nothing away from the rest: addresses by router advertisements come
//! without a word anyway. PID 1 reads the documents as strictly as a stranger's.

mod netplan;
mod openstack;
mod version1;

use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// Values of a description that are looked at; more say nothing.
const MOST: usize = 256;
/// Name servers that are taken.
const MOST_SERVERS: usize = 3;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// NoCloud's network-config.
    NoCloud,
    /// OpenStack's network_data.json.
    OpenStack,
}

/// Why a description says nothing.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// No YAML.
    #[error("the description of the network can't be read as YAML: {0}")]
    Yaml(String),
    /// No JSON.
    #[error("the description of the network can't be read as JSON: {0}")]
    Json(String),
    /// A version that is not known.
    #[error("the description of the network is of version {0}; 1 and 2 are known")]
    Version(String),
}

impl Form {
    /// The form of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "nocloud" => Some(Form::NoCloud),
            "openstack" => Some(Form::OpenStack),
            _ => None,
        }
    }

    /// The documents that a description in this form makes.
    ///
    /// # Errors
    /// When it is in none.
    pub fn documents(self, bytes: &[u8]) -> Result<Vec<Value>, DescriptionError> {
        let text = String::from_utf8_lossy(bytes);
        let mut network = Network::default();
        match self {
            Form::NoCloud if text.trim().is_empty() => {}
            Form::NoCloud => {
                let value: Value = serde_yaml::from_str(&text)
                    .map_err(|error| DescriptionError::Yaml(error.to_string()))?;
                let value = value.get("network").unwrap_or(&value);
                match value.get("version").unwrap_or(&Value::Null) {
                    Value::Number(version) if version.as_u64() == Some(1) => {
                        version1::read(value, &mut network);
                    }
                    Value::Number(version) if version.as_u64() == Some(2) => {
                        netplan::read(value, &mut network);
                    }
                    other => return Err(DescriptionError::Version(other.to_string())),
                }
            }
            Form::OpenStack => {
                let value = serde_json::from_str(&text)
                    .map_err(|error| DescriptionError::Json(error.to_string()))?;
                openstack::read(&value, &mut network);
            }
        }
        Ok(network.documents())
    }
}

/// Documents in the making.
#[derive(Debug, Default)]
struct Network {
    links: BTreeMap<String, Map<String, Value>>,
    made: Vec<Value>,
    servers: Vec<Value>,
    search: Vec<Value>,
}

impl Network {
    fn link(&mut self, name: &str) -> &mut Map<String, Value> {
        self.links.entry(name.to_owned()).or_default()
    }

    fn set(&mut self, link: &str, key: &str, value: impl Into<Value>) {
        self.link(link).insert(key.to_owned(), value.into());
    }

    fn push(&mut self, link: &str, key: &str, value: Value) {
        let list = self.link(link).entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list
            && list.len() < MOST
            && !list.contains(&value)
        {
            list.push(value);
        }
    }

    /// The link with this hardware address.
    fn matched(&mut self, link: &str, mac: &str) {
        self.set(link, "match", json!({ "mac": mac.to_ascii_lowercase() }));
    }

    /// An address with its prefix, which may be in a mask of its own.
    fn address(&mut self, link: &str, address: &str, mask: Option<&Value>) {
        let (address, behind) = match address.split_once('/') {
            Some((address, prefix)) => (address, Some(Value::from(prefix))),
            None => (address, mask.cloned()),
        };
        let Ok(ip) = address.parse::<IpAddr>() else { return };
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = behind.and_then(|mask| prefix(&mask)).unwrap_or(whole);
        self.push(link, "addresses", format!("{ip}/{prefix}").into());
    }

    /// A route to a network, `default` among them.
    fn route(&mut self, link: &str, to: &str, via: Option<&str>, metric: Option<u64>) {
        let to = match (to, via.and_then(|via| via.parse().ok())) {
            ("default", Some(IpAddr::V6(_))) => "::/0".to_owned(),
            ("default", _) => "0.0.0.0/0".to_owned(),
            (to, _) => to.to_owned(),
        };
        let mut route = object(json!({ "to": to }));
        route.extend(via.map(|via| ("via".to_owned(), via.into())));
        route.extend(metric.map(|metric| ("metric".to_owned(), metric.into())));
        self.push(link, "routes", Value::Object(route));
    }

    fn gateway(&mut self, link: &str, via: Option<&Value>) {
        if let Some(via) = via.and_then(Value::as_str) {
            self.route(link, "default", Some(via), None);
        }
    }

    fn server(&mut self, server: &Value) {
        if let Some(Ok(ip)) = server.as_str().map(str::parse::<IpAddr>)
            && self.servers.len() < MOST_SERVERS
            && !self.servers.contains(&ip.to_string().into())
        {
            self.servers.push(ip.to_string().into());
        }
    }

    fn domain(&mut self, domain: &Value) {
        if domain.is_string() && self.search.len() < MOST_SERVERS && !self.search.contains(domain) {
            self.search.push(domain.clone());
        }
    }

    fn vlan(&mut self, name: &str, link: &str, id: &Value) {
        // Some write the number as text.
        let id = id.as_u64().or_else(|| id.as_str()?.parse().ok());
        let made = json!({ "name": name, "link": link, "id": id });
        self.made.push(document("VLAN", object(made)));
        self.link(name);
    }

    fn bond(&mut self, name: &str, links: Vec<&str>, mode: Option<&Value>, hash: Option<&Value>) {
        let mode = match mode {
            Some(Value::Number(number)) => number.to_string(),
            mode => mode.and_then(Value::as_str).unwrap_or("active-backup").to_owned(),
        };
        let mode = match mode.as_str() {
            "0" => "balance-rr",
            "1" => "active-backup",
            "2" => "balance-xor",
            "3" => "broadcast",
            "4" => "802.3ad",
            "5" => "balance-tlb",
            "6" => "balance-alb",
            name => name,
        };
        let mut made = object(json!({ "name": name, "links": links, "mode": mode }));
        made.extend(hash.map(|hash| ("hashPolicy".to_owned(), hash.clone())));
        self.made.push(document("Bond", made));
        self.link(name);
    }

    fn documents(self) -> Vec<Value> {
        let mut documents = self.made;
        documents.extend(self.links.into_iter().map(|(name, mut link)| {
            link.insert("name".to_owned(), name.into());
            document("Link", link)
        }));
        if !self.servers.is_empty() {
            let resolver = json!({ "servers": self.servers, "search": self.search });
            documents.push(document("Resolver", object(resolver)));
        }
        documents
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

fn document(kind: &str, mut body: Map<String, Value>) -> Value {
    body.insert("apiVersion".to_owned(), stele_config::newest_version(kind).into());
    body.insert("kind".to_owned(), kind.into());
    Value::Object(body)
}

/// The length of a prefix, of a number or a netmask.
fn prefix(mask: &Value) -> Option<u32> {
    let ones = |bits: u128, width: u32| {
        let bits = bits << (128 - width);
        (bits.leading_ones() == bits.count_ones()).then(|| bits.count_ones())
    };
    match mask {
        Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
        Value::String(text) => text.parse().ok().or_else(|| match text.parse().ok()? {
            IpAddr::V4(mask) => ones(mask.to_bits().into(), 32),
            IpAddr::V6(mask) => ones(mask.to_bits(), 128),
        }),
        _ => None,
    }
}

/// The items of a list, or of something alone; at most so many as are looked at.
fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let items: &[Value] = match value {
        Some(Value::Array(items)) => items,
        Some(one @ (Value::String(_) | Value::Object(_))) => std::slice::from_ref(one),
        _ => &[],
    };
    items.iter().take(MOST)
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn number(value: &Value, key: &str) -> Option<u64> {
    let value = value.get(key)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests;
