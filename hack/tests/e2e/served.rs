// SPDX-License-Identifier: Apache-2.0
//! Kea and radvd at the other end of a cable: all that they give comes to the machine, holds for as long as they say, and goes.

use crate::{
    fixed::{by_document, link},
    kinds::apply,
    lan::{Lan, wait},
    world::{Kept, World, field, resource, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{machine::Machine, node::Node, suite::Checks};
use serde_json::{Value, json};
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(40);

/// The cards of the machine: the one that it is reached by, and the one on the cable.
const UPLINK: &str = "52:54:00:12:34:56";
const CARD: &str = "52:54:00:00:77:02";

/// What the machine is to have of the servers.
fn documents() -> String {
    let uplink = link("uplink", UPLINK, "dhcp4: {dns: false}");
    let lan = link("lan", CARD, "dhcp4: {}\ndhcp6: {prefix: 56}");
    format!(
        "{uplink}{lan}---\napiVersion: stele/v1\nkind: Dummy\nname: inner
---\napiVersion: stele/v2\nkind: Link\nname: inner\ndelegated: {{from: lan, subnet: 1}}\n"
    )
}

impl Lan {
    /// Starts one of Kea's servers; it is up when this returns.
    fn serve(&mut self, version: u8, mut settings: Value) -> Result<()> {
        let program = format!("kea-dhcp{version}");
        let log = self.folder().join("log");
        fs::write(&log, "")?;
        settings["interfaces-config"] = json!({"interfaces": ["lan"]});
        settings["lease-database"] = json!({"type": "memfile", "persist": false});
        settings["loggers"] = json!([{
            "name": program, "severity": "INFO", "output_options": [{"output": log, "flush": true}],
        }]);
        let file = self.folder().join(format!("{program}.json"));
        fs::write(&file, json!({format!("Dhcp{version}"): settings}).to_string())?;
        self.start(&program, &["-c", &file.to_string_lossy()])?;
        wait(&program, || fs::read_to_string(&log).is_ok_and(|text| text.contains("_STARTED")))
    }

    /// A server of one network, whose leases are short.
    fn serve_four(&mut self, network: &str) -> Result<()> {
        self.serve(
            4,
            json!({
                "valid-lifetime": 24, "renew-timer": 6, "rebind-timer": 12, "authoritative": true,
                "subnet4": [{
                    "subnet": format!("{network}.0/24"), "interface": "lan",
                    "pools": [{"pool": format!("{network}.50 - {network}.50")}],
                }],
                "option-data": [
                    {"name": "domain-name-servers", "data": format!("{network}.1")},
                    {"name": "interface-mtu", "data": "9000"},
                ],
            }),
        )
    }

    fn serve_six(&mut self) -> Result<()> {
        self.serve(
            6,
            json!({
                "server-id": {"type": "LL", "persist": false},
                "preferred-lifetime": 60, "valid-lifetime": 120, "renew-timer": 30, "rebind-timer": 50,
                "subnet6": [{
                    "subnet": "2001:db8:77::/64", "interface": "lan",
                    "pools": [{"pool": "2001:db8:77::50 - 2001:db8:77::50"}],
                    "pd-pools": [{"prefix": "2001:db8:100::", "prefix-len": 40, "delegated-len": 56}],
                }],
            }),
        )
    }

    fn advertise(&mut self) -> Result<()> {
        let file = self.folder().join("radvd.conf");
        fs::write(
            &file,
            "interface lan { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvManagedFlag on; \
             prefix 2001:db8:77::/64 {}; RDNSS 2001:db8:77::53 { AdvRDNSSLifetime 600; }; };",
        )?;
        let pid = self.folder().join("radvd.pid");
        let (file, pid) = (file.to_string_lossy(), pid.to_string_lossy());
        self.start("radvd", &["-n", "-m", "none", "-C", &file, "-p", &pid])
    }
}

/// The state of a link, and all that is shown of it.
fn shown(node: &Kept, document: &str) -> Result<(String, String)> {
    let link = by_document(node, document)?;
    Ok((field(&link, "state")?, link["status"].to_string()))
}

fn has(node: &Kept, document: &str, address: &str) -> bool {
    shown(node, document).is_ok_and(|(_, shown)| shown.contains(address))
}

pub(crate) fn by_real_servers(world: &World, checks: &Checks) -> Result<()> {
    let folder = scratch()?;
    let cable = folder.path().to_owned();
    let mut machine = Machine::live(&world.artefacts)?;
    machine.extra.extend(Lan::card(&cable, CARD));
    // It can have no larger packets, whatever the server says.
    let card = machine.extra.last_mut().context("the card")?;
    card.push_str(",host_mtu=1400");
    let node = Node::start_configured(&world.operator, "served", machine, folder)?;
    let node = Kept(node);
    let mut lan = Lan::new("served", &cable)?;
    lan.within(
        "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; \
         ip address add 10.77.0.1/24 dev lan; ip address add 10.78.0.1/24 dev lan; \
         ip address add 2001:db8:77::1/64 dev lan",
    )?;
    lan.serve_six()?;
    lan.serve_four("10.77.0")?;
    lan.advertise()?;
    node.wait_until_it_answers()?;
    apply(&node, &documents())?;
    checks.check("addresses, a prefix, name servers and an MTU come from Kea and radvd", || {
        for address in
            ["10.77.0.50/24", "2001:db8:77::50/128", "2001:db8:77:0:5054:ff:fe00:7702/64"]
        {
            node.wait_until(&format!("it has {address}"), SOON, || Ok(has(&node, "lan", address)))?;
        }
        node.wait_until("the other link has a network of the prefix", SOON, || {
            Ok(has(&node, "inner", "2001:db8:1"))
        })?;
        let (state, shown) = shown(&node, "lan")?;
        ensure!(state == "ready", "{shown}");
        says(&shown, &["1400"])?;
        let resolver = resource(&node, "resolver", "resolver")?.to_string();
        says(&resolver, &["10.77.0.1", "2001:db8:77::53"])?;
        // Not before the kernel has asked whether its new address is free.
        for other in ["10.77.0.1", "2001:db8:77::1"] {
            let answers = || Ok(node.ctl.run(["ping", other, "-c", "1"]).is_ok());
            node.wait_until(&format!("{other} answers"), SOON, answers)?;
        }
        node.ctl.run(["drift"]).map(drop)
    });
    checks.check("a server that says no to its old address gives another one", || {
        lan.stop("kea-dhcp4")?;
        lan.serve_four("10.78.0")?;
        node.wait_until("it has the other address", SOON, || {
            Ok(has(&node, "lan", "10.78.0.50/24"))
        })?;
        ensure!(!has(&node, "lan", "10.77.0.50"), "it has both: {:?}", shown(&node, "lan")?);
        says(&node.ctl.run(["logs", "init"])?, &["lost the lease"])
    });
    checks.check("a lease that ends while the server is away ends, and it says why", || {
        lan.stop("kea-dhcp4")?;
        node.wait_until("the address goes", SOON * 2, || Ok(!has(&node, "lan", "10.78.0.50")))?;
        let (state, shown) = shown(&node, "lan")?;
        ensure!(state == "waiting", "{state}: {shown}");
        // What others gave stays.
        says(&shown, &["2001:db8:77::50/128", "DHCP"])?;
        lan.serve_four("10.78.0")?;
        node.wait_until("it has the address again", SOON * 2, || {
            Ok(has(&node, "lan", "10.78.0.50/24"))
        })
    });
    Ok(())
}
