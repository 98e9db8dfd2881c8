// SPDX-License-Identifier: Apache-2.0
//! One image in every cloud whose metadata service can be had at an address of QEMU's, and in those that hand over a drive: known
//! by its firmware, configured, named, and told what the cloud knows of it, two at a time. The others are among the `routers`.

use crate::world::{Kept, World, field, is_named, nameless, resource, scratch};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::Machine,
    node::{BOOT, Files, Node},
    suite::Checks,
};
use serde_json::{Map, Value};
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What the services of `metadata.py` say of a machine.
pub(crate) const ATTRIBUTES: &str = include_str!("metadata.json");
const LINK_LOCAL: &str = "169.254.169.254";
/// The other service of Azure.
pub(crate) const WIRESERVER: (&str, &str) = ("168.63.129.16", "wireserver");
/// How long a machine that is up may take to say so.
const SOON: Duration = Duration::from_secs(30);

/// A cloud: its name, what its firmware says, and where its service is.
struct Cloud {
    name: &'static str,
    firmware: &'static str,
    service: &'static str,
    /// The service that is told when the machine is up: its address, and what it is called.
    told: Option<(&'static str, &'static str)>,
    /// The trouble that its service makes, as in `metadata.py`.
    trouble: &'static str,
}

const fn cloud(name: &'static str, firmware: &'static str) -> Cloud {
    Cloud { name, firmware, service: LINK_LOCAL, told: None, trouble: "" }
}

const CLOUDS: [Cloud; 13] = [
    cloud("akamai", "type=1,manufacturer=Akamai"),
    Cloud { service: "100.100.100.200", ..cloud("alibaba", "type=1,product=Alibaba Cloud ECS") },
    cloud("aws", "type=1,uuid=ec2e1916-9099-7caf-fd21-012345abcdef"),
    Cloud { told: Some(WIRESERVER), trouble: "absent", ..cloud("azure", AZURE) },
    cloud("digitalocean", "type=1,manufacturer=DigitalOcean"),
    cloud("exoscale", "type=1,product=Exoscale Compute Platform"),
    cloud("gcp", "type=1,serial=GoogleCloud-1A2B"),
    cloud("hetzner", "type=1,manufacturer=Hetzner"),
    cloud("openstack", "type=3,asset=OpenTelekomCloud"),
    Cloud { trouble: "busy", ..cloud("oracle", "type=3,asset=OracleCloud.com") },
    Cloud {
        service: "169.254.42.42",
        told: Some(("169.254.42.42", "scaleway")),
        ..cloud("scaleway", "type=1,manufacturer=Scaleway")
    },
    cloud("upcloud", "type=1,manufacturer=UpCloud"),
    cloud("vultr", "type=1,manufacturer=Vultr"),
];

pub(crate) const AZURE: &str = "type=3,asset=7783-7084-3265-9085-8269-3286-77";

/// A platform that hands over a drive: what its firmware says, the drive's label, and as which source it is known.
struct Drive {
    name: &'static str,
    firmware: &'static str,
    label: &'static str,
    source: &'static str,
    /// What is on it.
    form: Form,
}

/// What is on a drive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `user-data` and `meta-data`.
    NoCloud,
    /// The same of Proxmox, which makes user-data of cloud-init's by itself: ours is `vendor-data`.
    Proxmox,
    /// `openstack/latest`.
    OpenStack,
    /// `context.sh`.
    OpenNebula,
    /// `ovf-env.xml`.
    Ovf,
    /// Azure's, with the user-data in a file of its own.
    Azure,
}

const DRIVES: [Drive; 7] = [
    Drive {
        name: "azure",
        firmware: AZURE,
        label: "rd_rdfe_stable.161212-1209",
        source: "azure",
        form: Form::Azure,
    },
    Drive {
        name: "ibm",
        firmware: "type=3,asset=ibmcloud",
        label: "cidata",
        source: "cidata",
        form: Form::NoCloud,
    },
    Drive {
        name: "kubevirt",
        firmware: "type=1,manufacturer=KubeVirt",
        label: "cidata",
        source: "cidata",
        form: Form::NoCloud,
    },
    Drive {
        name: "nutanix",
        firmware: "type=1,manufacturer=Nutanix",
        label: "config-2",
        source: "config-2",
        form: Form::OpenStack,
    },
    Drive {
        name: "opennebula",
        firmware: "type=1,manufacturer=QEMU",
        label: "CONTEXT",
        source: "context",
        form: Form::OpenNebula,
    },
    Drive {
        name: "qemu",
        firmware: "type=1,manufacturer=QEMU",
        label: "cidata",
        source: "cidata",
        form: Form::Proxmox,
    },
    Drive {
        name: "virtualbox",
        firmware: "type=1,manufacturer=innotek GmbH,product=VirtualBox",
        label: "OVF ENV",
        source: "ovf",
        form: Form::Ovf,
    },
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

/// A boot in one of them.
#[derive(Clone, Copy)]
enum Boot {
    Service(&'static Cloud),
    Drive(&'static Drive),
}

impl Boot {
    fn what(self) -> String {
        match self {
            Boot::Service(Cloud { name, .. }) => {
                format!("{name} is known, and configures and names a machine")
            }
            Boot::Drive(Drive { name, label, .. }) => {
                format!("{name} is known, and configures a machine by a drive labelled {label}")
            }
        }
    }

    fn run(self, world: &World) -> Result<()> {
        match self {
            Boot::Service(cloud) => by_service(world, cloud),
            Boot::Drive(drive) => by_drive(world, drive),
        }
    }
}

pub(crate) fn walk(world: &World, checks: &Checks) -> Result<()> {
    let boots = CLOUDS.iter().map(Boot::Service).chain(DRIVES.iter().map(Boot::Drive));
    let boots: Vec<Boot> = boots.collect();
    let mut slowest = Duration::ZERO;
    for pair in boots.chunks(2) {
        let since = Instant::now();
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let running: Vec<_> =
                pair.iter().map(|boot| scope.spawn(move || boot.run(world))).collect();
            let lost = || Err(anyhow::anyhow!("The thread of this boot has panicked"));
            running.into_iter().map(|boot| boot.join().unwrap_or_else(|_| lost())).collect()
        });
        slowest = slowest.max(since.elapsed());
        for (boot, result) in pair.iter().zip(results) {
            checks.check(&boot.what(), || result);
        }
    }
    let seconds = slowest.as_secs_f64();
    world.figure(format!("boot to API in a cloud, two side by side, the slowest: {seconds:.1} s"));
    Ok(())
}

/// A machine with these services around it.
pub(crate) fn within(mut machine: Machine, services: &[(&str, &str)], folder: &Path) -> Machine {
    for (index, (address, service)) in services.iter().enumerate() {
        let id = format!("service{index}");
        let card = format!("virtio-net-pci,netdev={id},romfile=");
        let network = network(&id, address, service, folder);
        machine.extra.extend(["-netdev".to_owned(), network, "-device".to_owned(), card]);
    }
    machine
}

fn by_service(world: &World, cloud: &Cloud) -> Result<()> {
    let (dir, folder) = (scratch()?, scratch()?);
    let label = format!("in-{}", cloud.name);
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, &label, machine, dir, |mut machine, made| {
        let mut services = vec![(cloud.service, cloud.name)];
        services.extend(cloud.told.filter(|(_, name)| *name != cloud.name));
        // What most services say of the network is of another one than QEMU's, by which the API is reached.
        let links: String = (0..=services.len()).map(link).collect();
        fs::write(folder.path().join("user-data"), nameless(&made.machine)? + &links)?;
        fs::write(folder.path().join("hostname"), &label)?;
        fs::write(folder.path().join("trouble"), cloud.trouble)?;
        machine.extra.extend(["-smbios", cloud.firmware].map(str::to_owned));
        Ok(within(machine, &services, folder.path()))
    })?;
    let node = Kept(node);
    let known: Map<String, Value> = serde_json::from_str(ATTRIBUTES)?;
    let mut known = known[cloud.name].as_object().cloned().context("Attributes are an object")?;
    known.insert("hostname".to_owned(), label.clone().into());
    is_configured(&node, cloud.name, "metadata")?;
    is_named(&node, &label, "platform")?;
    knows(&node, cloud.name, &known)?;
    let platform = resource(&node, "platform", cloud.name)?;
    ensure!(field(&platform, "state")? == "answered", "{platform}");
    if cloud.told.is_some() {
        let told = folder.path().join("told");
        node.wait_until("the platform is told that the machine is up", SOON, || Ok(told.exists()))?;
    }
    let asked = fs::read_to_string(folder.path().join("asked")).context("Nobody asked")?;
    let mut asked = asked.lines();
    // What was not there yet, or too much at once, is asked for again, and not all of it.
    match (cloud.trouble, asked.next(), asked.next(), asked.next()) {
        ("", Some(_), Some(_), _) => Ok(()),
        ("absent", Some(one), Some(again), _) | ("busy", _, Some(one), Some(again)) => {
            ensure!(path(one) == path(again), "Asked for {one}, then for {again}");
            Ok(())
        }
        _ => anyhow::bail!("Too little was asked for"),
    }
}

/// A link with DHCP.
fn link(index: usize) -> String {
    format!("---\napiVersion: stele/v2\nkind: Link\nname: eth{index}\ndhcp4: {{}}\n")
}

/// The path in a line of what was asked.
fn path(line: &str) -> Option<&str> {
    line.split(' ').nth(1)
}

fn by_drive(world: &World, drive: &Drive) -> Result<()> {
    let (dir, files) = (scratch()?, scratch()?);
    let label = format!("drive-of-{}", drive.name);
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, &label, machine, dir, |mut machine, made| {
        let content = files.path().join("content");
        fs::create_dir(&content)?;
        fill(&content, drive.form, made, &label)?;
        let image = files.path().join("drive.iso");
        let output = Command::new("genisoimage")
            .args(["-quiet", "-R", "-J", "-V", drive.label, "-o"])
            .args([&image, &content])
            .output()
            .context("Running genisoimage")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        machine.extra.extend(["-smbios", drive.firmware].map(str::to_owned));
        if drive.form == Form::Azure {
            // Its services are there, and of no help.
            fs::write(files.path().join("trouble"), "broken")?;
            let services = [(LINK_LOCAL, "azure"), WIRESERVER];
            machine = within(machine, &services, files.path());
        }
        Ok(machine.with_drive(&image))
    })?;
    let node = Kept(node);
    is_configured(&node, drive.name, drive.source)?;
    let mut known = Map::new();
    if drive.form != Form::Azure {
        known.insert("instanceId".to_owned(), "iid-7".into());
    }
    if drive.form == Form::Proxmox {
        is_named(&node, &label, "configuration")?;
    } else {
        known.insert("hostname".to_owned(), label.clone().into());
        is_named(&node, &label, "platform")?;
    }
    if drive.form == Form::OpenStack {
        known.insert("zone".to_owned(), "nova".into());
        known.insert("tags".to_owned(), "owner=ops, role=web".into());
    }
    knows(&node, drive.name, &known)
}

/// Puts on a drive what a platform has there, for a machine of this name.
fn fill(folder: &Path, form: Form, made: &Files, name: &str) -> Result<()> {
    let configuration = nameless(&made.machine)?;
    let encoded = stele_signature::write(configuration.as_bytes());
    let write = |file: &str, text: &str| fs::write(folder.join(file), text);
    match form {
        Form::NoCloud => {
            write("user-data", &configuration)?;
            // As JSON, which is YAML too.
            write("meta-data", &format!(r#"{{"instance-id":"iid-7","local-hostname":"{name}"}}"#))?;
        }
        Form::Proxmox => {
            write("user-data", "#cloud-config\nhostname: ignored\nmanage_etc_hosts: true\n")?;
            write("vendor-data", &fs::read_to_string(&made.machine)?)?;
            write("meta-data", "instance-id: iid-7\n")?;
        }
        Form::OpenStack => {
            fs::create_dir_all(folder.join("openstack/latest"))?;
            write("openstack/latest/user_data", &configuration)?;
            let about = format!(
                r#"{{"uuid":"iid-7","hostname":"{name}","availability_zone":"nova","meta":{{"owner":"ops","role":"web"}}}}"#
            );
            write("openstack/latest/meta_data.json", &about)?;
        }
        Form::OpenNebula => write(
            "context.sh",
            &format!(
                "# Context variables generated by OpenNebula\nVMID='iid-7'\nSET_HOSTNAME='{name}'\nUSERDATA_ENCODING='base64'\nUSER_DATA='{encoded}'\n"
            ),
        )?,
        Form::Ovf => {
            let property = |key: &str, value: &str| {
                format!(r#"<Property oe:key="{key}" oe:value="{value}"/>"#)
            };
            write(
                "ovf-env.xml",
                &format!(
                    r#"<?xml version="1.0"?><Environment xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"><PropertySection>{}{}{}</PropertySection></Environment>"#,
                    property("instance-id", "iid-7"),
                    property("hostname", name),
                    property("user-data", &encoded)
                ),
            )?;
        }
        Form::Azure => {
            write("CustomData.bin", &configuration)?;
            write(
                "ovf-env.xml",
                &format!(
                    "<?xml version=\"1.0\"?><Environment><ProvisioningSection><HostName>{name}</HostName></ProvisioningSection></Environment>"
                ),
            )?;
        }
    }
    Ok(())
}

/// Waits until a machine is known to be of a platform, and is configured by that source.
pub(crate) fn is_configured(node: &Node, platform: &str, source: &str) -> Result<()> {
    node.vm.wait_for_line(&format!("platform {platform}: "), BOOT)?;
    node.wait_until_it_answers()?;
    let source = resource(node, "source", source)?;
    ensure!(field(&source, "state")? == "used", "{source}");
    Ok(())
}

/// Fails unless this and nothing else is known of the machine.
pub(crate) fn knows(node: &Node, platform: &str, known: &Map<String, Value>) -> Result<()> {
    const ALL: [&str; 7] =
        ["instanceId", "hostname", "region", "zone", "instanceType", "publicAddress", "tags"];
    let platform = resource(node, "platform", platform)?;
    for key in ALL {
        let found = field(&platform, key).ok();
        let expected = known.get(key).and_then(Value::as_str);
        ensure!(found.as_deref() == expected, "{key} is not {expected:?}: {platform}");
    }
    Ok(())
}
