// SPDX-License-Identifier: Apache-2.0
//! The smaller kinds, each with the example of the manual: that it takes effect, and that it goes away again.

use crate::{
    names, probes,
    registry::Registry,
    web::state_of,
    world::{Kept, World, field, resource, resources, says, scratch, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{artefacts::top, machine::free_port, node::BOOT, suite::Checks, variants::NEXT};
use image::keys::Signer;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// The kinds, each with the name of its example and the state that it comes to.
const KINDS: [(&str, &str, &str); 7] = [
    ("KernelModule", "dummy", "loaded"),
    ("Sysctl", "vm.swappiness", "set"),
    ("TrustedRoots", "example", "believed"),
    ("RegistryMirror", "registry.example.com", "known"),
    ("RegistryAuth", "mirror.example.com", "known"),
    ("Environment", "proxy", "given"),
    ("Files", "app", "written"),
];

pub(crate) fn every(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("kinds")?;
    let all: String = KINDS.iter().map(|(kind, _, _)| example(kind)).collect::<Result<_>>()?;

    for (kind, name, state) in KINDS {
        checks.check(&format!("the example of {kind} takes effect, and goes away again"), || {
            apply(&node, &example(kind)?)?;
            let resource = resource(&node, kind, name)?;
            ensure!(field(&resource, "state")? == state, "{resource}");
            node.ctl.run(["drift"])?;
            apply(&node, "")?;
            ensure!(resources(&node, kind)?.is_empty(), "{kind} is still there");
            Ok(())
        });
    }
    checks.check("all of them together hold over a restart", || {
        apply(&node, &all)?;
        let boot = node.boot_id()?;
        node.ctl.run(["reboot"])?;
        node.wait_for_another_boot(&boot)?;
        for (kind, name, state) in KINDS {
            node.wait_until(&format!("{kind} is {state}"), SOON, || {
                let resource = resource(&node, kind, name);
                Ok(resource.and_then(|found| field(&found, "state")).is_ok_and(|now| now == state))
            })?;
        }
        Ok(())
    });
    checks.check("who may not see secrets sees none", || {
        let reader = world.operator.client(&node, "eve", "os:reader", "1h")?;
        let seen = reader.run(["get", "config"])?;
        for secret in ["correct horse", "listen = 8080", "NO_PROXY=example.com"] {
            ensure!(!seen.contains(secret), "a reader sees {secret}");
            ensure!(node.ctl.run(["get", "config"])?.contains(secret), "an admin does not");
        }
        let generations = resources(&node, "generation")?;
        let active = generations.iter().find(|one| one["status"]["active"] == true);
        let active = active.and_then(|one| one["name"].as_str()).unwrap_or_default().to_owned();
        apply(&node, "")?;
        // Nor in what was in force before.
        let shown = reader.run(["config", "show", &active])?;
        ensure!(shown.contains("NO_PROXY") && !shown.contains("correct horse"), "{shown}");
        Ok(())
    });
    kernel(&node, checks);
    looked_at(&node, checks);
    versions(&node, checks);
    surroundings(&node, checks);
    believed(&node, checks)?;
    names::every(&node, checks)?;
    probes::every(&node, checks)?;
    mirrored(world, &node, checks)
}

fn kernel(node: &Kept, checks: &Checks) {
    checks.check("a module makes its links, and they go with it", || {
        apply(node, &example("KernelModule")?)?;
        node.wait_until("both links are there", SOON, || Ok(links(node)?.contains("dummy1")))?;
        apply(node, "")?;
        node.wait_until("they are gone", SOON, || Ok(!links(node)?.contains("dummy")))
    });
    checks.check("a setting comes with its module", || {
        let bridged = "---\napiVersion: stele/v1\nkind: KernelModule\nname: br_netfilter\n\
            ---\napiVersion: stele/v1\nkind: Sysctl\nname: net.bridge.bridge-nf-call-iptables\nvalue: 0\n";
        apply(node, bridged)?;
        let setting = resource(node, "sysctl", "net.bridge.bridge-nf-call-iptables")?;
        ensure!(field(&setting, "value")? == "0", "{setting}");
        apply(node, "")
    });
    checks.check("a setting acts, and is set back", || {
        let off = "---\napiVersion: stele/v1\nkind: Sysctl\nname: net.ipv6.conf.all.disable_ipv6\nvalue: 1\n";
        let has_ipv6 = || Ok(node.ctl.json(["get", "address"])?.to_string().contains("fe80:"));
        node.wait_until("it has an IPv6 address", SOON, has_ipv6)?;
        apply(node, off)?;
        node.wait_until("it has none", SOON, || Ok(!has_ipv6()?))?;
        apply(node, "")?;
        node.wait_until("it has one again", SOON, has_ipv6)
    });
    for (what, document, needles) in [
        (
            "a setting that this kernel does not have",
            "kind: Sysctl\nname: vm.swapiness\nvalue: 10\n",
            &["(Sysctl), name", "no setting vm.swapiness (did you mean \"vm.swappiness\"?)"],
        ),
        (
            "a value that the kernel does not take",
            "kind: Sysctl\nname: vm.swappiness\nvalue: very\n",
            &["Sysctl vm.swappiness", "very"],
        ),
        (
            "a module that the image does not have",
            "kind: KernelModule\nname: floppy\n",
            &["(KernelModule), name", "no module floppy"],
        ),
        (
            "a parameter that the module does not have",
            "kind: KernelModule\nname: dummy\nparameters: [dummies=2]\n",
            &["dummies", "numdummies"],
        ),
        (
            "a service that the machine does not have",
            "kind: Environment\nname: x\nservices: [prob]\nvariables: [A=1]\n",
            &["(Environment), services[0]", "no service prob (did you mean \"probe\"?)"],
        ),
    ] {
        checks.check(&format!("{what} changes nothing, and the reason is told"), || {
            let before = node.ctl.run(["get", "config"])?;
            // What is good is undone with the rest.
            let more = format!("{}---\napiVersion: stele/v1\n{document}", example("Files")?);
            let file = with_more(node, &more)?;
            says(&node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?, needles)?;
            ensure!(node.ctl.run(["get", "config"])? == before, "the configuration has changed");
            node.wait_until("nothing is left of it", SOON, || {
                let left = |kind| resources(node, kind).is_ok_and(|found| found.is_empty());
                Ok(["files", "sysctl", "kernelmodule", "environment"].into_iter().all(left))
            })
        });
    }
}

/// Documents of an older version beside those of the newest.
fn versions(node: &Kept, checks: &Checks) {
    checks.check("a link is found by its hardware address, and takes of DHCP what it is told to", || {
        let eth0 = resource(node, "link", "eth0")?;
        let more = format!(
            "---\napiVersion: stele/v2\nkind: Link\nname: uplink\nmatch: {{mac: \"{}\"}}\ndhcp4: {{dns: false}}\n",
            field(&eth0, "mac")?
        );
        apply(node, &more)?;
        ensure!(field(&resource(node, "link", "eth0")?, "document")? == "uplink");
        ensure!(!resource(node, "resolver", "resolver")?.to_string().contains("10.0.2.3"));
        says(&node.ctl.run(["get", "address"])?, &["10.0.2.15"])?;
        apply(node, "")?;
        says(&resource(node, "resolver", "resolver")?.to_string(), &["10.0.2.3"])
    });
    checks.check("an older version is read, and kept as the newest", || {
        apply(node, "---\napiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: true\n")?;
        says(
            &node.ctl.run(["get", "config"])?,
            &["apiVersion: stele/v2", "dhcp4:\n  routes: true"],
        )?;
        node.ctl.run([
            "patch",
            "-p",
            "{apiVersion: stele/v1, kind: Link, name: eth0, mtu: 1400}",
        ])?;
        ensure!(node.ctl.run(["get", "config"])?.contains("mtu: 1400"));
        apply(node, "")
    });
}

/// What is found before anything is done.
fn looked_at(node: &Kept, checks: &Checks) {
    checks.check("a dry run tells at once all that this machine can't do, with the lines", || {
        let more = "---\napiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: true\nmtu: 9216\n\
            ---\napiVersion: stele/v1\nkind: Metrics\naddress: 192.0.2.9:9100\n\
            ---\napiVersion: stele/v1\nkind: Sysctl\nname: vm.nr_hugepages\nvalue: 1000000\n\
            ---\napiVersion: stele/v1\nkind: KernelModule\nname: dumy\n";
        let file = with_more(node, more)?;
        let lines = std::fs::read_to_string(&file)?;
        let line = |text: &str| lines.lines().position(|line| line == text).map_or(0, |at| at + 1);
        let said = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy(), "--dry-run"])?;
        for (text, document, path, message) in [
            ("address: 192.0.2.9:9100", "(Metrics)", "address", "does not have the address"),
            ("value: 1000000", "(Sysctl)", "value", "and the machine has"),
            ("name: dumy", "(KernelModule)", "name", "did you mean \"dummy\"?"),
        ] {
            says(&said, &[&format!(":{}, document", line(text)), &format!("{document}, {path}")])?;
            says(&said, &[message])?;
        }
        says(&said, &["warning: ", "error: "])
    });
}

fn surroundings(node: &Kept, checks: &Checks) {
    checks.check("a service starts again with other variables", || {
        let check = "---\napiVersion: stele/v1\nkind: HealthCheck\nname: nothing\nneed: wanted\ntcp: {address: \"10.0.2.2:9\"}\n";
        apply(node, check)?;
        let pid = || field(&resource(node, "service", "probe")?, "pid");
        node.wait_until("the probe agent runs", SOON, || Ok(pid().is_ok()))?;
        let before = pid()?;
        let said = apply_and_say(node, &format!("{check}{}", example("Environment")?))?;
        says(&said, &["Environment proxy", "restart", "probe"])?;
        ensure!(pid()? != before, "it is the same process");
        apply(node, "")
    });
}

/// A web server whose certificate no image knows.
fn believed(node: &Kept, checks: &Checks) -> Result<()> {
    let server = Tls::start()?;
    let check = format!(
        "---\napiVersion: stele/v1\nkind: HealthCheck\nname: private\nneed: wanted\ninterval: 1s\ntimeout: 3s\nsuccesses: 1\n\
         http: {{url: \"https://10.0.2.2:{}/\"}}\n",
        server.port
    );
    checks.check("an authority of one's own is believed while its document is there", || {
        let becomes = |state: &str| {
            node.wait_until(&format!("the check is {state}"), BOOT, || {
                Ok(state_of(node, "private")? == state)
            })
        };
        apply(node, &check)?;
        becomes("failing")?;
        let certificate = fs::read_to_string(&server.authority)?.replace('\n', "\n  ");
        let roots = format!(
            "---\napiVersion: stele/v1\nkind: TrustedRoots\nname: ours\ncertificates: |\n  {}\n",
            certificate.trim_end()
        );
        apply(node, &format!("{check}{roots}"))?;
        becomes("passing")?;
        apply(node, &check)?;
        becomes("failing")?;
        apply(node, "")
    });
    Ok(())
}

fn mirrored(world: &World, node: &Kept, checks: &Checks) -> Result<()> {
    let registry = Registry::start(world)?;
    let signer = Signer::read(&hack::build::secret())?;
    registry.push(NEXT, &world.variants.next(), Some(&signer))?;
    // htpasswd(1) with bcrypt, of the example's password.
    let closed = registry
        .closed(world, "node-1:$2y$05$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS\n")?;
    let mirror = format!(
        "---\napiVersion: stele/v1\nkind: RegistryMirror\nname: registry.invalid\nendpoints: [\"http://10.0.2.2:{}\"]\n",
        closed.port()
    );
    let auth = example("RegistryAuth")?
        .replace("mirror.example.com", &format!("10.0.2.2:{}", closed.port()));
    let reference = format!("registry.invalid/stele/os:{NEXT}");
    let line = ["upgrade", "--stage-only", "--registry", &reference];
    checks.check("a mirror that wants a password is asked with it, and not without", || {
        apply(node, &mirror)?;
        node.ctl.fails(line)?;
        let wrong = auth.replace("correct horse", "wrong horse");
        apply(node, &format!("{mirror}{wrong}"))?;
        node.ctl.fails(line)?;
        apply(node, &format!("{mirror}{auth}"))?;
        node.ctl.run(line)?;
        says(&node.ctl.run(["slots"])?, &[NEXT, "staged"])
    });
    checks.check("a registry that wants a password says so", || {
        let itself = format!("http://10.0.2.2:{}/stele/os:{NEXT}", closed.port());
        apply(node, "")?;
        let said = node.ctl.fails(["upgrade", "--stage-only", "--registry", &itself])?;
        says(&said, &["password"])
    });
    Ok(())
}

/// The example of a kind, as the manual shows it.
pub(crate) fn example(kind: &str) -> Result<String> {
    let file = top().join("proto/config/examples").join(format!("{kind}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| format!("Reading {}", file.display()))?;
    Ok(format!("---\n{text}"))
}

/// Applies the node's own configuration and these documents.
pub(crate) fn apply(node: &Kept, more: &str) -> Result<()> {
    apply_and_say(node, more).map(drop)
}

fn apply_and_say(node: &Kept, more: &str) -> Result<String> {
    let file = with_more(node, more)?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])
}

/// The names of all links.
pub(crate) fn links(node: &Kept) -> Result<String> {
    let links = resources(node, "link")?;
    Ok(links.iter().filter_map(|link| link["name"].as_str()).collect::<Vec<_>>().join(" "))
}

/// A web server on this host, with an authority of its own. It ends when this value is dropped.
struct Tls {
    child: Child,
    port: u16,
    authority: PathBuf,
    _folder: TempDir,
}

impl Tls {
    fn start() -> Result<Self> {
        let folder = scratch()?;
        let (authority, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        make(
            &authority,
            &key,
            &["-subj", "/CN=ours", "-addext", "basicConstraints=critical,CA:TRUE"],
        )?;
        let (certificate, own) =
            (folder.path().join("server.pem"), folder.path().join("server.key"));
        let (ca, ca_key) = (authority.to_string_lossy(), key.to_string_lossy());
        let issuer = ["-CA", &ca, "-CAkey", &ca_key, "-subj", "/CN=server"];
        let names =
            ["-addext", "subjectAltName=IP:10.0.2.2", "-addext", "basicConstraints=CA:FALSE"];
        make(&certificate, &own, &[&issuer[..], &names].concat())?;
        let port = free_port()?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "openssl", "s_server", "-quiet", "-www"])
            .args(["-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", &certificate.to_string_lossy(), "-key", &own.to_string_lossy()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Starting openssl s_server")?;
        Ok(Self { child, port, authority, _folder: folder })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Makes a key and a certificate for it.
fn make(certificate: &Path, key: &Path, more: &[&str]) -> Result<()> {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "3650", "-keyout", &key.to_string_lossy()])
        .args(["-out", &certificate.to_string_lossy()])
        .args(more)
        .output()
        .context("Running openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
