// SPDX-License-Identifier: Apache-2.0
//! Fifteen images that must not cost a machine: each time it is back on the good one by itself, and knows why.

use crate::{
    web::{Mood, Web},
    world::{Kept, World, field, mode, resources, says, settle, version},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    broken::{self, Fault, Way},
    disk,
    node::BOOT,
    suite::Checks,
    variants::{BROKEN, NEXT},
};
use std::time::{Duration, Instant};
use stele_layout::{
    slot::{SlotFile, Stage, TRIES},
    version::Version,
};

/// Three tries until a watchdog bites, and the way back.
const PATIENCE: Duration = Duration::from_secs(600);

/// The scenario of one fault.
pub(crate) fn fault<const NUMBER: usize>(world: &World, checks: &Checks) -> Result<()> {
    let fault = *broken::ALL.get(NUMBER).context("There are fifteen")?;
    let bad = match fault {
        Fault::CheckFails | Fault::CheckFlaps => NEXT,
        _ => BROKEN,
    };
    let first = env!("CARGO_PKG_VERSION");
    let label = format!("broken-{}", fault.name());
    let (node, web) = match fault.way() {
        Way::Hand => (by_hand(world, fault, &label)?, None),
        Way::Upgrade => {
            let node = world.settled(&label)?;
            let web = match fault {
                Fault::CheckFails | Fault::CheckFlaps => Some(Web::watched(&node, "25s")?),
                _ => None,
            };
            (node, web)
        }
    };
    let began = Instant::now();
    let boot = if fault.way() == Way::Upgrade { Some(node.boot_id()?) } else { None };
    let follower = match fault.way() {
        Way::Hand => None,
        Way::Upgrade => {
            let image = world.variants.broken(fault);
            let follower = node.ctl.follow(["upgrade", "--image", &image.to_string_lossy()])?;
            node.vm.wait_for_launch(2, BOOT).with_context(|| follower.text())?;
            if let Some(web) = &web {
                web.feel(if fault == Fault::CheckFails { Mood::Bad } else { Mood::Fickle });
            }
            Some(follower)
        }
    };
    checks.check("the node is back on the image that works, by itself", || {
        if let Some(web) = &web {
            // What is wrong with a good image has to be right again on the one before it.
            node.vm.wait_for_launch(2 + TRIES, PATIENCE)?;
            web.feel(Mood::Good);
        }
        node.wait_until("it is back", PATIENCE, || {
            let now = node.boot_id();
            Ok(now.is_ok_and(|now| Some(now) != boot) && version(&node).is_ok_and(|now| now == first))
        })?;
        let failing = u32::from(fault.way() == Way::Upgrade) + 1;
        let from = node.vm.launched(failing).unwrap_or(began);
        world.figure(format!(
            "broken image {}: {:.1} s from the first boot that fails to the API on the old image, {} boots",
            fault.name(),
            from.elapsed().as_secs_f32(),
            node.vm.launches() - failing + 1
        ));
        // The tries that the loader has, and the boot back.
        let most = failing + TRIES;
        ensure!(node.vm.launches() <= most, "{} boots, and not {most}", node.vm.launches());
        Ok(())
    });
    checks.check("it knows the true cause", || {
        let boots = resources(&node, "boot")?;
        let causes: Vec<String> = boots
            .iter()
            .filter(|boot| field(boot, "image").is_ok_and(|image| image == bad))
            .filter_map(|boot| field(boot, "cause").ok())
            .collect();
        ensure!(!causes.is_empty(), "no boot of {bad} is told of: {boots:#?}");
        let known = causes.iter().find(|cause| names_the_cause(fault, cause));
        let cause = known.with_context(|| {
            let kept = node.ctl.run(["logs", "panic", "--boot", "-1"]);
            format!("None of these is it: {causes:#?}\nThe last kernel wrote: {kept:?}")
        })?;
        says(&node.ctl.run(["boots"])?, &[bad, cause.get(..cause.len().min(24)).unwrap_or(cause)])
    });
    checks.check("it is healthy, and the image that failed is known to be bad", || {
        settle(&node)?;
        ensure!(!mode(&node)?.contains("safe"), "it is in safe mode");
        let states: Vec<(String, String)> = resources(&node, "slot")?
            .iter()
            .filter_map(|slot| Some((field(slot, "version").ok()?, field(slot, "state").ok()?)))
            .collect();
        let is = |version: &str, state: &str| {
            states.iter().any(|(found, its)| found == version && its == state)
        };
        ensure!(is(first, "good"), "{states:?}");
        ensure!(is(bad, "bad") || states.iter().all(|(found, _)| found != bad), "{states:?}");
        Ok(())
    });
    if let Some(follower) = follower {
        checks.check("ctl says that it has failed", || {
            let said = follower.text();
            ensure!(!follower.wait()?, "{said}");
            Ok(())
        });
    }
    Ok(())
}

/// Puts the image onto the ESP of a machine that is off, and switches it on.
fn by_hand(world: &World, fault: Fault, label: &str) -> Result<Kept> {
    let stage = Stage::Counted { left: fault.tries(), done: None };
    let name = SlotFile::new(Version::parse(BROKEN)?, stage).to_string();
    world.resumed(label, |disk| {
        disk::put_on_esp(disk, &world.variants.broken(fault), &format!("EFI/Linux/{name}"))
    })
}

/// Whether these words are of this fault, and of no other.
fn names_the_cause(fault: Fault, cause: &str) -> bool {
    let cause = cause.to_lowercase();
    let all = |needles: &[&str]| needles.iter().all(|needle| cause.contains(needle));
    match fault {
        Fault::Empty => all(&["empty"]),
        Fault::Zeros => all(&["zero"]),
        Fault::TruncatedKernel => all(&["kernel"]) || all(&[".linux"]),
        Fault::CorruptInitrd => all(&["initrd"]) || all(&["initramfs"]),
        Fault::CorruptSquashfs => all(&["squashfs"]) || all(&["root"]),
        Fault::NoInit => all(&["/init"]),
        Fault::Panics => all(&["pid 1", "a fault was asked for"]),
        Fault::Exits => all(&["pid 1 ended"]) && !cause.contains("panicked"),
        Fault::Hangs | Fault::Stuck => all(&["watchdog"]),
        Fault::NoApi => all(&["apid"]) || all(&["system/api"]),
        Fault::NoNetwork => all(&["system/network", "eth0"]),
        Fault::CheckFails | Fault::CheckFlaps => all(&["web"]),
        Fault::Configuration => all(&["configuration"]),
    }
}
