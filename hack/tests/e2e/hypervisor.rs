// SPDX-License-Identifier: Apache-2.0
//! What a hypervisor hands over itself, without a drive or a network. VMware's is played here, as it plays itself: a program's
//! `in` instruction at its port is an offence, of which the processor tells the kernel; a hypervisor that watches for that
//! answers in place of the kernel, and lets the program go on behind the instruction.
//!
//! Hyper-V's host speaks by VMBus, which QEMU does not have under TCG: its messages are tried by the agent's own tests.

#[path = "../../../init/agents/src/guestinfo/model.rs"]
mod model;

use crate::{
    fixed::by_document,
    world::{Kept, World, field, is_named, resource, says, scratch},
};
use anyhow::{Context as _, Result, bail, ensure};
use hack::{
    debugger::{Debugger, Register},
    machine::Machine,
    node::{BOOT, Node},
    suite::Checks,
    vm::Vm,
};
use model::Hypervisor;
use serde_json::json;
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// What the firmware of VMware's machines says; QEMU reads two commas as one.
const FIRMWARE: &str = "type=1,manufacturer=VMware,, Inc.,product=VMware7,,1,uuid=564d7f3a-9c1e-4b52-8d60-2a17c5e8f904";
const UUID: &str = "564d7f3a-9c1e-4b52-8d60-2a17c5e8f904";
/// "VMXh", in EAX, and the port, in DX.
const MAGIC: u64 = 0x564d_5868;
const PORT: u64 = 0x5658;
/// The general protection fault.
const FAULT: u64 = 13;
/// `iretq`.
const RETURN: [u8; 2] = [0x48, 0xcf];
/// A card whose place on the bus is before that of the machine's own.
const NEW_MAC: &str = "52:54:00:00:00:77";
const NEW_CARD: &str = "virtio-net-pci,netdev=new,addr=8,romfile=,mac=52:54:00:00:00:77";
/// How long what is shown may take to be there.
const SOON: Duration = Duration::from_secs(60);

type Shared = Arc<Mutex<Hypervisor>>;

/// Plays the hypervisor for the boot that has just begun, until that ends.
fn play(vm: &Vm, socket: &Path, mark: usize, hypervisor: &Shared) -> Result<()> {
    // By then the kernel has set up how it is told of offences.
    vm.wait_for_line_after(mark, "stele: Stele ", BOOT)?;
    let shown = vm.qmp("human-monitor-command", json!({"command-line": "info registers"}))?;
    let table = shown.as_str().and_then(|text| text.split("IDT=").nth(1));
    let table = table.and_then(|text| text.split_whitespace().next()).context("No IDT=")?;
    let table = u64::from_str_radix(table, 16)?;
    let mut debugger = Debugger::attach(socket)?;
    let (low, high) =
        (debugger.number(table + FAULT * 16)?, debugger.number(table + FAULT * 16 + 8)?);
    let handler = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
    let way_back = way_back(&mut debugger, handler)?;
    debugger.stop_at(handler)?;
    let hypervisor = Arc::clone(hypervisor);
    thread::spawn(move || {
        while debugger.go_on() {
            if let Err(error) = offence(&mut debugger, handler, way_back, &hypervisor) {
                println!("playing the hypervisor: {error:#}");
                return;
            }
        }
    });
    Ok(())
}

/// Where the kernel has an instruction that leads back to a program.
fn way_back(debugger: &mut Debugger, handler: u64) -> Result<u64> {
    const PAGE: u64 = 4096;
    let first = handler & !(PAGE - 1);
    for page in (0..16).flat_map(|page| [first + page * PAGE, first - (page + 1) * PAGE]) {
        let text = debugger.read(page, 4096)?;
        if let Some(at) = text.windows(2).position(|bytes| bytes == RETURN) {
            return Ok(page + at as u64);
        }
    }
    bail!("The kernel has no iretq near {handler:#x}")
}

/// Answers an offence if it is a step of a message; otherwise it is the kernel's business. On its stack is what the processor says
/// of the program: a code, RIP, and what else leads back.
fn offence(
    debugger: &mut Debugger,
    handler: u64,
    way_back: u64,
    hypervisor: &Shared,
) -> Result<()> {
    let registers = debugger.registers()?;
    let stack = registers.get(Register::Rsp)?;
    let word = |register| registers.get(register).map(|value| value & 0xffff_ffff);
    let (b, c, d) = (word(Register::Rbx)?, word(Register::Rcx)?, word(Register::Rdx)?);
    let (source, target) = (word(Register::Rsi)?, word(Register::Rdi)?);
    if word(Register::Rax)? != MAGIC || d & 0xffff != PORT || c & 0xffff != 0x1e {
        return debugger.step_over(handler);
    }
    let cookies = [u32::try_from(source)?, u32::try_from(target)?];
    let step = (u16::try_from(c >> 16)?, u16::try_from(d >> 16)?, u32::try_from(b)?, cookies);
    let (status, channel, value, [source, target]) =
        hypervisor.lock().unwrap_or_else(PoisonError::into_inner).step(step);
    for (register, value) in [
        (Register::Rbx, u64::from(value)),
        (Register::Rcx, u64::from(status) << 16 | c & 0xffff),
        (Register::Rdx, u64::from(channel) << 16 | d & 0xffff),
        (Register::Rsi, u64::from(source)),
        (Register::Rdi, u64::from(target)),
        (Register::Rsp, stack + 8),
        (Register::Rip, way_back),
    ] {
        debugger.set(register, value)?;
    }
    // The instruction has one byte.
    let offender = debugger.number(stack + 8)?;
    debugger.write(stack + 8, offender + 1)
}

pub(crate) fn guestinfo(world: &World, checks: &Checks) -> Result<()> {
    let (dir, files) = (scratch()?, scratch()?);
    let socket = files.path().join("gdb");
    let hypervisor = Shared::default();
    let mut machine = Machine::installed(&world.artefacts, dir.path(), 4)?.with_debugger(&socket);
    machine.extra.extend(["-smbios", FIRMWARE, "-set", "device.nic0.addr=9"].map(str::to_owned));
    let node = Node::start_with(&world.operator, "guestinfo", machine, dir, |machine, made| {
        // The name that udev would give the card, as whoever writes this by hand knows it.
        let metadata = "local-hostname: ignored\nnetwork:\n  version: 2\n  ethernets:\n    ens192:\n      dhcp4: true\n      mtu: 1400\n";
        *hypervisor.lock().unwrap_or_else(PoisonError::into_inner) = Hypervisor::with(&[
            ("metadata", metadata),
            ("userdata", &stele_signature::write(&fs::read(&made.machine)?)),
            ("userdata.encoding", "base64"),
        ]);
        Ok(machine)
    })?;
    let mut node = Kept(node);
    let kept = |key: &str| {
        let hypervisor = hypervisor.lock().unwrap_or_else(PoisonError::into_inner);
        hypervisor.values.get(key).cloned().unwrap_or_default()
    };
    play(&node.vm, &socket, 0, &hypervisor)?;
    checks.check("VMware's hypervisor configures a machine", || {
        let begun = Instant::now();
        node.wait_until_it_answers()?;
        world.figure(format!(
            "boot to API with a configuration by guestinfo, a step at a time: {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        let source = resource(&node, "source", "guestinfo")?;
        ensure!(field(&source, "state")? == "used", "{source}");
        says(&node.vm.console().text(), &["platform vmware: sys_vendor begins with VMware"])
    });
    checks.check(
        "what it knows of the machine is a resource, and the network is as it says",
        || {
            let platform = resource(&node, "platform", "vmware")?;
            ensure!(field(&platform, "state")? == "answered", "{platform}");
            // The hypervisor does not say; the firmware does.
            ensure!(field(&platform, "instanceId")? == UUID, "{platform}");
            ensure!(field(&platform, "hostname")? == "ignored", "{platform}");
            is_named(&node, "guestinfo", "configuration")?;
            node.wait_until("the link is as the metadata describes it", SOON, || {
                let link = resource(&node, "link", "eth0")?;
                Ok(field(&link, "mtu").is_ok_and(|mtu| mtu.trim_end_matches(".0") == "1400"))
            })
        },
    );
    checks.check("the user-data that was taken is forgotten there, and nothing else is", || {
        node.wait_until("the hypervisor has forgotten it", SOON, || Ok(kept("userdata") == "---"))?;
        ensure!(kept("userdata.encoding") == " ");
        ensure!(kept("metadata").contains("local-hostname"));
        let platform = resource(&node, "platform", "vmware")?;
        ensure!(field(&platform, "told")? == "to forget the user-data", "{platform}");
        Ok(())
    });
    checks.check("it starts again without it, and with another card before the one it had", || {
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        let card = ["-netdev", "user,id=new,net=10.9.0.0/24", "-device", NEW_CARD];
        node.vm.machine().extra.extend(card.map(str::to_owned));
        let mark = node.vm.console().text().len();
        node.vm.power_on()?;
        play(&node.vm, &socket, mark, &hypervisor)?;
        node.wait_until_it_answers()?;
        node.wait_until("the hypervisor was asked", SOON, || {
            let platform = resource(&node, "platform", "vmware")?;
            Ok(field(&platform, "state").is_ok_and(|state| state == "answered"))
        })?;
        ensure!(node.ctl.json(["config", "history"])?.as_array().is_some_and(|all| all.len() == 1));
        let link = by_document(&node, "ens192")?;
        ensure!(link["status"]["mac"] != NEW_MAC, "{link}");
        let links = node.ctl.run(["get", "link", "-o", "json"])?;
        says(&links, &[NEW_MAC])
    });
    for (name, reason) in [("vmware", "killed by SIGSEGV"), ("hyperv", "/dev/vmbus/hv_kvp")] {
        checks.check(&format!("a machine that is none of {name}'s is told so, and runs"), || {
            let machine =
                Machine::live(&world.artefacts)?.append(&format!("stele.platform={name}"));
            let label = format!("no-{name}");
            let node = Node::start_configured(&world.operator, &label, machine, scratch()?)?;
            let node = Kept(node);
            node.wait_until_it_answers()?;
            node.wait_until("the platform is told to have failed", SOON, || {
                let platform = resource(&node, "platform", name)?;
                Ok(field(&platform, "state").is_ok_and(|state| state == "failed"))
            })?;
            says(&field(&resource(&node, "platform", name)?, "reason")?, &[reason])
        });
    }
    Ok(())
}
