// SPDX-License-Identifier: Apache-2.0
//! What one would start a shell for: the network as a node sees it, and what its kernel says of the machine.

use crate::{
    http::Server,
    world::{Kept, World, resources, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{ctl::Ctl, json, suite::Checks};
use serde_json::Value;
use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(30);
/// This host, as the guest sees it.
const HOST: &str = "10.0.2.2";
/// Diagnostics that may be under way at once.
const PLACES: usize = 8;

pub(crate) fn every(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.live("looked-into")?);
    let operator = world.operator.client(&node, "olga", "os:operator", "8h")?;
    let reader = world.operator.client(&node, "eve", "os:reader", "8h")?;
    network(&node, &operator, checks)?;
    machine(&node, &reader, checks);
    rights(&node, &operator, &reader, checks);
    captures(&node, checks)
}

fn network(node: &Kept, operator: &Ctl, checks: &Checks) -> Result<()> {
    checks.check("ping and traceroute reach the gateway", || {
        let text = operator.run(["ping", HOST, "-c", "3", "-i", "200ms"])?;
        says(&text, &["1: 10.0.2.2 answers after", "3 of 3 answered"])?;
        says(&operator.run(["traceroute", HOST])?, &["1  10.0.2.2", " ms"])?;
        let text = operator.fails(["ping", "10.0.2.77", "-c", "1"])?;
        says(&text, &["0 of 1 answered"])?;
        says(&operator.fails(["ping", "no-such-host.invalid", "-c", "1"])?, &["looking up"])
    });
    let server = name_server()?;
    checks.check("dig asks the server that it is told to", || {
        let text = operator.fails(["dig", "stele.example", "--server", &server])?;
        says(&text, &["NXDomain from", &server])
    });
    let files = scratch()?;
    fs::write(files.path().join("page"), "fine\n")?;
    let web = Server::start(files.path())?;
    checks.check("probes tell what answers from what does not", || {
        let place = format!("{HOST}:{}", web.port());
        says(&operator.run(["probe", "tcp", &place])?, &["answers at 10.0.2.2"])?;
        says(&operator.run(["probe", "http", &web.url("page")])?, &["HTTP/1.0 200, 5 B"])?;
        says(&operator.run(["probe", "http", &web.url("nothing")])?, &["404"])?;
        let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let place = format!("{HOST}:{closed}");
        says(&operator.fails(["probe", "tcp", &place, "-W", "3s"])?, &["fails"])
    });
    checks.check("a TLS probe shows the certificates of who is not trusted", || {
        // The API of the node itself, whose authority is the operator's own.
        let text = operator.fails(["probe", "tls", "127.0.0.1:50000", "--alpn", "h2"])?;
        says(&text, &["UnknownIssuer", "TLSv1_3", "h2", "certificate of"])
    });
    checks.check("PID 1 has opened no IP socket for all of that", || {
        for descriptor in resources(node, "descriptor")? {
            let family = json::text(&descriptor["status"], "family").unwrap_or_default();
            ensure!(["", "unix", "netlink"].contains(&family.as_str()), "{descriptor}");
        }
        Ok(())
    });
    Ok(())
}

/// A name server that knows no name; where the guest finds it.
fn name_server() -> Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // The question again, as an answer: there is no such name.
            buffer[2..4].copy_from_slice(&[0x81, 0x83]);
            if socket.send_to(&buffer[..length], from).is_err() {
                return;
            }
        }
    });
    Ok(format!("{HOST}:{port}"))
}

/// The first of a list for which something holds.
fn find(list: &Value, holds: impl Fn(&Value) -> bool) -> Result<&Value> {
    let items = list.as_array().with_context(|| format!("No list: {list}"))?;
    items.iter().find(|item| holds(item)).with_context(|| format!("Not in {list}"))
}

fn machine(node: &Kept, reader: &Ctl, checks: &Checks) {
    checks.check("a reader sees processes and their control groups", || {
        let list = reader.json(["ps"])?;
        let init = find(&list, |process| process["pid"] == 1)?;
        ensure!(init["memory"].as_u64() > Some(1_000_000), "{init}");
        let apid = find(&list, |process| process["cgroup"] == "/stele/apid")?;
        ensure!(apid["uid"] == 201 && apid["name"] == "apid", "{apid}");
        ensure!(apid["arguments"] == Value::Array(Vec::new()), "{apid}");
        let groups = reader.json(["cgroups"])?;
        let apid = find(&groups, |group| group["path"] == "/stele/apid")?;
        ensure!(apid["memory"].as_u64() > Some(1_000_000) && apid["cpuUs"] != 0, "{apid}");
        Ok(())
    });
    checks.check("the API's socket is named as apid's", || {
        let list = reader.json(["netstat", "--listening"])?;
        let port = |socket: &Value| socket["local"].as_str().is_some_and(|a| a.ends_with(":50000"));
        ensure!(find(&list, port)?["service"] == "apid", "{list}");
        says(&reader.run(["netstat", "--unix"])?, &["/run/stele/init.sock"])
    });
    checks.check("mounts, memory, pressure and disks are shown", || {
        let mounts = reader.json(["mounts"])?;
        let root = find(&mounts, |mount| mount["target"] == "/")?;
        ensure!(root["type"] == "squashfs" && root["size"] != 0, "{root}");
        let memory = reader.json(["memory"])?;
        ensure!(memory["total"].as_u64() > memory["available"].as_u64(), "{memory}");
        let pressure = reader.json(["pressure"])?;
        find(&pressure, |stall| stall["resource"] == "memory")?;
        for command in ["ps", "netstat", "mounts", "memory", "cgroups", "pressure", "disks"] {
            reader.run([command])?;
            reader.run([command, "-o", "yaml"])?;
        }
        Ok(())
    });
    checks.check("no agent is left behind", || {
        node.wait_until("they have ended", SOON, || {
            let list = node.ctl.json(["ps"])?;
            // The one that looks sees itself.
            let agents = list.as_array().into_iter().flatten();
            Ok(agents.filter(|process| process["name"] == "diagnose").count() <= 1)
        })
    });
}

fn rights(node: &Kept, operator: &Ctl, reader: &Ctl, checks: &Checks) {
    checks.check("who only looks sends nothing, and nobody but an admin sees secrets", || {
        says(&reader.fails(["ping", HOST])?, &["os:operator"])?;
        says(&reader.fails(["probe", "tcp", "10.0.2.2:1"])?, &["os:operator"])?;
        says(&operator.fails(["pcap", "eth0", "-w", "/dev/null"])?, &["os:admin"])?;
        says(&operator.fails(["ps", "--arguments"])?, &["os:admin"])?;
        says(&node.ctl.run(["ps", "--arguments"])?, &["/usr/lib/stele/apid"])
    });
    checks.check("what is too much is refused with the limit", || {
        says(&operator.fails(["ping", HOST, "-i", "1ms"])?, &["interval_ms is 1", "200 to 10000"])?;
        let long = "a".repeat(300);
        says(&operator.fails(["dig", &long])?, &["longer than 255"])?;
        says(&node.ctl.fails(["pcap", "no-link", "-w", "/dev/null"])?, &["no link no-link"])
    });
}

fn captures(node: &Kept, checks: &Checks) -> Result<()> {
    let files = scratch()?;
    let file = files.path().join("capture.pcap");
    let capture = |file: &Path, more: &[&str]| {
        let file = file.to_string_lossy();
        node.ctl.follow([&["pcap", "eth0", "-w", &file], more].concat())
    };
    // The beginning of a file comes at once.
    let begun = |file: &Path| {
        node.wait_until("the capture has begun", SOON, || {
            Ok(fs::metadata(file).is_ok_and(|file| file.len() >= 24))
        })
    };
    checks.check("tcpdump reads what was captured", || {
        let captured = capture(&file, &["--filter", "icmp", "-c", "4"])?;
        begun(&file)?;
        node.ctl.run(["ping", HOST, "-c", "2", "-i", "200ms"])?;
        ensure!(captured.wait()?, "the capture failed");
        let output = Command::new("tcpdump").args(["-n", "-r"]).arg(&file).output();
        let output = output.context("Running tcpdump, from the package of this name")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.lines().count() == 4, "{text}");
        says(&text, &["10.0.2.15 > 10.0.2.2: ICMP echo request", "ICMP echo reply"])
    });
    checks.check("there are only so many at once, and they end with who asked for them", || {
        let names: Vec<_> = (0..PLACES).map(|n| files.path().join(format!("{n}.pcap"))).collect();
        let captured: Vec<_> =
            names.iter().map(|file| capture(file, &["-d", "5m"])).collect::<Result<_>>()?;
        names.iter().try_for_each(|file| begun(file))?;
        says(&node.ctl.fails(["memory"])?, &["as many as there may be"])?;
        drop(captured);
        node.wait_until("there is room again", SOON, || Ok(node.ctl.run(["memory"]).is_ok()))
    });
    Ok(())
}
