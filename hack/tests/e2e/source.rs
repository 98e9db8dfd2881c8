// SPDX-License-Identifier: Apache-2.0
//! Where a machine finds its configuration.

use crate::{
    clouds,
    http::Server,
    world::{Kept, World, field, is_named, nameless, resource, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::Machine,
    node::{BOOT, Node},
    suite::Checks,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

/// By which a configuration can be told from another.
const METRICS: &str = "---\napiVersion: stele/v1\nkind: Metrics\naddress: 127.0.0.1:9100\n";

pub(crate) fn cidata(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let seed = dir.path().join("seed.img");
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, "cidata", machine, dir, |machine, files| {
        let network = seed.with_extension("network");
        fs::write(
            &network,
            "version: 2\nethernets:\n  id0:\n    match: {macaddress: '52:54:00:12:34:56'}\n    set-name: outside\n    dhcp4: true\n    mtu: 1400\n",
        )?;
        let output = Command::new("cloud-localds")
            .arg("--network-config")
            .arg(&network)
            .arg(&seed)
            .arg(&files.machine)
            .output()
            .context("Running cloud-localds")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(machine.with_drive(&seed))
    })?;
    let node = Kept(node);
    checks.check("a drive made by cloud-localds configures a machine", || {
        node.wait_until_it_answers()?;
        ensure!(field(&resource(&node, "source", "cidata")?, "state")? == "used");
        // As its network-config has it.
        node.wait_until("the link is as the drive describes it", BOOT, || {
            Ok(resource(&node, "link", "eth0").is_ok_and(|link| {
                field(&link, "mtu").is_ok_and(|mtu| mtu.trim_end_matches(".0") == "1400")
            }))
        })
    });
    Ok(())
}

/// A drive for NoCloud by the tool that makes them: a configuration, for an instance of this name, and what the machine is called.
fn seed(drive: &Path, configuration: &Path, instance: &str, hostname: Option<&str>) -> Result<()> {
    let about = drive.with_extension("meta-data");
    let hostname = hostname.map(|name| format!("local-hostname: {name}\n")).unwrap_or_default();
    fs::write(&about, format!("instance-id: {instance}\n{hostname}"))?;
    let output = Command::new("cloud-localds").args([drive, configuration, &about]).output();
    let output = output.context("Running cloud-localds")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub(crate) fn instance(world: &World, checks: &Checks) -> Result<()> {
    let (dir, files) = (scratch()?, scratch()?);
    let (drive, anew) = (files.path().join("seed.img"), files.path().join("anew.yaml"));
    let machine = Machine::installed(&world.artefacts, dir.path(), 4)?;
    let node = Node::start_with(&world.operator, "copied", machine, dir, |machine, made| {
        fs::write(&anew, nameless(&made.machine)?)?;
        // Clouds give names that are too long for a machine.
        seed(&drive, &anew, "iid-one", Some(&format!("copied.{}.internal", "x".repeat(60))))?;
        Ok(machine.with_drive(&drive))
    })?;
    let mut node = Kept(node);
    let starts_again = |node: &mut Node| -> Result<()> {
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        node.vm.power_on()
    };
    checks.check("a platform's name for a machine is kept with its first configuration", || {
        node.wait_until_it_answers()?;
        ensure!(field(&resource(&node, "platform", "qemu")?, "instanceId")? == "iid-one");
        Ok(())
    });
    checks.check(
        "a machine without a configured name has the platform's, as far as it can",
        || {
            is_named(&node, "copied", "platform")?;
            says(&node.vm.console().text(), &["ready: copied at"])?;
            says(&node.ctl.run(["logs", "init"])?, &["is cut to what can be one"])
        },
    );
    checks.check("the same instance keeps its configuration, whatever is on the drive", || {
        fs::write(&anew, nameless(&node.files.machine)? + METRICS)?;
        seed(&drive, &anew, "iid-one", None)?;
        starts_again(&mut node)?;
        node.wait_until_it_answers()?;
        node.wait_until("the drive was looked at", BOOT, || {
            let platform = resource(&node, "platform", "qemu")?;
            Ok(field(&platform, "instanceId").is_ok_and(|id| id == "iid-one"))
        })?;
        ensure!(node.ctl.json(["config", "history"])?.as_array().is_some_and(|all| all.len() == 1));
        Ok(())
    });
    checks.check("and its name, though the drive has none any more", || {
        is_named(&node, "copied", "platform")
    });
    checks.check(
        "another instance takes its configuration anew, and the one before is kept",
        || {
            seed(&drive, &anew, "iid-two", Some("copied"))?;
            starts_again(&mut node)?;
            node.vm.wait_for_line("this machine is another instance now", BOOT)?;
            node.wait_until_it_answers()?;
            node.wait_until("the drive's configuration is in force", BOOT, || {
                Ok(resource(&node, "source", "cidata")
                    .is_ok_and(|source| field(&source, "state").is_ok_and(|state| state == "used")))
            })?;
            ensure!(
                node.ctl.json(["config", "history"])?.as_array().is_some_and(|all| all.len() == 2)
            );
            says(&node.ctl.run(["get", "config"])?, &["kind: Metrics"])
        },
    );
    checks.check("a script as another instance's user-data leaves everything as it was", || {
        let script = files.path().join("setup.sh");
        fs::write(&script, "#!/bin/sh\nreboot\n")?;
        seed(&drive, &script, "iid-three", Some("copied"))?;
        starts_again(&mut node)?;
        node.vm.wait_for_line("the user-data is a script", BOOT)?;
        node.wait_until_it_answers()?;
        says(&node.ctl.run(["get", "config"])?, &["kind: Metrics"])
    });
    Ok(())
}

/// A configuration beside a script for others, as clouds pass such things on, by the tool that makes them.
fn beside_a_script(machine: &Path, dir: &Path) -> Result<PathBuf> {
    let (script, file) = (dir.join("setup.sh"), dir.join("user-data"));
    fs::write(&script, "#!/bin/sh\necho nobody runs this\n")?;
    let part = |path: &Path, kind: &str| format!("{}:{kind}", path.display());
    let output = Command::new("write-mime-multipart")
        .arg("--gzip")
        .arg(format!("--output={}", file.display()))
        .args([part(&script, "text/x-shellscript"), part(machine, "text/plain")])
        .output()
        .context("Running write-mime-multipart")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(file)
}

pub(crate) fn config_drive(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let files = scratch()?;
    let drive = dir.path().join("drive.iso");
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, "drive", machine, dir, |machine, made| {
        let latest = files.path().join("openstack/latest");
        fs::create_dir_all(&latest)?;
        fs::rename(beside_a_script(&made.machine, files.path())?, latest.join("user_data"))?;
        let output = Command::new("genisoimage")
            .args(["-quiet", "-R", "-J", "-V", "config-2", "-o"])
            .args([&drive, files.path()])
            .output()
            .context("Running genisoimage")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(machine.with_drive(&drive))
    })?;
    let node = Kept(node);
    checks.check(
        "a config drive configures a machine; scripts on it are named and left alone",
        || {
            node.wait_until_it_answers()?;
            let source = resource(&node, "source", "config-2")?;
            ensure!(field(&source, "state")? == "used", "{source}");
            says(&field(&source, "reason")?, &["left alone", "text/x-shellscript", "setup.sh"])
        },
    );
    checks.check("the platform is told, and by what it is known", || {
        let platform = resource(&node, "platform", "qemu")?;
        says(&field(&platform, "evidence")?, &["sys_vendor is QEMU"])
    });
    Ok(())
}

pub(crate) fn metadata(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let files = scratch()?;
    // As services answer that are only just starting.
    fs::write(files.path().join("trouble"), "starting")?;
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, "ec2", machine, dir, |mut machine, made| {
        beside_a_script(&made.machine, files.path())?;
        let network = clouds::network("metadata", "169.254.169.254", "aws", files.path());
        let card = "virtio-net-pci,netdev=metadata,romfile=";
        let maker = "type=1,manufacturer=Amazon EC2,product=m7i.large";
        for word in ["-netdev", &network, "-device", card, "-smbios", maker] {
            machine.extra.push(word.to_owned());
        }
        Ok(machine)
    })?;
    let node = Kept(node);
    checks.check("a metadata service configures a machine, once it is there", || {
        node.wait_until_it_answers()?;
        let source = resource(&node, "source", "metadata")?;
        ensure!(field(&source, "state")? == "used", "{source}");
        says(&node.vm.console().text(), &["platform aws: sys_vendor is Amazon EC2"])
    });
    checks.check("what it knows of the machine is a resource", || {
        let platform = resource(&node, "platform", "aws")?;
        ensure!(field(&platform, "state")? == "answered", "{platform}");
        ensure!(field(&platform, "instanceId")? == "i-0123456789abcdef0", "{platform}");
        ensure!(field(&platform, "zone")? == "eu-central-1a", "{platform}");
        ensure!(field(&platform, "publicAddress")? == "198.51.100.5, 198.51.100.6", "{platform}");
        is_named(&node, "ec2", "configuration")?;
        says(&node.ctl.run(["get", "platform"])?, &["i-0123456789abcdef0", "eu-central-1"])
    });
    fenced(&node, files.path(), checks);
    Ok(())
}

/// The service told the machine what it is, and tells nobody else.
fn fenced(node: &Node, files: &Path, checks: &Checks) {
    let probe = ["probe", "tcp", "169.254.169.254:80", "-W", "5s"];
    checks.check("nobody but the agent reaches the service, once there is a configuration", || {
        ensure!(field(&resource(node, "platform", "aws")?, "reach")? == "the metadata agent alone");
        says(&node.ctl.fails(probe)?, &["permission denied"])?;
        says(
            &node.ctl.fails(["probe", "tcp", "169.254.169.254:8080", "-W", "5s"])?,
            &["permission denied"],
        )?;
        // Whom it asks for names is everyone's business; there is nobody at this one.
        let names = node.ctl.fails(["probe", "tcp", "169.254.169.254:53", "-W", "2s"])?;
        ensure!(!names.to_lowercase().contains("permission denied"), "{names}");
        Ok(())
    });
    checks.check("unless the configuration says so", || {
        let open = files.join("open.yaml");
        let document = "---\napiVersion: stele/v1\nkind: MetadataService\nopen: true\n";
        fs::write(&open, fs::read_to_string(&node.files.machine)? + document)?;
        let said = node.ctl.run(["apply-config", "-f", &open.to_string_lossy()])?;
        says(&said, &["MetadataService", "live"])?;
        node.ctl.run(probe).map(drop)
    });
}

pub(crate) fn url(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let files = scratch()?;
    let server = Server::start(files.path())?;
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, "url", machine, dir, |mut machine, made| {
        let machine_yaml = nameless(&made.machine)?;
        let sha256: String = Sha256::digest(machine_yaml.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::write(files.path().join("machine.yaml"), machine_yaml)?;
        let include = format!("#include\n{} sha256:{sha256}\n", server.url("machine.yaml"));
        fs::write(files.path().join("rack-7.yaml"), include)?;
        machine.extra.extend(["-smbios", "type=1,serial=rack-7"].map(str::to_owned));
        let url = server.url("${serial}.yaml");
        // The kernel's own form, which means the only link; and links on and beside it.
        let network = "ip=10.0.2.15::10.0.2.2:255.255.255.0:url nameserver=10.0.2.3 vlan=lan7:eth0 \
            ip=198.51.100.1:::24::lan7:none rd.route=203.0.113.0/24:198.51.100.2:lan7 \
            ifname=other:52:54:00:00:00:99 bond=spare:other:mode=active-backup,primary=other,updelay=200";
        Ok(machine.append(&format!("stele.config={url} {network}")))
    })?;
    let node = Kept(node);
    checks.check(
        "a URL with the machine's serial number leads to an include, which configures it",
        || {
            node.wait_until_it_answers()?;
            ensure!(field(&resource(&node, "source", "url")?, "state")? == "used");
            ensure!(resource(&node, "lease", "eth0").is_err(), "It has asked for a lease");
            for (link, expected) in [("lan7", "ready"), ("spare", "no-carrier")] {
                let state = field(&resource(&node, "link", link)?, "state")?;
                ensure!(state == expected, "{link} is {state}");
            }
            let route = resource(&node, "route", "lan7/203.0.113.0/24/0")?;
            ensure!(field(&route, "via")? == "198.51.100.2", "{route}");
            Ok(())
        },
    );
    checks.check("the kernel command line names a machine that nobody else names", || {
        is_named(&node, "url", "platform")
    });
    Ok(())
}

pub(crate) fn folder(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let files = scratch()?;
    let server = Server::start(files.path())?;
    let machine = Machine::installed(&world.artefacts, dir.path(), 4)?;
    let write = |file: &str, text: &str| fs::write(files.path().join(file), text);
    let serial = |words: &str| format!("type=1,serial=ds=nocloud;s={};{words}", server.url(""));
    let node = Node::start_with(&world.operator, "folder", machine, dir, |mut machine, made| {
        write("user-data", "#cloud-config\nhostname: ignored\n")?;
        write("vendor-data", &nameless(&made.machine)?)?;
        write("meta-data", "instance-id: iid-there\nlocal-hostname: ignored\n")?;
        write(
            "network-config",
            "version: 2\nethernets:\n  id0:\n    match: {macaddress: '52:54:00:12:34:56'}\n    dhcp4: true\n    mtu: 1400\n",
        )?;
        machine.extra.extend(["-smbios".to_owned(), serial("h=folder")]);
        Ok(machine)
    })?;
    let mut node = Kept(node);
    checks.check("a folder of NoCloud's in the serial number configures a machine", || {
        node.wait_until_it_answers()?;
        ensure!(field(&resource(&node, "source", "url")?, "state")? == "used");
        node.wait_until("the link is as the network-config describes it", BOOT, || {
            Ok(resource(&node, "link", "eth0").is_ok_and(|link| {
                field(&link, "mtu").is_ok_and(|mtu| mtu.trim_end_matches(".0") == "1400")
            }))
        })
    });
    checks.check("what is said beside it goes before what is in it", || {
        is_named(&node, "folder", "platform")?;
        let platform = resource(&node, "platform", "qemu")?;
        ensure!(field(&platform, "instanceId")? == "iid-there", "{platform}");
        ensure!(field(&platform, "hostname")? == "folder", "{platform}");
        Ok(())
    });
    let starts_with = |node: &mut Node, words: &str| -> Result<()> {
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        let given = node.vm.machine().extra.last_mut().context("a serial number")?;
        *given = serial(words);
        node.vm.power_on()
    };
    let is_instance = |node: &Node, id: &str, generations: usize| {
        node.wait_until(&format!("it is {id}"), BOOT, || {
            let known = resource(node, "platform", "qemu")?;
            let history = node.ctl.json(["config", "history"])?;
            Ok(field(&known, "instanceId").is_ok_and(|known| known == id)
                && history.as_array().is_some_and(|all| all.len() == generations))
        })
    };
    checks.check("neither what the folder says later nor a first i= makes another of it", || {
        write("meta-data", "instance-id: iid-later\n")?;
        starts_with(&mut node, "h=folder;i=iid-one")?;
        node.wait_until_it_answers()?;
        is_instance(&node, "iid-one", 1)
    });
    checks.check("another instance by the serial number takes its configuration anew", || {
        write("vendor-data", &(nameless(&node.files.machine)? + METRICS))?;
        starts_with(&mut node, "h=folder;i=iid-two")?;
        node.vm.wait_for_line("this machine is another instance now", BOOT)?;
        node.wait_until_it_answers()?;
        is_instance(&node, "iid-two", 2)?;
        says(&node.ctl.run(["get", "config"])?, &["kind: Metrics"])
    });
    Ok(())
}

pub(crate) fn late(world: &World, checks: &Checks) -> Result<()> {
    let (dir, files) = (scratch()?, scratch()?);
    let server = Server::start(files.path())?;
    let write = |file: &str, text: &str| fs::write(files.path().join(file), text);
    write("meta-data", "instance-id: iid-late\nlocal-hostname: late\n")?;
    write("network-config", "version: 2\nethernets:\n  eth0: {dhcp4: true, mtu: 1400}\n")?;
    let mut machine = Machine::live(&world.artefacts)?;
    let serial = format!("type=1,serial=ds=nocloud;s={}", server.url(""));
    machine.extra.extend(["-smbios".to_owned(), serial]);
    let node = Kept(Node::start(&world.operator, "late", machine, dir)?);
    checks.check("a folder without user-data keeps no machine from maintenance mode", || {
        node.vm.wait_for_line("maintenance mode: waiting", BOOT)?;
        node.apply()?;
        node.wait_until_it_answers()
    });
    checks.check("it is left alone once somebody has configured the machine", || {
        write("user-data", &nameless(&node.files.machine)?)?;
        let source = resource(&node, "source", "url")?;
        ensure!(field(&source, "state")? == "refused", "{source}");
        says(&field(&source, "reason")?, &["another configuration is in force meanwhile"])?;
        // As long as the next try would be away.
        sleep(Duration::from_secs(31));
        let mtu = field(&resource(&node, "link", "eth0")?, "mtu")?;
        ensure!(mtu.trim_end_matches(".0") == "1500", "the link's MTU is {mtu}");
        let platform = resource(&node, "platform", "qemu")?;
        ensure!(field(&platform, "instanceId").is_err(), "{platform}");
        Ok(())
    });
    Ok(())
}

pub(crate) fn include(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let user_data = dir.path().join("user-data");
    fs::write(&user_data, format!("#include\nhttp://10.0.2.2:1/x sha256:{}\n", "0".repeat(64)))?;
    let machine = Machine::live(&world.artefacts)?.configured_by_fw_cfg(&user_data);
    let node = Kept(Node::start(&world.operator, "include", machine, dir)?);
    checks.check("an include that can't be had keeps no machine from maintenance mode", || {
        node.vm.wait_for_line("maintenance mode: waiting", BOOT)?;
        node.apply()?;
        node.wait_until_it_answers()?;
        let source = resource(&node, "source", "fw_cfg")?;
        ensure!(field(&source, "state")? == "refused", "{source}");
        Ok(())
    });
    Ok(())
}

pub(crate) fn script(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let (script, seed) = (dir.path().join("setup.sh"), dir.path().join("seed.img"));
    fs::write(&script, "#!/bin/sh\nreboot\n")?;
    let output = Command::new("cloud-localds").args([&seed, &script]).output();
    let output = output.context("Running cloud-localds")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let service = scratch()?;
    fs::write(service.path().join("trouble"), "empty")?;
    let mut machine = Machine::live(&world.artefacts)?.with_drive(&seed);
    machine.extra.extend(["-smbios", clouds::AZURE].map(str::to_owned));
    let services = [clouds::WIRESERVER];
    let machine = clouds::within(machine, &services, service.path());
    let node = Kept(Node::start(&world.operator, "script", machine, dir)?);
    checks.check("a script is refused in words", || {
        node.vm.wait_for_line("the user-data is a script", BOOT).map(drop)
    });
    checks.check("the platform hears that a machine is up that waits for a configuration", || {
        let told = service.path().join("told");
        node.wait_until("it is told", BOOT, || Ok(told.exists()))
    });
    Ok(())
}

pub(crate) fn refused(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let machine = Machine::live(&world.artefacts)?;
    let bad = dir.path().join("bad.yaml");
    fs::write(&bad, "apiVersion: stele/v1\nkind: Hostnam\nhostname: web\n")?;
    let machine = machine.configured_by_fw_cfg(&bad);
    let node = Kept(Node::start(&world.operator, "refused", machine, dir)?);
    checks.check("a configuration that is not valid is not passed over in silence", || {
        node.vm.wait_for_line("Hostnam", BOOT).map(drop)
    });
    checks.check("the machine then waits in maintenance mode for a good one", || {
        node.apply()?;
        node.wait_until_it_answers()
    });
    checks.check("and says afterwards what was wrong with the first", || {
        let source = resource(&node, "source", "fw_cfg")?;
        ensure!(field(&source, "state")? == "refused", "{source}");
        Ok(())
    });
    Ok(())
}
