// SPDX-License-Identifier: Apache-2.0
//! Clouds whose metadata service is found by what a router says: CloudStack, whose router is the service. The router is dnsmasq,
//! on a network of its own. The API is reached by another network, whose DHCP server is nobody's service.

use crate::{
    clouds::{ATTRIBUTES, is_configured, knows},
    lan::{Lan, wait},
    world::{Kept, World, field, is_named, nameless, resource, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::Machine,
    node::{Files, Node},
    suite::Checks,
};
use serde_json::{Map, Value};
use std::{fs, path::Path};
use tempfile::TempDir;

/// The router, and the network in which it gives addresses.
const ROUTER: &str = "10.77.0.1";
const CARD: &str = "52:54:00:00:77:02";

impl Lan {
    /// Starts the router, at which this name leads to it; it is up when this returns.
    fn route(&mut self, name: &str) -> Result<()> {
        let file = |name: &str| self.folder().join(name).display().to_string();
        let pid = self.folder().join("dnsmasq.pid");
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
            &format!("--dhcp-leasefile={}", file("leases")),
            &format!("--pid-file={}", pid.display()),
        ];
        self.start("dnsmasq", &arguments)?;
        wait("dnsmasq, from dnsmasq-base", || pid.exists())
    }

    /// Starts the service of a cloud at a port of the router's; it is up when this returns.
    fn answer(&mut self, cloud: &str, folder: &Path, port: &str, more: &[&str]) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/metadata.py");
        let (script, folder) = (script.to_string_lossy(), folder.to_string_lossy());
        let arguments = [&[&*script, cloud, &*folder, ROUTER, port], more].concat();
        self.start("/usr/bin/python3", &arguments)?;
        wait("the service", || {
            self.within(&format!("ss -ltnH | grep -q '{ROUTER}:{port} '")).is_ok()
        })
    }
}

/// A machine that is reached by a network that leads nowhere else.
fn machine(mut machine: Machine, cable: &Path) -> Machine {
    machine.restricted = true;
    machine.extra.extend(Lan::card(cable, CARD));
    machine
}

/// What the service has for it.
fn provide(folder: &TempDir, made: &Files, name: &str) -> Result<()> {
    fs::write(folder.path().join("user-data"), nameless(&made.machine)?)?;
    fs::write(folder.path().join("hostname"), name)?;
    Ok(())
}

/// Fails unless the machine is configured and named by this cloud, and knows what it says.
fn is_in(node: &Kept, cloud: &str) -> Result<()> {
    is_configured(node, cloud, "metadata")?;
    is_named(node, &node.name, "platform")?;
    let known: Map<String, Value> = serde_json::from_str(ATTRIBUTES)?;
    let mut known = known[cloud].as_object().cloned().context("Attributes are an object")?;
    known.insert("hostname".to_owned(), node.name.clone().into());
    knows(node, cloud, &known)?;
    let platform = resource(node, "platform", cloud)?;
    ensure!(field(&platform, "state")? == "answered", "{platform}");
    Ok(())
}

pub(crate) fn cloudstack(world: &World, checks: &Checks) -> Result<()> {
    let (dir, folder) = (scratch()?, scratch()?);
    let cable = dir.path().to_owned();
    let live = machine(Machine::live(&world.artefacts)?, &cable);
    let label = "in-cloudstack";
    let node = Node::start_with(&world.operator, label, live, dir, |mut machine, made| {
        provide(&folder, made, label)?;
        let firmware =
            "type=1,manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor";
        machine.extra.extend(["-smbios", firmware].map(str::to_owned));
        Ok(machine)
    })?;
    let node = Kept(node);
    let mut lan = Lan::new("cloudstack", &cable)?;
    lan.within(&format!("ip address add {ROUTER}/24 dev lan"))?;
    lan.answer("cloudstack", folder.path(), "80", &[])?;
    lan.route("data-server")?;
    checks.check("the router that gives addresses configures and names a machine", || {
        is_in(&node, "cloudstack")
    });
    checks.check("nobody but the agent reaches it, whoever else gives addresses", || {
        let platform = resource(&node, "platform", "cloudstack")?;
        ensure!(field(&platform, "reach")? == "the metadata agent alone", "{platform}");
        let service = format!("{ROUTER}:80");
        says(&node.ctl.fails(["probe", "tcp", &service, "-W", "5s"])?, &["permission denied"])?;
        // It is asked for names all the same.
        says(&node.ctl.run(["dig", "data-server"])?, &[ROUTER])
    });
    Ok(())
}
