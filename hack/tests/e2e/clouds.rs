// SPDX-License-Identifier: Apache-2.0
//! One image in every cloud whose metadata service can be had at an address of QEMU's: known by its firmware, configured by
//! its service, two at a time. The others (CloudStack, whose service is the DHCP server, and Equinix Metal, which has a name and
//! TLS) are asked by the agent's own tests.

use crate::world::{World, scratch};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::Machine,
    node::{BOOT, Files},
    suite::Checks,
    vm::Vm,
};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const LINK_LOCAL: &str = "169.254.169.254";
/// How long a machine that is up may take to say so.
const SOON: Duration = Duration::from_secs(30);

/// A cloud: its name, what its firmware says, and where its service is.
struct Cloud {
    name: &'static str,
    firmware: &'static str,
    service: &'static str,
    /// The service that is told when the machine is up: its address, and what it is called.
    told: Option<(&'static str, &'static str)>,
}

const fn cloud(name: &'static str, firmware: &'static str) -> Cloud {
    Cloud { name, firmware, service: LINK_LOCAL, told: None }
}

const CLOUDS: [Cloud; 13] = [
    cloud("akamai", "type=1,manufacturer=Akamai"),
    Cloud { service: "100.100.100.200", ..cloud("alibaba", "type=1,product=Alibaba Cloud ECS") },
    cloud("aws", "type=1,uuid=ec2e1916-9099-7caf-fd21-012345abcdef"),
    Cloud {
        told: Some(("168.63.129.16", "wireserver")),
        ..cloud("azure", "type=3,asset=7783-7084-3265-9085-8269-3286-77")
    },
    cloud("digitalocean", "type=1,manufacturer=DigitalOcean"),
    cloud("exoscale", "type=1,product=Exoscale Compute Platform"),
    cloud("gcp", "type=1,serial=GoogleCloud-1A2B"),
    cloud("hetzner", "type=1,manufacturer=Hetzner"),
    cloud("openstack", "type=3,asset=OpenTelekomCloud"),
    cloud("oracle", "type=3,asset=OracleCloud.com"),
    Cloud {
        service: "169.254.42.42",
        told: Some(("169.254.42.42", "scaleway")),
        ..cloud("scaleway", "type=1,manufacturer=Scaleway")
    },
    cloud("upcloud", "type=1,manufacturer=UpCloud"),
    cloud("vultr", "type=1,manufacturer=Vultr"),
];

/// A network of QEMU's in which that service is at that address, and nothing else is.
pub(crate) fn network(id: &str, address: &str, service: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/metadata.py");
    let net = address.rsplit_once('.').map_or(address, |(net, _)| net);
    format!(
        "user,id={id},net={net}.0/24,restrict=on,guestfwd=tcp:{address}:80-cmd:/usr/bin/python3 {} {service} {}",
        script.display(),
        folder.display()
    )
}

pub(crate) fn walk(world: &World, checks: &Checks) -> Result<()> {
    let files = world.operator.files("anywhere", "127.0.0.1:50000")?;
    let mut slowest = Duration::ZERO;
    for pair in CLOUDS.chunks(2) {
        let since = Instant::now();
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let (world, files) = (&world, &files);
            let boots = pair.iter().map(|cloud| scope.spawn(move || boot(world, files, cloud)));
            let boots: Vec<_> = boots.collect();
            let lost = || Err(anyhow::anyhow!("The thread of this boot has panicked"));
            boots.into_iter().map(|boot| boot.join().unwrap_or_else(|_| lost())).collect()
        });
        slowest = slowest.max(since.elapsed());
        for (cloud, result) in pair.iter().zip(results) {
            checks.check(&format!("{} is known, and configures a machine", cloud.name), || result);
        }
    }
    let seconds = slowest.as_secs_f64();
    world.figure(format!(
        "boot to configuration in a cloud, two side by side, the slowest: {seconds:.1} s"
    ));
    Ok(())
}

fn boot(world: &World, files: &Files, cloud: &Cloud) -> Result<()> {
    let (dir, folder) = (scratch()?, scratch()?);
    fs::copy(&files.machine, folder.path().join("user-data"))?;
    let mut machine = Machine::live(&world.artefacts)?;
    let mut services = vec![(cloud.service, cloud.name)];
    services.extend(cloud.told.filter(|(_, name)| *name != cloud.name));
    for (index, (address, service)) in services.into_iter().enumerate() {
        let (id, card) =
            (format!("service{index}"), format!("virtio-net-pci,netdev=service{index},romfile="));
        let network = network(&id, address, service, folder.path());
        machine.extra.extend(["-netdev".to_owned(), network, "-device".to_owned(), card]);
    }
    machine.extra.extend(["-smbios", cloud.firmware].map(str::to_owned));
    let vm = Vm::start_in(machine, dir)?;
    vm.wait_for_line(&format!("platform {}: ", cloud.name), BOOT)?;
    vm.wait_for_line("configuration in force", BOOT)?;
    let asked = fs::read_to_string(folder.path().join("asked")).context("Nobody asked")?;
    ensure!(asked.lines().count() > 1, "{asked}");
    if cloud.told.is_some() {
        let (told, since) = (folder.path().join("told"), Instant::now());
        while !told.exists() {
            ensure!(
                since.elapsed() < SOON,
                "Nobody says that the machine is up: {}",
                vm.console().tail(20)
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
