// SPDX-License-Identifier: Apache-2.0
//! The network's kinds, on the kernel of the image: that each takes effect while the connection that brings it lives, and that
//! it goes away again.

use crate::{
    kinds::{apply, example, links},
    world::{Kept, World, field, resource, resources, says, scratch, with_more},
};
use anyhow::{Result, ensure};
use hack::{machine::Machine, node::Node, suite::Checks};
use std::{fs, path::Path, time::Duration};

const SOON: Duration = Duration::from_secs(20);

/// The link that the machine is reached by.
const UPLINK: &str = "---\napiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp4: {}\n";

/// Links of every form, some on or in others.
const VIRTUAL: &str = "---\napiVersion: stele/v1\nkind: Dummy\nname: services
---\napiVersion: stele/v2\nkind: Link\nname: services\naddresses: [192.0.2.1/32]
---\napiVersion: stele/v1\nkind: Veth\nname: inner\npeer: outer
---\napiVersion: stele/v1\nkind: Bridge\nname: br0\nports: [{link: outer}]
---\napiVersion: stele/v1\nkind: VLAN\nname: storage\nlink: inner\nid: 42
---\napiVersion: stele/v1\nkind: VRF\nname: red\ntable: 100\nlinks: [storage]
---\napiVersion: stele/v2\nkind: Link\nname: storage\naddresses: [198.51.100.1/24]
routes:
- {to: 203.0.113.0/24, via: 198.51.100.2, source: 198.51.100.1}
- {to: 198.18.0.0/15, type: blackhole}
---\napiVersion: stele/v1\nkind: RoutingRule\nname: storage\npriority: 900\nfrom: 198.51.100.0/24\ntable: 100
---\napiVersion: stele/v1\nkind: Bond\nname: bond0\nmode: 802.3ad\nlacpRate: fast\n";

/// A bridge that looks at VLANs, between the bond of a peer and its VLAN.
const SWITCH: &str = "---\napiVersion: stele/v1\nkind: Bridge\nname: br0\nvlanFiltering: true\nvlans: [42]\nports: [{link: bond0, PORT}]\n";

/// The hardware address of the first card that QEMU makes.
const UPLINK_MAC: &str = "52:54:00:12:34:56";

/// One of two machines with two cables between them, of which each has what the other has.
struct Peer {
    number: u8,
    private: &'static str,
    public: &'static str,
}

const PEERS: [Peer; 2] = [
    Peer {
        number: 1,
        private: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        public: "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=",
    },
    Peer {
        number: 2,
        private: "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=",
        public: "WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpns=",
    },
];

impl Peer {
    /// Both cables as one by LACP, a VLAN on that, and a tunnel through it to a machine that is known by its name.
    fn documents(&self, other: &Peer) -> String {
        let Peer { number, private, .. } = self;
        let Peer { number: far, public, .. } = other;
        // The kernel finds the cards in any order.
        let named = |name: &str, mac: &str, more: &str| {
            format!(
                "---\napiVersion: stele/v2\nkind: Link\nname: {name}\nmatch: {{mac: '{mac}'}}\n{more}"
            )
        };
        let uplink = named("uplink", UPLINK_MAC, "dhcp4: {}\n");
        let (left, right) = (named("left", &self.mac(0), ""), named("right", &self.mac(1), ""));
        format!(
            "{uplink}{left}{right}---\napiVersion: stele/v1\nkind: Bond\nname: bond0\nlinks: [left, right]\nmode: 802.3ad\nlacpRate: fast
---\napiVersion: stele/v1\nkind: VLAN\nname: between\nlink: bond0\nid: 42
---\napiVersion: stele/v2\nkind: Link\nname: between\naddresses: [192.0.2.{number}/24]
---\napiVersion: stele/v1\nkind: WireGuard\nname: wg0\nport: 51820\nprivateKey: {private}
peers:\n- publicKey: {public}\n  endpoint: far.test:51820\n  allowedIPs: [198.51.100.{far}/32]
---\napiVersion: stele/v2\nkind: Link\nname: wg0\naddresses: [198.51.100.{number}/24]
---\napiVersion: stele/v1\nkind: Hosts\nname: far\nhosts: [{{address: 192.0.2.{far}, names: [far.test]}}]\n"
        )
    }

    /// The hardware address of its end of a cable.
    fn mac(&self, cable: u8) -> String {
        format!("52:54:00:00:0{}:0{cable}", self.number)
    }

    /// The machine, with its ends of the cables in `folder`.
    fn start(&self, world: &World, folder: &Path, other: &Peer) -> Result<Kept> {
        let mut machine = Machine::live(&world.artefacts)?;
        for cable in 0..2 {
            let end = |peer: &Peer| folder.join(format!("{}-{cable}", peer.number));
            let netdev = format!(
                "dgram,id=cable{cable},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                end(self).display(),
                end(other).display()
            );
            // LACP joins no ports that don't know how fast they are.
            let card = format!(
                "virtio-net-pci,netdev=cable{cable},mac={},speed=10000,duplex=full,romfile=",
                self.mac(cable)
            );
            machine.extra.extend(["-netdev".to_owned(), netdev, "-device".to_owned(), card]);
        }
        let name = format!("peer-{}", self.number);
        Ok(Kept(Node::start_configured(&world.operator, &name, machine, scratch()?)?))
    }
}

/// The kernel of another machine at the other end: LACP, a VLAN and a tunnel, one on the other.
pub(crate) fn peers(world: &World, checks: &Checks) -> Result<()> {
    let folder = scratch()?;
    let [one, two] = &PEERS;
    let (first, second) =
        (one.start(world, folder.path(), two)?, two.start(world, folder.path(), one)?);
    for (node, peer, other) in [(&first, one, two), (&second, two, one)] {
        node.wait_until_it_answers()?;
        apply(node, &peer.documents(other))?;
    }
    checks.check("two cables are one by LACP, which a VLAN is on", || {
        becomes(&first, "bond0", "ready")?;
        becomes(&first, "between", "ready")?;
        let links = resources(&first, "link")?;
        let joined = links.iter().filter(|link| link["status"]["master"] == "bond0");
        ensure!(joined.count() == 2, "{links:?}");
        answers(&first, "192.0.2.2")
    });
    checks.check("an address of the other machine is refused", || {
        let both = one.documents(two).replace("[192.0.2.1/24]", "[192.0.2.1/24, 192.0.2.2/24]");
        let file = with_more(&first, &both)?;
        let refused = first.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&refused, &["192.0.2.2/24", "another machine", "52:54:00:00:02:0"])?;
        answers(&first, "192.0.2.2")
    });
    checks.check("packets go through a tunnel", || {
        answers(&first, "198.51.100.2")?;
        let shown = resource(&first, "wireguard", "wg0")?.to_string();
        says(&shown, &[two.public, "192.0.2.2:51820"])?;
        // Nobody tells when peers agree on keys; a change of anything has it looked at.
        let more = "---\napiVersion: stele/v1\nkind: Dummy\nname: services\n";
        apply(&first, &format!("{}{more}", one.documents(two)))?;
        says(&resource(&first, "wireguard", "wg0")?.to_string(), &["lastHandshake"])
    });
    checks.check("a bridge passes packets of the VLANs of its ports, and no others", || {
        let switch = |port: &str| {
            let documents = one.documents(two).replace("link: bond0\nid: 42", "link: br0\nid: 42");
            format!("{documents}{}", SWITCH.replace("PORT", port))
        };
        apply(&first, &switch("pvid: 0, vlans: [40-49]"))?;
        becomes(&first, "between", "ready")?;
        answers(&first, "192.0.2.2")?;
        let port = resource(&first, "link", "bond0")?.to_string();
        says(&port, &["40-49"])?;
        ensure!(!port.contains("pvid"), "{port}");
        // The VLAN is the port's no more.
        apply(&first, &switch("vlans: [43-49]"))?;
        becomes(&first, "bond0", "ready")?;
        says(&resource(&first, "link", "bond0")?.to_string(), &["43-49", "pvid"])?;
        ensure!(first.ctl.run(["ping", "192.0.2.2", "-c", "1"]).is_err(), "it is still in VLAN 42");
        apply(&first, &switch("vlans: [42]"))?;
        answers(&first, "192.0.2.2")?;
        first.ctl.run(["drift"]).map(drop)
    });
    Ok(())
}

fn answers(node: &Kept, address: &str) -> Result<()> {
    node.wait_until(&format!("{address} answers"), SOON, || {
        Ok(node.ctl.run(["ping", address, "-c", "1"]).is_ok())
    })
}

pub(crate) fn kinds(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("network")?;
    checks.check("links of every form are made, and go with their documents", || {
        apply(&node, &format!("{UPLINK}{VIRTUAL}"))?;
        for (link, state) in [
            ("services", "ready"),
            ("inner", "ready"),
            ("outer", "ready"),
            ("br0", "ready"),
            ("storage", "ready"),
            ("red", "ready"),
            ("bond0", "no-carrier"),
        ] {
            becomes(&node, link, state)?;
        }
        ensure!(field(&resource(&node, "link", "outer")?, "master")? == "br0");
        ensure!(field(&resource(&node, "link", "storage")?, "master")? == "red");
        let route = resource(&node, "route", "storage/203.0.113.0/24/0/100")?;
        ensure!(field(&route, "via")? == "198.51.100.2", "{route}");
        ensure!(field(&route, "source")? == "198.51.100.1", "{route}");
        let hole = "lo/198.18.0.0/15/0/100";
        let blackhole = resource(&node, "route", hole)?;
        ensure!(field(&blackhole, "type")? == "blackhole", "{blackhole}");
        let rule = resource(&node, "routingrule", "900/ipv4/100")?;
        ensure!(field(&rule, "from")? == "198.51.100.0/24", "{rule}");
        node.ctl.run(["drift"])?;
        apply(&node, "")?;
        ensure!(links(&node)? == "eth0 lo", "{}", links(&node)?);
        ensure!(resource(&node, "route", hole).is_err(), "it is still there");
        Ok(())
    });
    checks.check("the link that carries the change comes into a bond, and out of it", || {
        let bond =
            "---\napiVersion: stele/v1\nkind: Bond\nname: bond0\nlinks: [eth0]\nprimary: eth0
---\napiVersion: stele/v2\nkind: Link\nname: bond0\ndhcp4: {}\n";
        apply(&node, bond)?;
        becomes(&node, "bond0", "ready")?;
        let bond0 = resource(&node, "link", "bond0")?;
        says(&bond0.to_string(), &["10.0.2.15"])?;
        ensure!(field(&bond0, "primary")? == "eth0", "{bond0}");
        // The gateway is asked whether the link works, and then its carrier is looked at again.
        let index = field(&bond0, "index")?;
        let said = |more: &str| bond.replace("primary: eth0\n", more);
        let by_arp = "arpInterval: 500\narpTargets: [10.0.2.2, \"fec0::2\"]\narpValidate: all\n";
        for more in [by_arp, "arpInterval: 500\narpTargets: [10.0.2.2]\n", "upDelay: 200\n"] {
            apply(&node, &said(more))?;
            becomes(&node, "bond0", "ready")?;
            let bond0 = resource(&node, "link", "bond0")?;
            ensure!(field(&bond0, "index")? == index, "it was made anew");
            ensure!(field(&bond0, "primary").is_err(), "{bond0}");
        }
        apply(&node, &said("mode: balance-xor\n"))?;
        becomes(&node, "bond0", "ready")?;
        apply(&node, "")?;
        becomes(&node, "eth0", "ready")?;
        says(&resource(&node, "link", "eth0")?.to_string(), &["10.0.2.15"])
    });
    checks.check("the address that a configuration comes to goes only to be confirmed", || {
        let apply_file = |more: &str| -> Result<String> {
            Ok(with_more(&node, more)?.to_string_lossy().into_owned())
        };
        let vlan = "---\napiVersion: stele/v1\nkind: VLAN\nname: storage\nlink: eth0\nid: 42
---\napiVersion: stele/v2\nkind: Link\nname: storage\naddresses: [198.51.100.1/24]\n";
        let fixed = "---\napiVersion: stele/v2\nkind: Link\nname: eth0\naddresses: [10.0.2.15/24]\nroutes: [{to: 0.0.0.0/0, via: 10.0.2.2}]\n";
        for cut in [vlan, &fixed.replace("10.0.2.15", "10.0.2.16")] {
            let refused = node.ctl.fails(["apply-config", "-f", &apply_file(cut)?])?;
            says(&refused, &["eth0 loses the address 10.0.2.15", "dhcp4 on eth0", "confirmed"])?;
        }
        // What DHCP gave may be written down, and the other way round.
        apply(&node, &format!("{fixed}{vlan}"))?;
        becomes(&node, "storage", "ready")?;
        apply(&node, &format!("{UPLINK}{vlan}"))?;
        apply(&node, "")?;
        becomes(&node, "eth0", "ready")?;
        let file = apply_file(vlan)?;
        node.ctl.output(["apply-config", "-f", &file, "--confirm-within", "10s", "--timeout", "5s"])?;
        node.wait_until("it answers again", Duration::from_secs(60), || {
            Ok(links(&node).is_ok_and(|links| links == "eth0 lo"))
        })
    });
    checks.check("DHCPv6 is asked, and nothing waits for a server that is not there", || {
        apply(&node, &UPLINK.replace("dhcp4: {}\n", "dhcp4: {}\ndhcp6: {}\n"))?;
        node.wait_until("it says that no server answers", SOON, || {
            Ok(resource(&node, "link", "eth0")?.to_string().contains("No DHCPv6 server"))
        })?;
        let agent = resource(&node, "service", "dhcp6-eth0")?;
        ensure!(field(&agent, "state")? == "running", "{agent}");
        ensure!(field(&agent, "restarts")? == "0", "{agent}");
        says(&resource(&node, "link", "eth0")?.to_string(), &["10.0.2.15"])?;
        apply(&node, "")?;
        node.wait_until("the agent ends", SOON, || {
            Ok(field(&resource(&node, "service", "dhcp6-eth0")?, "state")? == "stopped")
        })
    });
    checks.check("a DHCP server hears a name that is given while the machine runs", || {
        let files = scratch()?;
        let file = files.path().join("dhcp.pcap");
        let path = file.to_string_lossy();
        let captured =
            node.ctl.follow(["pcap", "eth0", "-w", &path, "--filter", "udp port 67", "-c", "1"])?;
        node.wait_until("the capture has begun", SOON, || {
            Ok(fs::metadata(&file).is_ok_and(|file| file.len() >= 24))
        })?;
        let name = "named-while-it-runs";
        // A name for the server alone: by another one of its own the machine would be reached otherwise.
        apply(&node, &UPLINK.replace("{}", &format!("{{hostname: {name}}}")))?;
        ensure!(captured.wait()?, "the capture failed");
        let packet = fs::read(&file)?;
        ensure!(packet.windows(name.len()).any(|part| part == name.as_bytes()), "{packet:?}");
        let eth0 = resource(&node, "link", "eth0")?;
        says(&eth0.to_string(), &["10.0.2.15"])?;
        apply(&node, "")
    });
    checks.check("the firewall shuts what it should, and never the API unasked", || {
        let shut = "---\napiVersion: stele/v1\nkind: Firewall\ningress: drop\n";
        let file = with_more(&node, shut)?;
        let refused = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&refused, &["Firewall", "50000", "confirmed"])?;
        // Somebody else is let in: it is the caller's own address that counts, which here is that of QEMU's gateway.
        let others = format!("{shut}rules: [{{protocol: tcp, from: [192.0.2.0/24]}}]\n");
        let file = with_more(&node, &others)?;
        let refused = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&refused, &["not let 10.0.2.2", "50000", "confirmed"])?;
        apply(&node, &others.replace("192.0.2.0/24", "10.0.2.2/32"))?;
        let metrics = "---\napiVersion: stele/v1\nkind: Metrics\naddress: 0.0.0.0:9100\n";
        apply(&node, &format!("{metrics}{}", example("Firewall")?))?;
        let firewall = resource(&node, "firewall", "firewall")?;
        ensure!(field(&firewall, "state")? == "in-force", "{firewall}");
        ensure!(field(&firewall, "forward")? == "drop", "{firewall}");
        node.ctl.run(["drift"])?;
        // Over a connection of its own, by address and by the name server that answers from without.
        node.ctl.run(["ping", "10.0.2.2", "-c", "1"])?;
        apply(&node, "")?;
        ensure!(resource(&node, "firewall", "firewall").is_err(), "it is still there");
        // Nobody confirms it, and the machine comes back by itself.
        let file = with_more(&node, shut)?;
        node.ctl
            .run(["apply-config", "-f", &file.to_string_lossy(), "--confirm-within", "10s"])
            .ok();
        node.wait_until("it answers again", Duration::from_secs(60), || {
            Ok(resource(&node, "firewall", "firewall").is_err()
                && resource(&node, "link", "eth0").is_ok())
        })
    });
    checks.check("a rule is for the link that a document is for, whatever its name", || {
        let uplink = UPLINK.replace("eth0", &format!("uplink\nmatch: {{mac: '{UPLINK_MAC}'}}"));
        let shut = "---\napiVersion: stele/v1\nkind: Firewall\ningress: drop\n";
        let rules = "rules: [{protocol: tcp, interfaces: [uplink]}]\n";
        let rule = "---\napiVersion: stele/v1\nkind: RoutingRule\nname: up\npriority: 900\nincoming: uplink\ntable: 100\n";
        let file = with_more(&node, &format!("{uplink}{shut}{rules}{rule}"))?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy(), "--confirm-within", "30s"])?;
        let rule = resource(&node, "routingrule", "900/ipv4/100")?;
        ensure!(field(&rule, "incoming")? == "eth0", "{rule}");
        // A connection of its own, which that rule alone lets in.
        node.ctl.run(["confirm"])?;
        apply(&node, "")
    });
    checks.check("a machine is found by the name that the configuration gives it", || {
        let hosts = "---\napiVersion: stele/v1\nkind: Hosts\nname: gateway\nhosts: [{address: 10.0.2.2, names: [gateway.test]}]\n";
        apply(&node, hosts)?;
        says(&resource(&node, "hosts", "gateway")?.to_string(), &["10.0.2.2 gateway.test"])?;
        apply(&node, "")
    });
    checks.check("a tunnel has the key that it is given, or one of its own that stays", || {
        let key = "privateKey: AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n";
        let given = format!("---\napiVersion: stele/v1\nkind: WireGuard\nname: wg1\n{key}");
        let own = example("WireGuard")?;
        apply(&node, &format!("{UPLINK}{own}{given}"))?;
        let wg1 = resource(&node, "wireguard", "wg1")?;
        ensure!(
            field(&wg1, "publicKey")? == "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=",
            "{wg1}"
        );
        let public_key = || field(&resource(&node, "wireguard", "wg0")?, "publicKey");
        let before = public_key()?;
        says(&resource(&node, "wireguard", "wg0")?.to_string(), &["51820", "xTIBA5rboUvn"])?;
        apply(&node, "")?;
        ensure!(links(&node)? == "eth0 lo", "{}", links(&node)?);
        apply(&node, &format!("{UPLINK}{own}"))?;
        ensure!(public_key()? == before, "another key");
        apply(&node, "")
    });
    Ok(())
}

fn becomes(node: &Kept, link: &str, state: &str) -> Result<()> {
    node.wait_until(&format!("{link} is {state}"), SOON, || {
        Ok(resource(node, "link", link)
            .and_then(|link| field(&link, "state"))
            .is_ok_and(|now| now == state))
    })
}
