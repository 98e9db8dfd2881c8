// SPDX-License-Identifier: Apache-2.0
//! A configuration that is not valid is refused with one clear answer, and changes nothing.

use crate::{
    raw,
    world::{Kept, World, resources, says, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{node::Operator, suite::Checks};
use std::fs;
use tonic::Code;

pub(crate) fn bad_input(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.live("steady")?);
    let before = node.ctl.run(["get", "config"])?;
    let generations = resources(&node, "generation")?.len();
    let good = fs::read_to_string(&node.files.machine)?;

    let refused = |documents: Vec<u8>, needles: &[&str]| -> Result<()> {
        let status = raw::apply(&node, documents)?.err().context("It was accepted")?;
        ensure!(
            status.code() == Code::InvalidArgument,
            "{:?}: {}",
            status.code(),
            status.message()
        );
        says(status.message(), needles)?;
        ensure!(node.ctl.run(["get", "config"])? == before, "the configuration has changed");
        ensure!(resources(&node, "generation")?.len() == generations, "there is a generation more");
        Ok(())
    };

    checks.check("not YAML", || refused(b"\x00\xff{{{ : not - yaml".to_vec(), &[]));
    checks
        .check("YAML that is no configuration", || refused(b"- 1\n- 2\n".to_vec(), &["document"]));
    checks.check("an unknown kind, with what was meant", || {
        refused(
            format!("{good}---\napiVersion: stele/v1\nkind: Hostnam\nhostname: x\n").into_bytes(),
            &["Hostname"],
        )
    });
    checks.check("an unknown key, with its line", || {
        let documents = format!(
            "{good}---\napiVersion: stele/v1\nkind: Link\nname: eth0\nadresses: [1.2.3.4/8]\n"
        );
        let line = documents.lines().position(|line| line.starts_with("adresses")).unwrap_or(0) + 1;
        refused(documents.into_bytes(), &["adresses", "addresses", &format!("line {line}")])
    });
    checks.check("everything that is wrong comes in one answer", || {
        let documents = format!(
            "{good}---\napiVersion: stele/v1\nkind: Link\nname: eth0\nmtu: 7\nmac: x\n---\nkind: Resolver\nservers: [nowhere]\n"
        );
        refused(documents.into_bytes(), &["mtu", "mac", "apiVersion", "servers"])
    });
    checks.check("10 MiB of it", || {
        let documents = good.clone() + &"# padding\n".repeat(1 << 20);
        let status = raw::apply(&node, documents.into_bytes())?.err().context("It was accepted")?;
        ensure!(
            matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted),
            "{status}"
        );
        ensure!(node.ctl.run(["get", "config"])? == before, "the configuration has changed");
        Ok(())
    });
    checks.check("a billion laughs", || {
        let mut laughs = "a0: &a0 [ha]\n".to_owned();
        for n in 1..12 {
            let last = n - 1;
            laughs += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{last}"); 10].join(","));
        }
        refused(laughs.into_bytes(), &[])
    });
    checks.check("a certificate that the CA did not sign", || {
        let stranger = Operator::new(&world.artefacts)?;
        let other = fs::read_to_string(stranger.files("steady", "127.0.0.1:1")?.machine)?;
        let mixed = good.replacen(&authority(&good)?, &authority(&other)?, 1);
        ensure!(mixed != good, "nothing was replaced");
        refused(mixed.into_bytes(), &["certificate"])
    });
    checks.check("ctl says all of it without asking the node, and exits with 2", || {
        let file = with_more(&node, "---\napiVersion: stele/v1\nkind: Hostnam\nhostname: x\n")?;
        let file = file.to_string_lossy();
        for command in [["validate", "-f", &file], ["apply-config", "-f", &file]] {
            let output = node.ctl.output(command)?;
            ensure!(output.status.code() == Some(2), "{}", output.status);
        }
        says(&node.ctl.fails(["apply-config", "-f", &file])?, &["Hostnam", "Nothing was sent"])
    });
    checks.check("a dry run says what would happen and changes nothing", || {
        let file =
            with_more(&node, "---\napiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.53]\n")?;
        node.ctl.run(["apply-config", "--dry-run", "-f", &file.to_string_lossy()])?;
        ensure!(node.ctl.run(["get", "config"])? == before, "the configuration has changed");
        Ok(())
    });
    checks.check("kernel arguments, where nothing could start the machine with them", || {
        let more = "---\napiVersion: stele/v1\nkind: KernelArgs\nargs: [nosmt]\n";
        let file = with_more(&node, more)?;
        let file = file.to_string_lossy();
        let said = node.ctl.fails(["apply-config", "--dry-run", "-f", &file])?;
        says(&said, &["args", "keeps nothing over a restart"])
    });
    checks.check("a good one is still taken", || {
        let file =
            with_more(&node, "---\napiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.53]\n")?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&node.ctl.run(["get", "resolver"])?, &["192.0.2.53"])
    });
    Ok(())
}

/// The first certificate of a configuration: the authority's.
fn authority(config: &str) -> Result<String> {
    let end = "-----END CERTIFICATE-----";
    let start = config
        .find("-----BEGIN CERTIFICATE-----")
        .context("The configuration has no certificate")?;
    let rest = config.get(start..).unwrap_or_default();
    let length = rest.find(end).context("The certificate has no end")? + end.len();
    Ok(rest.get(..length).unwrap_or_default().to_owned())
}
