// SPDX-License-Identifier: Apache-2.0
//! The network on the kernel command line, in dracut's words (dracut.cmdline(7)): `ip=`, `vlan=`, `bond=`, `nameserver=` and
//! `rd.route=`, as documents.

use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};
use stele_config::NetworkDraft;

/// What was read: documents, the machine's name, and a sentence for each word that makes neither.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub(super) documents: Vec<Value>,
    pub(super) hostname: Option<String>,
    pub(super) complaints: Vec<String>,
}

/// What is known so far, in dracut's words.
#[derive(Debug, Default)]
struct Links {
    draft: NetworkDraft,
    hostname: Option<String>,
}

/// Reads a command line.
pub(super) fn read(line: &str) -> Read {
    let mut links = Links::default();
    let mut complaints = Vec::new();
    for word in line.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else { continue };
        let understood = match key {
            "ip" => links.ip(&fields(value)),
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
    let Links { draft, hostname } = links;
    let (documents, left_out) = draft.documents();
    complaints.extend(left_out.iter().map(|finding| format!("the kernel command line: {finding}")));
    Read { documents, hostname, complaints }
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

impl Links {
    /// `METHOD`, `LINK:METHOD[:[MTU][:MAC]]` or `ADDRESS:[PEER]:GATEWAY:NETMASK:HOSTNAME:LINK:METHOD[:…]`.
    fn ip(&mut self, fields: &[String]) -> Result<(), String> {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        match fields.as_slice() {
            // Without a link it says what holds anyway: DHCP on all of them.
            [method] => dhcp(method).map(drop),
            [address, _, gateway, mask, hostname, link, rest @ ..]
                if address.is_empty() || address.parse::<IpAddr>().is_ok() =>
            {
                if !hostname.is_empty() {
                    self.hostname = Some((*hostname).to_owned());
                }
                if link.is_empty() {
                    // Of all links it says what holds anyway, and can name the machine.
                    if address.is_empty()
                        && let [method, ..] = rest
                        && dhcp(method)?
                    {
                        return Ok(());
                    }
                    return Err("it names no link".to_owned());
                }
                if !address.is_empty() {
                    self.address(link, address, mask, gateway)?;
                }
                let Some((method, rest)) = rest.split_first() else { return Ok(()) };
                self.method(link, method)?;
                self.rest(link, rest)
            }
            [link, method, rest @ ..] if !link.is_empty() => {
                self.method(link, method)?;
                self.rest(link, rest)
            }
            _ => Err("it is none of dracut's forms".to_owned()),
        }
    }

    fn method(&mut self, link: &str, method: &str) -> Result<(), String> {
        if dhcp(method)? {
            self.draft.set(link, "dhcp4", json!({}));
        } else {
            self.draft.link(link);
        }
        Ok(())
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
                "miimon" => {
                    let miimon: u32 = value.parse().map_err(|_| "miimon is no number")?;
                    ("miimon", Value::from(miimon))
                }
                "xmit_hash_policy" => ("hashPolicy", value.into()),
                "lacp_rate" => {
                    let rate = if matches!(value, "1" | "fast") { "fast" } else { "slow" };
                    ("lacpRate", rate.into())
                }
                _ => return Err(format!("a bond has no option {key} here")),
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

/// Whether a method is DHCP.
fn dhcp(method: &str) -> Result<bool, String> {
    match method {
        "dhcp" | "on" | "any" | "either6" => Ok(true),
        "none" | "off" | "static" | "" => Ok(false),
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
mod tests {
    use super::*;
    use stele_config::canonical;

    /// What a line says, in a word for each thing.
    fn said(line: &str) -> String {
        let Read { documents, hostname: _, complaints } = read(line);
        assert_eq!(complaints, [] as [String; 0], "{line}");
        let bytes = serde_json::to_vec(&documents).unwrap();
        let network = canonical::read_network(&bytes)
            .unwrap_or_else(|findings| panic!("{line}: {findings:?}: {documents:?}"));
        let mut words = Vec::new();
        for link in network.links() {
            let addresses = link.addresses().iter().map(ToString::to_string);
            let routes = link.routes().iter().map(|route| {
                format!("{}>{}", route.to, route.via.map(|via| via.to_string()).unwrap_or_default())
            });
            let dhcp = link.dhcp4().map(|_| "dhcp".to_owned());
            let mtu = link.mtu().map(|mtu| format!("mtu {mtu}"));
            let all: Vec<String> = addresses.chain(routes).chain(dhcp).chain(mtu).collect();
            words.push(format!("{}: {}", link.name(), all.join(" ")));
        }
        words.extend(
            network.virtual_links().iter().map(|link| format!("{} {}", link.kind(), link.name())),
        );
        words.extend(network.resolver().map(|it| format!("{:?}", it.servers())));
        words.join("; ")
    }

    #[test]
    fn links_in_dracut_s_words() {
        assert_eq!(said("quiet ip=dhcp"), "");
        assert_eq!(said("ip=eth0:dhcp"), "eth0: dhcp");
        assert_eq!(said("ip=eth0:on:9000"), "eth0: dhcp mtu 9000");
        assert_eq!(
            said("ip=192.0.2.10::192.0.2.1:255.255.255.0:web:eth0:none:192.0.2.53:192.0.2.54"),
            "eth0: 192.0.2.10/24 0.0.0.0/0>192.0.2.1; [192.0.2.53, 192.0.2.54]"
        );
        assert_eq!(
            said("ip=[2001:db8::2]::[2001:db8::1]:64::eth1:off nameserver=[2001:db8::53]"),
            "eth1: 2001:db8::2/64 ::/0>2001:db8::1; [2001:db8::53]"
        );
        assert_eq!(
            said("ip=192.0.2.10:::24::eth0 rd.route=198.51.100.0/24:192.0.2.1:eth0"),
            "eth0: 192.0.2.10/24 198.51.100.0/24>192.0.2.1"
        );
    }

    #[test]
    fn the_machine_may_be_named() {
        let name = |line: &str| read(line).hostname;
        let fixed = "ip=192.0.2.10::192.0.2.1:24:web.example:eth0:none";
        assert_eq!(name(fixed).as_deref(), Some("web.example"));
        assert_eq!(name("ip=::::web::dhcp").as_deref(), Some("web"));
        assert_eq!(said("ip=::::web::dhcp"), "");
        assert_eq!(name("ip=192.0.2.10::192.0.2.1:24::eth0:none ip=eth1:dhcp"), None);
    }

    #[test]
    fn vlans_and_bonds() {
        assert_eq!(
            said("ip=10.0.0.2::10.0.0.1:255.255.255.0::vlan0042:none vlan=vlan0042:eth0"),
            "vlan0042: 10.0.0.2/24 0.0.0.0/0>10.0.0.1; VLAN vlan0042"
        );
        assert_eq!(said("vlan=eth0.7:eth0"), "eth0.7: ; VLAN eth0.7");
        assert_eq!(
            said("bond=bond0:eth0,eth1:mode=4,miimon=100,lacp_rate=1:9000 ip=bond0:dhcp"),
            "bond0: dhcp mtu 9000; Bond bond0"
        );
        assert_eq!(said("bond=bond0:eth0,eth1"), "bond0: ; Bond bond0");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for line in [
            "ip=eth0:auto6",
            "ip=192.0.2.10::192.0.2.1:255.0.255.0::eth0:none",
            "ip=192.0.2.10::192.0.2.1:24::",
            "ip=::::::",
            "vlan=eth0",
            "vlan=lan:eth0",
            "bond=b:eth0:primary=eth0",
            "nameserver=dns",
            "rd.route=1",
            "ip=eth0:dhcp:x",
        ] {
            let Read { documents: _, hostname: _, complaints } = read(line);
            assert_eq!(complaints.len(), 1, "{line}");
        }
    }
}
