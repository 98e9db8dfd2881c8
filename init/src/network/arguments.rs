// SPDX-License-Identifier: Apache-2.0
//! The network on the kernel command line, in dracut's words (dracut.cmdline(7)): `ip=`, `ifname=`, `vlan=`, `bond=`,
//! `nameserver=` and `rd.route=`, as documents. `ip=` may have the kernel's own form (nfsroot.rst), which names no link.

use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};
use stele_config::{Finding, Mac, NetworkDraft};

/// The options of a bond that are numbers of milliseconds, and what a document calls them.
const TIMING: [(&str, &str); 4] = [
    ("miimon", "miimon"),
    ("updelay", "upDelay"),
    ("downdelay", "downDelay"),
    ("arp_interval", "arpInterval"),
];

/// What was read: documents, the machine's name, and a sentence for each word that makes neither.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub(super) documents: Vec<Value>,
    /// Whether all links get DHCP, by that word and no other.
    pub(super) by_dhcp: bool,
    pub(super) hostname: Option<String>,
    pub(super) complaints: Vec<String>,
}

/// What is known so far, in dracut's words.
#[derive(Debug)]
struct Links<'a> {
    draft: NetworkDraft,
    /// The links of the machine with a device behind them.
    physical: &'a [String],
    /// Names for links, by their hardware addresses.
    named: Vec<(String, Mac)>,
    by_dhcp: bool,
    hostname: Option<String>,
}

/// How a link gets its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// They are written down, or none are.
    Fixed,
    /// By DHCP.
    Dhcp,
    /// By DHCPv6, whatever routers say.
    Dhcp6,
    /// By what routers advertise, which holds of every link, and DHCPv6 when they say so.
    Routers,
}

/// Reads a command line, of a machine with these links.
pub(super) fn read(line: &str, physical: &[String]) -> Read {
    let draft = NetworkDraft::default();
    let mut links = Links { draft, physical, named: Vec::new(), by_dhcp: false, hostname: None };
    let mut complaints = Vec::new();
    for word in line.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else { continue };
        let understood = match key {
            "ip" => links.ip(&fields(value)),
            "ifname" => links.name(value),
            "vlan" => links.vlan(&fields(value)),
            "bond" => links.bond(&fields(value)),
            "rd.route" => links.route(&fields(value)),
            "nameserver" => links.server(value),
            _ => continue,
        };
        if let Err(why) = understood {
            complaints.push(format!("{word} on the kernel command line: {why}"));
        }
    }
    let (by_dhcp, hostname) = (links.by_dhcp, links.hostname.take());
    let (documents, left_out) = links.documents();
    complaints.extend(left_out.iter().map(|finding| format!("the kernel command line: {finding}")));
    Read { documents, by_dhcp, hostname, complaints }
}

/// What colons part, but those in brackets, which go.
fn fields(value: &str) -> Vec<String> {
    let (mut fields, mut field, mut bracketed) = (Vec::new(), String::new(), false);
    for char in value.chars() {
        match char {
            '[' => bracketed = true,
            ']' => bracketed = false,
            ':' if !bracketed => fields.push(std::mem::take(&mut field)),
            char => field.push(char),
        }
    }
    fields.push(field);
    fields
}

impl Links<'_> {
    /// `METHOD`, `LINK:METHOD[:[MTU][:MAC]]` or `ADDRESS[:[PEER]:GATEWAY:NETMASK:HOSTNAME:LINK:METHOD[:…]]`.
    fn ip(&mut self, fields: &[String]) -> Result<(), String> {
        let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        // The kernel takes what is left out at the end as empty.
        if fields.first().is_some_and(|first| first.parse::<IpAddr>().is_ok()) {
            fields.resize(fields.len().max(6), "");
        }
        match fields.as_slice() {
            [method] => self.method_of_all(method),
            [address, _, gateway, mask, hostname, link, rest @ ..]
                if address.is_empty() || address.parse::<IpAddr>().is_ok() =>
            {
                if !hostname.is_empty() {
                    self.hostname = Some((*hostname).to_owned());
                }
                if let ("", "", [method, ..]) = (*address, *link, rest) {
                    return self.method_of_all(method);
                }
                let link = if link.is_empty() { self.only()? } else { (*link).to_owned() };
                if !address.is_empty() {
                    self.address(&link, address, mask, gateway)?;
                }
                let Some((method, rest)) = rest.split_first() else { return Ok(()) };
                self.method(&link, method)?;
                self.rest(&link, rest)
            }
            [link, method, rest @ ..] if !link.is_empty() => {
                self.method(link, method)?;
                self.rest(link, rest)
            }
            _ => Err("it is none of dracut's forms".to_owned()),
        }
    }

    /// The one link that there is, for who names none.
    fn only(&self) -> Result<String, String> {
        match self.physical {
            [only] => Ok(only.clone()),
            all => Err(format!("it names no link, and the machine has {} of them", all.len())),
        }
    }

    /// Without a link it is all of them that have DHCP and heed routers.
    fn method_of_all(&mut self, method: &str) -> Result<(), String> {
        match self::method(method)? {
            Method::Dhcp | Method::Routers => {
                self.by_dhcp = true;
                Ok(())
            }
            Method::Dhcp6 => {
                let only = self.only()?;
                self.method(&only, method)
            }
            Method::Fixed => Err("it names neither an address nor a link".to_owned()),
        }
    }

    fn method(&mut self, link: &str, method: &str) -> Result<(), String> {
        match self::method(method)? {
            Method::Dhcp => self.draft.set(link, "dhcp4", json!({})),
            Method::Dhcp6 => self.draft.set(link, "dhcp6", json!({})),
            Method::Fixed | Method::Routers => self.draft.link(link),
        }
        Ok(())
    }

    /// `NAME:MAC`.
    fn name(&mut self, value: &str) -> Result<(), String> {
        let (name, mac) = value.split_once(':').ok_or("it is not NAME:MAC")?;
        let mac = mac.parse().map_err(|error| format!("{mac} is no hardware address: {error}"))?;
        self.named.push((name.to_owned(), mac));
        Ok(())
    }

    /// What came of it all. A name alone sets no link up, which would take DHCP from all others.
    fn documents(mut self) -> (Vec<Value>, Vec<Finding>) {
        if self.draft.has_links() {
            for (name, mac) in self.named {
                self.draft.set(&name, "match", json!({ "mac": mac.to_string() }));
            }
        }
        self.draft.documents()
    }

    fn address(&mut self, link: &str, address: &str, mask: &str, via: &str) -> Result<(), String> {
        let ip: IpAddr = address.parse().map_err(|_| format!("{address} is no address"))?;
        let prefix = prefix(ip, mask)?;
        self.draft.push(link, "addresses", format!("{ip}/{prefix}"));
        if !via.is_empty() {
            let to = if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            self.draft.route(link, to, Some(via), None);
        }
        Ok(())
    }

    /// `[MTU][:MAC]`, or up to two name servers.
    fn rest(&mut self, link: &str, rest: &[&str]) -> Result<(), String> {
        if let [first, ..] = rest
            && first.parse::<IpAddr>().is_ok()
        {
            return rest.iter().filter(|one| !one.is_empty()).try_for_each(|one| self.server(one));
        }
        let Some((mtu, mac)) = rest.split_first() else { return Ok(()) };
        if !mtu.is_empty() {
            let mtu: u32 = mtu.parse().map_err(|_| format!("{mtu} is no MTU"))?;
            self.draft.set(link, "mtu", mtu);
        }
        if mac.iter().any(|byte| !byte.is_empty()) {
            return Err("no link's hardware address is changed".to_owned());
        }
        Ok(())
    }

    /// `NAME:LINK`, the number being at the end of the name.
    fn vlan(&mut self, fields: &[String]) -> Result<(), String> {
        let [name, link] = fields else { return Err("it is not NAME:LINK".to_owned()) };
        let digits = name.trim_start_matches(|char: char| !char.is_ascii_digit());
        let digits = name.rsplit_once('.').map_or(digits, |(_, digits)| digits);
        let id = digits.parse().map_err(|_| format!("{name} does not end in a number"))?;
        self.draft.vlan(name, link, Some(id));
        Ok(())
    }

    /// `NAME[:LINKS[:OPTIONS[:MTU]]]`.
    fn bond(&mut self, fields: &[String]) -> Result<(), String> {
        let mut fields = fields.iter().map(String::as_str);
        let name = fields.next().filter(|name| !name.is_empty()).unwrap_or("bond0");
        let links = fields.next().filter(|links| !links.is_empty()).unwrap_or("eth0,eth1");
        let links: Vec<&str> = links.split(',').collect();
        let (mut mode, mut more) = ("balance-rr", Map::new());
        for option in fields.next().unwrap_or_default().split(',').filter(|it| !it.is_empty()) {
            let (key, value) = option.split_once('=').ok_or("an option has no value")?;
            let (key, value) = match key {
                "mode" => {
                    mode = value;
                    continue;
                }
                "primary" => ("primary", value.into()),
                "arp_ip_target" => ("arpTargets", value.split(';').collect()),
                "arp_validate" => ("arpValidate", value.into()),
                "xmit_hash_policy" => ("hashPolicy", value.into()),
                "lacp_rate" => {
                    let rate = if matches!(value, "1" | "fast") { "fast" } else { "slow" };
                    ("lacpRate", rate.into())
                }
                _ => {
                    let timing = TIMING.iter().find(|(option, _)| *option == key);
                    let Some((_, name)) = timing else {
                        return Err(format!("a bond has no option {key} here"));
                    };
                    let time: u32 = value.parse().map_err(|_| format!("{key} is no number"))?;
                    // To the kernel that is as good as absent.
                    if time == 0 {
                        continue;
                    }
                    (*name, Value::from(time))
                }
            };
            more.insert(key.to_owned(), value);
        }
        if let Some(mtu) = fields.next().filter(|mtu| !mtu.is_empty()) {
            let mtu: u32 = mtu.parse().map_err(|_| format!("{mtu} is no MTU"))?;
            self.draft.set(name, "mtu", mtu);
        }
        self.draft.bond(name, &links, mode, more);
        Ok(())
    }

    /// `NETWORK/PREFIX:GATEWAY:LINK`.
    fn route(&mut self, fields: &[String]) -> Result<(), String> {
        let [to, via, link] = fields else {
            return Err("it is not NETWORK/PREFIX:GATEWAY:LINK".to_owned());
        };
        self.draft.route(link, to, (!via.is_empty()).then_some(via), None);
        Ok(())
    }

    fn server(&mut self, server: &str) -> Result<(), String> {
        let server = server.trim_start_matches('[').trim_end_matches(']');
        let server: IpAddr = server.parse().map_err(|_| format!("{server} is no address"))?;
        self.draft.server(server);
        Ok(())
    }
}

fn method(word: &str) -> Result<Method, String> {
    match word {
        "dhcp" | "on" | "any" => Ok(Method::Dhcp),
        "dhcp6" => Ok(Method::Dhcp6),
        "auto6" | "either6" => Ok(Method::Routers),
        "none" | "off" | "static" | "" => Ok(Method::Fixed),
        other => Err(format!("a link can't be set up by {other} here")),
    }
}

/// The length of a prefix, of it in digits or as a netmask.
fn prefix(ip: IpAddr, mask: &str) -> Result<u32, String> {
    if mask.is_empty() {
        return Ok(if ip.is_ipv4() { 32 } else { 128 });
    }
    if let Ok(prefix) = mask.parse() {
        return Ok(prefix);
    }
    let bits = mask.parse().map(Ipv4Addr::to_bits).map_err(|_| format!("{mask} is no netmask"))?;
    if bits.leading_ones() == bits.count_ones() {
        Ok(bits.count_ones())
    } else {
        Err(format!("{mask} is no netmask"))
    }
}

#[cfg(test)]
mod tests;
