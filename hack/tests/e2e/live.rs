// SPDX-License-Identifier: Apache-2.0
//! A node without a disk: what one sees of it, and what it does not do.

use crate::world::{Kept, World, field, resource, resources, says, version, with_more};
use anyhow::{Context as _, Result, ensure};
use hack::{json, suite::Checks};
use serde_json::Value;
use std::{process::Command, time::Duration};

const SOON: Duration = Duration::from_secs(20);

pub(crate) fn node(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.live("live")?);

    checks.check("the console ends with the address and how to reach the node", || {
        says(&node.vm.console().text(), &["ready:", "10.0.2.15", "ctl -n"])
    });
    checks.check("a healthy boot prints about a dozen lines", || {
        let text = node.vm.console().text();
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        ensure!((3..=16).contains(&lines), "{lines} lines:\n{text}");
        Ok(())
    });
    checks.check("version names image, kernel, architecture and mode", || {
        let printed = node.ctl.json(["version"])?;
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(world.artefacts.dir().join("manifest.json"))?)?;
        ensure!(Some(version(&node)?.as_str()) == manifest["version"].as_str(), "{printed}");
        says(&printed.to_string(), &["deb13-cloud-amd64", "x86-64", "running", "live"])
    });
    checks.check("every kind can be listed, as a table, as JSON and as YAML", || {
        let kinds = node.ctl.json(["get"])?;
        let mut names = Vec::new();
        collect_names(&kinds, &mut names);
        ensure!(names.len() > 10, "few kinds: {kinds}");
        for name in names {
            node.ctl.json(["get", &name])?;
            node.ctl.run(["get", &name])?;
            let yaml = node.ctl.run(["get", &name, "-o", "yaml"])?;
            serde_yaml::from_str::<serde_yaml::Value>(&yaml)
                .with_context(|| format!("{name}: {yaml}"))?;
        }
        Ok(())
    });
    checks.check("services shows the API running", || {
        ensure!(field(&resource(&node, "service", "apid")?, "state")? == "running");
        says(&node.ctl.run(["services"])?, &["apid", "running"])
    });
    checks.check("logs, dmesg, --tail and --since read logs", || {
        says(&node.ctl.run(["logs"])?, &["apid", "kernel", "audit"])?;
        says(&node.ctl.run(["dmesg"])?, &["Linux version", "stele:"])?;
        ensure!(node.ctl.run(["logs", "kernel", "--tail", "3"])?.lines().count() == 3);
        ensure!(node.ctl.run(["dmesg", "--since", "1h"])?.lines().count() > 3);
        Ok(())
    });
    checks.check("an unknown log, kind or name is refused with what there is", || {
        says(&node.ctl.fails(["logs", "nonsense"])?, &["nonsense"])?;
        says(&node.ctl.fails(["get", "nonsense"])?, &["nonsense"])
    });
    checks.check("PID 1 has no IP socket", || {
        let descriptors = resources(&node, "descriptor")?;
        ensure!(descriptors.len() > 5, "few descriptors: {descriptors:?}");
        let family =
            |resource: &Value| json::text(&resource["status"], "family").unwrap_or_default();
        let families: Vec<String> =
            descriptors.iter().map(family).filter(|family| !family.is_empty()).collect();
        ensure!(families.iter().any(|family| family == "unix"), "no unix socket: {families:?}");
        let known = ["unix", "netlink"];
        ensure!(families.iter().all(|family| known.contains(&family.as_str())), "{descriptors:#?}");
        Ok(())
    });
    checks.check("the configuration came from fw_cfg and is not kept without a disk", || {
        ensure!(field(&resource(&node, "source", "fw_cfg")?, "state")? == "used");
        Ok(())
    });
    checks.check("a watch shows a change as it happens", || {
        let watch = node.ctl.follow(["get", "resolver", "-w"])?;
        watch.wait_for("10.0.2.3", SOON)?;
        let more = "---\napiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.53]\n";
        let file = with_more(&node, more)?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
        watch.wait_for("192.0.2.53", SOON)?;
        watch.end()
    });
    checks.check("a followed log shows a line as it is written", || {
        let follower = node.ctl.follow(["logs", "audit", "-f"])?;
        follower.wait_for("Apply", SOON)?;
        node.ctl.run(["get", "memory"])?;
        follower.wait_for("ResourceService/List", SOON)?;
        follower.end()
    });
    checks.check("every call is audited with subject, role, method and result", || {
        let reader = world.operator.client(&node, "eve", "os:reader", "1h")?;
        reader.run(["version"])?;
        reader.fails(["reboot"])?;
        // The line comes to the log by a way of its own, beside the answer.
        node.wait_until("the refused reboot is in the audit log", SOON, || {
            let audit = node.ctl.run(["logs", "audit", "--raw"])?;
            let refused = audit.lines().find(|line| line.contains("MachineService/Reboot"));
            let refused = refused.unwrap_or_default();
            Ok(says(refused, &["eve", "os:reader", "PERMISSION_DENIED"]).is_ok())
        })
    });
    checks.check("a role that is too low is told which one it takes", || {
        let reader = world.operator.client(&node, "eve", "os:reader", "1h")?;
        says(&reader.fails(["shutdown"])?, &["os:operator", "os:reader"])?;
        let operator = world.operator.client(&node, "olga", "os:operator", "1h")?;
        let file = node.files.machine.to_string_lossy().into_owned();
        says(&operator.fails(["apply-config", "-f", &file])?, &["os:admin"])
    });
    checks.check("a key is redacted for who may not see it", || {
        let reader = world.operator.client(&node, "eve", "os:reader", "1h")?;
        let seen = reader.run(["get", "config"])?;
        ensure!(!seen.contains("PRIVATE KEY"), "a reader sees the private key");
        ensure!(
            node.ctl.run(["get", "config"])?.contains("PRIVATE KEY"),
            "an admin does not see it"
        );
        Ok(())
    });
    checks.check("a standard gRPC client can call health and reflection", || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/standard_client.py");
        let credentials = node.credentials()?;
        let output = Command::new("/usr/bin/python3")
            .args([script, &node.vm.api()?, &node.name])
            .env("CA", credentials.ca)
            .env("CERTIFICATE", credentials.certificate)
            .env("KEY", credentials.key)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        says(&said, &["SERVING", "stele.v1.MachineService"])
    });
    checks.check("memory in use is nowhere near a leak", || {
        // The exact figure is that of `hack bench`.
        let memory = resource(&node, "memory", "system")?;
        let used = field(&memory, "total")?.parse::<f64>()?
            - field(&memory, "available")?.parse::<f64>()?;
        ensure!(used < 250e6, "{used} bytes are in use");
        Ok(())
    });
    Ok(())
}

/// The names in what `ctl get -o json` prints.
fn collect_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => match map.get("name").and_then(Value::as_str) {
            Some(name) if map.contains_key("description") => names.push(name.to_owned()),
            _ => map.values().for_each(|value| collect_names(value, names)),
        },
        Value::Array(values) => values.iter().for_each(|value| collect_names(value, names)),
        _ => {}
    }
}
