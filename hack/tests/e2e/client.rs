// SPDX-License-Identifier: Apache-2.0
//! The client and a configuration: patched, edited, compared, held against the machine.

use crate::world::{World, says};
use anyhow::{Context as _, Result, ensure};
use hack::suite::Checks;
use std::process::Command;

pub(crate) fn configuration(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("client")?;
    let history = node.ctl.json(["config", "history"])?;
    let first = history[0]["number"].as_u64().context("There is no generation")?;
    let generation = |after: u64| format!("generation {}", first + after);
    let number = |after: u64| (first + after).to_string();
    let servers = |servers: &str| format!("{{kind: Resolver, servers: [{servers}]}}");

    checks.check("a machine that was left alone does not drift", || {
        says(&node.ctl.run(["drift"])?, &[&format!("it is what {} says", generation(0))])
    });
    checks.check("a patch shows what differs, and a dry run is no more than that", || {
        let patch = servers("192.0.2.1");
        let said = node.ctl.run(["patch", "-p", &patch, "--dry-run"])?;
        says(&said, &["+++ Resolver", "+- 192.0.2.1", "nothing was changed"])?;
        says(&node.ctl.run(["patch", "-p", &patch])?, &[&generation(1), "live"])?;
        says(&node.ctl.run(["get", "resolver"])?, &["192.0.2.1"])
    });
    checks.check("operations of RFC 6902 find documents by their kind", || {
        let operations =
            r#"[{"op": "replace", "path": "/Resolver/servers/0", "value": "192.0.2.2"}]"#;
        let patch = ["patch", "--type", "json", "-p", operations];
        says(&node.ctl.run(patch)?, &["-- 192.0.2.1", "+- 192.0.2.2", &generation(2)])
    });
    checks.check("an editor sees no secret, and what it leaves is sent", || {
        let line = "f() { ! grep -q PRIVATE \"$1\" && sed -i s/192.0.2.2/192.0.2.3/ \"$1\"; }; f";
        let editor = node.ctl.with_editor(line);
        says(&editor.run(["edit"])?, &["+- 192.0.2.3", &generation(3)])
    });
    checks.check(
        "what is edited while another applies is not lost, and overwrites nothing",
        || {
            // The editor itself brings the other configuration, as another user would meanwhile.
            let (program, file) = (node.ctl.program().display(), node.files.machine.display());
            let other = format!("{program} apply-config -f {file}");
            let line = format!("f() {{ sed -i s/192.0.2.3/192.0.2.4/ \"$1\" && {other}; }}; f");
            let editor = node.ctl.with_editor(&line);
            says(
                &editor.fails(["edit"])?,
                &["ABORTED", &format!("({})", generation(3)), "+++ (none)", "ctl edit -f"],
            )
        },
    );
    checks.check("generations are compared, shown and gone back to", || {
        says(
            &node.ctl.run(["config", "diff", &number(2), &number(3)])?,
            &["-- 192.0.2.2", "+- 192.0.2.3"],
        )?;
        says(&node.ctl.run(["config", "show", &number(2)])?, &["192.0.2.2"])?;
        says(&node.ctl.run(["config", "rollback", &number(3)])?, &["+- 192.0.2.3", &generation(5)])
    });
    checks.check("events tell what a request has caused", || {
        let history = node.ctl.json(["config", "history"])?;
        let request = history[0]["request"].as_str().context("No request")?.to_owned();
        let events = node.ctl.run(["events", "--request", &request])?;
        says(&events, &[&format!("Generation {}", number(5)), &request])?;
        ensure!(node.ctl.run(["events"])?.lines().count() > events.lines().count());
        Ok(())
    });
    checks.check("what waits for a start is drift", || {
        node.ctl.run(["patch", "-p", &servers("192.0.2.5"), "--mode", "staged"])?;
        let said = node.ctl.fails(["drift"])?;
        says(&said, &[&format!("Generation {}", number(6)), "staged"])
    });
    checks.check("a JSON path finds what a script needs", || {
        let path = "jsonpath={.status.servers[0]}";
        let said = node.ctl.run(["get", "resolver", "resolver", "-o", path])?;
        ensure!(said == "192.0.2.3\n", "{said:?}");
        says(&node.ctl.run(["get", "links", "-o", "wide"])?, &["UPDATED", "eth0"])
    });
    checks.check("a support archive holds every kind, the logs, and no key", || {
        let folder = node.ctl.home().join("support");
        std::fs::create_dir(&folder)?;
        let said = node.ctl.run(["support", "-o", &folder.to_string_lossy()])?;
        ensure!(!said.contains("without"), "{said}");
        let archive = std::fs::read_dir(&folder)?.next().context("There is no archive")??.path();
        let output = Command::new("tar").arg("-xzOf").arg(&archive).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        says(&text, &["Linux version", "(secret Identity key)", "Made by ctl"])?;
        ensure!(!text.contains("PRIVATE KEY"), "it holds a key");
        Ok(())
    });
    Ok(())
}
