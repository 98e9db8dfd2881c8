// SPDX-License-Identifier: Apache-2.0
//! Clouds whose metadata service is where a router says: CloudStack, whose router is the service, and Equinix Metal, whose
//! service has a name and TLS. The router is dnsmasq, on a network of its own. The API is reached by another network, which leads
//! nowhere, and whose DHCP server is nobody's service.

use crate::{
    clouds::{ATTRIBUTES, is_configured, knows},
    fixed::by_document,
    lan::{Lan, wait},
    world::{Kept, World, field, is_named, nameless, resource, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{artefacts::Artefacts, machine::Machine, node::Node, suite::Checks, variants::BELIEVED};
use serde_json::{Map, Value, json};
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;

/// The router, in the network in which it gives addresses.
const ROUTER: &str = "10.77.0.1";
/// How long what is shown may take to be there.
const SOON: Duration = Duration::from_secs(60);

/// What each of them is known by, and the card that is on the router's network.
struct Cloud {
    name: &'static str,
    firmware: &'static str,
    arguments: &'static str,
    mac: &'static str,
}

const CLOUDSTACK: Cloud = Cloud {
    name: "cloudstack",
    firmware: "type=1,manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor",
    arguments: "",
    mac: "52:54:00:00:77:02",
};

/// Whose firmware says who made the machine. The card is the first of the two that the service describes.
const EQUINIX: Cloud = Cloud {
    name: "equinix",
    firmware: "type=1,manufacturer=Supermicro,product=SYS-510T-ML",
    arguments: "stele.platform=equinix",
    mac: "0c:c4:7a:b5:85:16",
};

/// The second card, at a port that has no cable.
const SPARE: [&str; 4] = [
    "-netdev",
    "hubport,id=spare,hubid=1",
    "-device",
    "virtio-net-pci,id=second,netdev=spare,speed=10000,duplex=full,mac=0c:c4:7a:b5:85:17,romfile=",
];

/// The addresses of Equinix Metal's gateways, and of the name servers that its machines know without being told.
const GATEWAYS: [&str; 5] = [
    "198.51.100.6/31",
    "10.80.156.0/31",
    "2001:db8:1::2/127",
    "147.75.207.207/32",
    "147.75.207.208/32",
];

/// A machine in such a cloud.
struct Place {
    node: Kept,
    lan: Lan,
    /// What its service has for it, and what that was told.
    folder: TempDir,
}

impl Cloud {
    /// Starts a machine on a network in which nothing else is yet.
    fn start(&self, world: &World, image: &Artefacts, more: &[&str]) -> Result<Place> {
        let (dir, folder) = (scratch()?, scratch()?);
        let cable = dir.path().to_owned();
        let label = format!("in-{}", self.name);
        let machine = Machine::live(image)?.append(self.arguments);
        let node = Node::start_with(&world.operator, &label, machine, dir, |mut machine, made| {
            fs::write(folder.path().join("user-data"), nameless(&made.machine)?)?;
            fs::write(folder.path().join("hostname"), &label)?;
            machine.restricted = true;
            machine.extra.extend(Lan::card(&cable, self.mac));
            machine
                .extra
                .extend(["-smbios", self.firmware].iter().chain(more).map(|&word| word.to_owned()));
            Ok(machine)
        })?;
        let node = Kept(node);
        let lan = Lan::new(self.name, &cable)?;
        lan.within(&format!("ip address add {ROUTER}/24 dev lan"))?;
        Ok(Place { node, lan, folder })
    }
}

impl Place {
    /// Starts the service at a port of the router's, and then the router, at which this name leads to the service.
    fn serve(&mut self, cloud: &Cloud, port: &str, more: &[&str], name: &str) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/metadata.py");
        let (script, folder) = (script.to_string_lossy(), self.folder.path().to_string_lossy());
        let arguments = [&[&*script, cloud.name, &*folder, ROUTER, port], more].concat();
        self.lan.start("/usr/bin/python3", &arguments)?;
        let listens = format!("ss -ltnH | grep -q '{ROUTER}:{port} '");
        wait("the service", || self.lan.within(&listens).is_ok())?;
        let pid = self.lan.folder().join("dnsmasq.pid");
        let arguments = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--log-facility=/dev/null",
            "--user=root",
            "--no-hosts",
            "--no-resolv",
            "--no-ping",
            "--interface=lan",
            "--dhcp-authoritative",
            "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m",
            &format!("--address=/{name}/{ROUTER}"),
            &format!("--dhcp-leasefile={}", self.lan.folder().join("leases").display()),
            &format!("--pid-file={}", pid.display()),
        ];
        self.lan.start("dnsmasq", &arguments)?;
        wait("dnsmasq, from dnsmasq-base", || pid.exists())
    }

    /// Fails unless the machine is configured and named by this cloud, and knows what it says.
    fn is_in(&self, cloud: &Cloud) -> Result<()> {
        let node = &self.node;
        is_configured(node, cloud.name, "metadata")?;
        is_named(node, &node.name, "platform")?;
        let known: Map<String, Value> = serde_json::from_str(ATTRIBUTES)?;
        let known = known[cloud.name].as_object().cloned();
        let mut known = known.context("Attributes are an object")?;
        known.insert("hostname".to_owned(), node.name.clone().into());
        knows(node, cloud.name, &known)?;
        let platform = resource(node, "platform", cloud.name)?;
        ensure!(field(&platform, "state")? == "answered", "{platform}");
        Ok(())
    }
}

pub(crate) fn cloudstack(world: &World, checks: &Checks) -> Result<()> {
    let mut place = CLOUDSTACK.start(world, &world.artefacts, &[])?;
    place.serve(&CLOUDSTACK, "80", &[], "data-server")?;
    let node = &place.node;
    checks.check("the router that gives addresses configures and names a machine", || {
        place.is_in(&CLOUDSTACK)
    });
    checks.check("nobody but the agent reaches it, whoever else gives addresses", || {
        let platform = resource(node, "platform", "cloudstack")?;
        ensure!(field(&platform, "reach")? == "the metadata agent alone", "{platform}");
        let service = format!("{ROUTER}:80");
        says(&node.ctl.fails(["probe", "tcp", &service, "-W", "5s"])?, &["permission denied"])?;
        // It is asked for names all the same.
        says(&node.ctl.run(["dig", "data-server"])?, &[ROUTER])
    });
    Ok(())
}

pub(crate) fn equinix(world: &World, checks: &Checks) -> Result<()> {
    let mut place = EQUINIX.start(world, &world.variants.believing(), &SPARE)?;
    place.node.vm.qmp("set_link", json!({"name": "second", "up": false}))?;
    place
        .lan
        .within(&GATEWAYS.map(|gateway| format!("ip address add {gateway} dev lan")).join("; "))?;
    let certificate = world.variants.certificate();
    place.serve(&EQUINIX, "443", &[&certificate.to_string_lossy()], BELIEVED)?;
    let node = &place.node;
    checks.check(
        "a service that has a name and a certificate configures and names a machine",
        || place.is_in(&EQUINIX),
    );
    checks.check("both cards are in a bond, which has all addresses", || {
        let addresses =
            ["198.51.100.7/31", "10.80.156.1/31", "203.0.113.9/32", "2001:db8:1::3/127"];
        node.wait_until("the bond has all addresses", SOON, || {
            let bond = by_document(node, "bond0").map(|link| link["status"].to_string());
            Ok(bond.is_ok_and(|bond| addresses.iter().all(|address| bond.contains(address))))
        })?;
        for card in ["eth0", "eth1"] {
            let card = by_document(node, card)?;
            ensure!(field(&card, "master")? == "bond0", "{card}");
        }
        let gateway = || Ok(node.ctl.run(["ping", "198.51.100.6", "-c", "1"]).is_ok());
        node.wait_until("its gateway answers", SOON, gateway)
    });
    checks.check("it is told that the machine is up, by way of the bond", || {
        says(&resource(node, "resolver", "resolver")?.to_string(), &["147.75.207.207"])?;
        let told = place.folder.path().join("told");
        node.wait_until("it is told", SOON, || Ok(told.exists()))?;
        says(&fs::read_to_string(told)?, &["instance_id"])?;
        let shown = || resource(node, "platform", "equinix").and_then(|it| field(&it, "told"));
        let is_told = || Ok(shown().is_ok_and(|told| told == "the machine is up"));
        node.wait_until("the machine knows that it is", SOON, is_told)
    });
    Ok(())
}
