// SPDX-License-Identifier: Apache-2.0
//! What platforms say of the network, as documents: `Link`, `VLAN`, `Bond`, `Bridge` and `Resolver`.
//!
//! * NoCloud's network-config, version 1 and 2 (netplan), as YAML or JSON; Hetzner's is of version 1:
//!   <https://docs.cloud-init.io/en/latest/reference/network-config.html>.
//! * OpenStack's network_data.json: <https://docs.openstack.org/nova/latest/user/metadata.html>.
//! * The same in the property `network-config` of an OVF environment, as VMware's tools for deploying set it:
//!   <https://docs.cloud-init.io/en/latest/reference/datasources/ovf.html>.
//! * What other platforms say in words of their own: each in its file.
//!
//! What is not understood is left out, as long as it takes nothing away from the rest: addresses by router advertisements come
//! without a word anyway. What was understood and no document can say is left out with a word. PID 1 reads the documents as
//! strictly as a stranger's.

mod azure;
mod digitalocean;
mod equinix;
mod gcp;
mod netplan;
mod opennebula;
mod openstack;
mod oracle;
mod scaleway;
mod version1;
mod vultr;

use crate::{context, ovf};
use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};
use std::net::IpAddr;
use stele_config::{Finding, NetworkDraft};

/// Values of a description that are looked at; more say nothing.
const MOST: usize = 256;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// NoCloud's network-config.
    NoCloud,
    /// OpenStack's network_data.json.
    OpenStack,
    /// OpenNebula's context.sh.
    OpenNebula,
    /// An OVF environment, VMware's among them.
    Ovf,
    /// Of Azure's metadata service.
    Azure,
    /// Of DigitalOcean's.
    DigitalOcean,
    /// Of Equinix Metal's.
    Equinix,
    /// Of Google's.
    Gcp,
    /// Of Oracle's.
    Oracle,
    /// Of Scaleway's.
    Scaleway,
    /// Of Vultr's.
    Vultr,
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
    /// No OVF environment.
    #[error("this is no OVF environment: {0}")]
    Ovf(String),
    /// No base64.
    #[error("the network-config of the OVF environment is not in base64")]
    Base64,
    /// A version that is not known.
    #[error("the description of the network is of version {0}; 1 and 2 are known")]
    Version(String),
}

/// What is said of the network.
#[derive(Debug, Default)]
pub struct Description {
    /// As documents that can be read.
    pub documents: Vec<Value>,
    /// What no document can say.
    pub left_out: Vec<Finding>,
}

impl Description {
    /// The documents; what was left out of them is told on standard error.
    #[must_use]
    pub fn told(self) -> Vec<Value> {
        for finding in self.left_out {
            eprintln!("left out of the description of the network: {finding}");
        }
        self.documents
    }
}

impl Form {
    /// The form of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "nocloud" => Some(Form::NoCloud),
            "openstack" => Some(Form::OpenStack),
            "opennebula" => Some(Form::OpenNebula),
            "ovf" => Some(Form::Ovf),
            "azure" => Some(Form::Azure),
            "digitalocean" => Some(Form::DigitalOcean),
            "equinix" => Some(Form::Equinix),
            "gcp" => Some(Form::Gcp),
            "oracle" => Some(Form::Oracle),
            "scaleway" => Some(Form::Scaleway),
            "vultr" => Some(Form::Vultr),
            _ => None,
        }
    }

    /// What a description in this form says.
    ///
    /// # Errors
    /// When it is in none.
    pub fn documents(self, bytes: &[u8]) -> Result<Description, DescriptionError> {
        let text = String::from_utf8_lossy(bytes);
        let mut network = Network::default();
        match self {
            Form::NoCloud => nocloud(&text, &mut network)?,
            Form::Ovf => {
                let said = ovf::read(&text).map_err(DescriptionError::Ovf)?.network;
                let said = said.map(|said| Base64::decode_vec(&said)).transpose();
                let said = said.map_err(|_| DescriptionError::Base64)?.unwrap_or_default();
                nocloud(&String::from_utf8_lossy(&said), &mut network)?;
            }
            Form::OpenStack => openstack::read(&json(&text)?, &mut network),
            Form::OpenNebula => opennebula::read(&context::variables(&text), &mut network),
            Form::Azure => azure::read(&json(&text)?, &mut network),
            Form::DigitalOcean => digitalocean::read(&json(&text)?, &mut network),
            Form::Equinix => equinix::read(&json(&text)?, &mut network),
            Form::Gcp => gcp::read(&json(&text)?, &mut network),
            Form::Oracle => oracle::read(&json(&text)?, &mut network),
            Form::Scaleway => scaleway::read(&json(&text)?, &mut network),
            Form::Vultr => vultr::read(&json(&text)?, &mut network),
        }
        let (documents, left_out) = network.0.documents();
        Ok(Description { documents, left_out })
    }
}

fn nocloud(text: &str, network: &mut Network) -> Result<(), DescriptionError> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let value: Value =
        serde_yaml::from_str(text).map_err(|error| DescriptionError::Yaml(error.to_string()))?;
    let value = value.get("network").unwrap_or(&value);
    let version = value.get("version").unwrap_or(&Value::Null);
    match version.as_u64() {
        Some(1) => version1::read(value, network),
        Some(2) => netplan::read(value, network),
        _ => return Err(DescriptionError::Version(version.to_string())),
    }
    Ok(())
}

fn json(text: &str) -> Result<Value, DescriptionError> {
    serde_json::from_str(text).map_err(|error| DescriptionError::Json(error.to_string()))
}

/// Documents in the making, in the words of descriptions.
#[derive(Debug, Default)]
struct Network(NetworkDraft);

impl Network {
    /// The link with this hardware address.
    fn matched(&mut self, link: &str, mac: &str) {
        self.0.set(link, "match", json!({ "mac": mac.to_ascii_lowercase() }));
    }

    /// The link with this driver.
    fn driven(&mut self, link: &str, driver: &str) {
        self.0.set(link, "match", json!({ "driver": driver }));
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
        self.0.push(link, "addresses", format!("{ip}/{prefix}"));
    }

    /// A route to a network, `default` among them.
    fn route(&mut self, link: &str, to: &str, via: Option<&str>, metric: Option<u64>) {
        let to = match (to, via.and_then(|via| via.parse().ok())) {
            ("default", Some(IpAddr::V6(_))) => "::/0",
            ("default", _) => "0.0.0.0/0",
            (to, _) => to,
        };
        self.0.route(link, to, via, metric);
    }

    fn gateway(&mut self, link: &str, via: Option<&Value>) {
        if let Some(via) = via.and_then(Value::as_str) {
            self.route(link, "default", Some(via), None);
        }
    }

    fn server(&mut self, server: &Value) {
        if let Some(Ok(server)) = server.as_str().map(str::parse) {
            self.0.server(server);
        }
    }

    fn domain(&mut self, domain: &Value) {
        if let Some(domain) = domain.as_str() {
            self.0.domain(domain);
        }
    }

    fn vlan(&mut self, name: &str, link: &str, id: &Value) {
        // Some write the number as text.
        self.0.vlan(name, link, id.as_u64().or_else(|| id.as_str()?.parse().ok()));
    }

    /// A bond, of which `parameter` has what is said, by the words of [`BOND`].
    fn bond<'v>(
        &mut self,
        name: &str,
        links: &[&str],
        parameter: impl Fn(&str) -> Option<&'v Value>,
    ) {
        let mode = match parameter("mode") {
            Some(Value::Number(number)) => number.to_string(),
            mode => mode.and_then(Value::as_str).unwrap_or("active-backup").to_owned(),
        };
        let said = |words: &[&str]| words.iter().find_map(|word| parameter(word));
        let more = BOND
            .iter()
            .filter_map(|(key, words, value)| Some(((*key).to_owned(), value(said(words)?)?)));
        self.0.bond(name, links, &mode, more.collect());
    }

    /// A bridge. Who describes one means the spanning tree unless he says otherwise.
    fn bridge(&mut self, name: &str, links: &[&str], tree: Option<&Value>) {
        self.0.bridge(name, links, tree.is_none_or(is_true));
    }
}

/// A parameter of a bond: our key for it, the words of descriptions, and our value of theirs.
type Parameter = (&'static str, &'static [&'static str], fn(&Value) -> Option<Value>);

/// What is said of a bond.
const BOND: [Parameter; 8] = [
    ("primary", &["primary"], |value| Some(value.clone())),
    ("miimon", &["mii-monitor-interval", "miimon"], milliseconds),
    ("upDelay", &["up-delay", "updelay"], milliseconds),
    ("downDelay", &["down-delay", "downdelay"], milliseconds),
    ("arpInterval", &["arp-interval"], milliseconds),
    ("arpTargets", &["arp-ip-targets", "arp-ip-target"], |value| match value {
        Value::String(text) => Some(text.split(',').map(str::trim).collect()),
        value => Some(value.clone()),
    }),
    ("lacpRate", &["lacp-rate"], |value| match value.as_u64() {
        Some(0) => Some("slow".into()),
        Some(1) => Some("fast".into()),
        _ => Some(value.clone()),
    }),
    ("hashPolicy", &["transmit-hash-policy", "xmit-hash-policy"], |value| Some(value.clone())),
];

/// A time as a number or a text, with its unit or without.
fn milliseconds(value: &Value) -> Option<Value> {
    let time = match value {
        Value::String(text) => match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(text), _) => text.parse::<u64>().ok()?,
            (None, Some(text)) => text.parse::<u64>().ok()?.saturating_mul(1000),
            (None, None) => text.parse().ok()?,
        },
        value => value.as_u64()?,
    };
    // Both ways of saying that it is not done.
    (time > 0).then(|| time.into())
}

/// YAML of before 1.2 has other words for it.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(word) => matches!(word.to_ascii_lowercase().as_str(), "yes" | "true" | "on"),
        _ => false,
    }
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
