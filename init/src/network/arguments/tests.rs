// SPDX-License-Identifier: Apache-2.0

use super::*;
use stele_config::canonical;

/// What a line says, in a word for each thing.
fn said(line: &str) -> String {
    let Read { documents, complaints, .. } = read(line, &["ens3".to_owned()]);
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
        let matched = link.matched().map(|matched| format!("[{matched}]"));
        let dhcp = link.dhcp4().map(|_| "dhcp".to_owned());
        let dhcp = dhcp.into_iter().chain(link.dhcp6().map(|_| "dhcp6".to_owned()));
        let mtu = link.mtu().map(|mtu| format!("mtu {mtu}"));
        let all: Vec<String> =
            matched.into_iter().chain(addresses).chain(routes).chain(dhcp).chain(mtu).collect();
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
    let by_dhcp = |line: &str| read(line, &[]).by_dhcp;
    assert!(by_dhcp("quiet ip=dhcp") && by_dhcp("ip=::::web::dhcp") && !by_dhcp("ip=eth0:dhcp"));
    assert_eq!(said("ip=eth0:dhcp"), "eth0: dhcp");
    assert_eq!(said("ip=eth0:on:9000"), "eth0: dhcp mtu 9000");
    assert_eq!(said("ip=eth0:dhcp6 ip=eth0:dhcp"), "eth0: dhcp dhcp6");
    assert_eq!(said("ip=eth0:auto6 ip=eth1:either6"), "eth0: ; eth1: ");
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
    let name = |line: &str| read(line, &[]).hostname;
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
fn what_a_bond_is_told() {
    let bond = |options: &str| {
        let line = format!("bond=bond0:eth0,eth1:{options}");
        let Read { documents, complaints, .. } = read(&line, &[]);
        assert_eq!(complaints, [] as [String; 0], "{line}");
        let bytes = serde_json::to_vec(&documents).unwrap();
        canonical::read_network(&bytes).unwrap_or_else(|it| panic!("{line}: {it:?}"));
        let kind = |one: &&Value| one["kind"] == "Bond";
        let mut bond = documents.iter().find(kind).unwrap().as_object().unwrap().clone();
        bond.retain(|key, _| !["apiVersion", "kind", "name", "links"].contains(&key.as_str()));
        Value::from(bond)
    };
    assert_eq!(
        bond("mode=active-backup,primary=eth1,miimon=100,updelay=200,downdelay=300"),
        json!({"mode": "active-backup", "primary": "eth1", "miimon": 100, "upDelay": 200, "downDelay": 300})
    );
    assert_eq!(
        bond("mode=1,miimon=0,arp_interval=500,arp_ip_target=192.0.2.1;192.0.2.2,arp_validate=all"),
        json!({"mode": "active-backup", "arpInterval": 500, "arpTargets": ["192.0.2.1", "192.0.2.2"], "arpValidate": "all"})
    );
}

#[test]
fn links_are_named_by_their_hardware_addresses() {
    assert_eq!(said("ifname=lan:52:54:00:AB:cd:01 ip=lan:dhcp"), "lan: [52:54:00:ab:cd:01] dhcp");
    assert_eq!(
        said("vlan=lan7:lan ifname=lan:52:54:00:ab:cd:01"),
        "lan: [52:54:00:ab:cd:01]; lan7: ; VLAN lan7"
    );
    // A name alone is no reason to leave the other links without DHCP.
    assert_eq!(said("ifname=lan:52:54:00:ab:cd:01 ip=dhcp"), "");
}

#[test]
fn who_names_no_link_means_the_only_one() {
    assert_eq!(
        said("ip=192.0.2.10::192.0.2.1:255.255.255.0"),
        "ens3: 192.0.2.10/24 0.0.0.0/0>192.0.2.1"
    );
    assert_eq!(
        said("ip=192.0.2.10::192.0.2.1:24:web::off:192.0.2.53"),
        "ens3: 192.0.2.10/24 0.0.0.0/0>192.0.2.1; [192.0.2.53]"
    );
    assert_eq!(said("ip=::::::dhcp ip=auto6 ip=either6"), "");
    assert_eq!(said("ip=dhcp6"), "ens3: dhcp6");
    let two = ["eth0".to_owned(), "eth1".to_owned()];
    for line in ["ip=192.0.2.10::192.0.2.1:24", "ip=dhcp6"] {
        let Read { documents, complaints, .. } = read(line, &two);
        assert_eq!(documents, [] as [Value; 0], "{line}");
        assert!(matches!(&complaints[..], [one] if one.contains("has 2 of them")), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_said() {
    for line in [
        "ip=eth0:ibft",
        "ip=none",
        "ifname=lan",
        "ifname=lan:52:54:00:ab:cd",
        "ip=192.0.2.10::192.0.2.1:255.0.255.0::eth0:none",
        "ip=192.0.2.10::192.0.2.1:24::",
        "ip=::::::",
        "vlan=eth0",
        "vlan=lan:eth0",
        "bond=b:eth0:active_slave=eth0",
        "bond=b:eth0:updelay=soon",
        "nameserver=dns",
        "rd.route=1",
        "ip=eth0:dhcp:x",
    ] {
        let Read { complaints, .. } = read(line, &[]);
        assert_eq!(complaints.len(), 1, "{line}");
    }
}
