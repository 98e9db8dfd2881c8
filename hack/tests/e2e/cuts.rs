// SPDX-License-Identifier: Apache-2.0
//! Power cuts: at every write of an upgrade, its commit and a rollback, by reading; at many of them, by booting; and at
//! random moments, by killing.

use crate::world::{
    Kept, World, field, mode, resource, resources, scratch, settle, version, with_more,
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    cuts::{self, Expected, Report},
    machine::{Machine, copy_sparse},
    node::{BOOT, Node},
    replay::{Moment, Random, Recording},
    suite::Checks,
    variants::{NEXT, ROTATING},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Of each, few, and as many as a thorough test takes.
struct Number<T>(T, T);

/// Moments that are booted.
const BOOTED: Number<usize> = Number(10, 50);
/// The same, of moments of an apply.
const APPLIED: Number<usize> = Number(5, 10);
/// At random moments, so many.
const KILLS: Number<u32> = Number(4, 20);
/// An upgrade takes about so long; a kill comes within it.
const UPGRADE: Duration = Duration::from_secs(24);
/// What an apply changes besides the name servers.
const SETTING: &str = "vm.swappiness";
/// What is random here is the same each time, unless this says another number.
const SEED: &str = "STELE_SEED";

impl<T: Copy> Number<T> {
    fn of(&self, world: &World) -> T {
        if world.thorough { self.1 } else { self.0 }
    }
}

/// A node before, and all that it wrote.
struct Written {
    folder: tempfile::TempDir,
    node: Kept,
}

impl Written {
    fn base(&self) -> PathBuf {
        self.folder.path().join("base.raw")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("writes.log")
    }
}

pub(crate) fn every_write(world: &World, checks: &Checks) -> Result<()> {
    let written = record(world, "recorded", |node| move_there_and_back(world, node))?;
    let recording = Recording::open(&written.base(), &written.log())?;
    let moments = recording.moments(seed()?);
    let (old, new) = (world.artefacts.uki()?, world.variants.next());
    let expected = expected(&old, &new)?;
    let began = Instant::now();
    let report =
        cuts::judge(&written.base(), &recording, &moments, &expected, written.folder.path())?;
    world.figure(format!(
        "power cuts: {} boundaries checked ({} in order, {} reordered) of {} writes and flushes; {} different ESPs, {} different \
         STATEs; {} bricked; {:.0} s",
        report.moments,
        report.in_order,
        report.moments - report.in_order,
        report.entries,
        report.different.0,
        report.different.1,
        report.bricks,
        began.elapsed().as_secs_f32()
    ));
    checks.check("wherever the power is cut, the disk holds a machine", || judged(&report));
    checks.check("both images have been the one to start", || {
        ensure!(report.starts.len() == 2, "{:?}", report.starts);
        Ok(())
    });
    checks.check("an upgrade writes the image to the ESP once", || {
        let size = fs::metadata(&new)?.len();
        let ratio = report.esp_bytes as f64 / size as f64;
        world.figure(format!(
            "bytes written to the ESP: {} for an image of {size}: {ratio:.4} × (goal ≤ 1.02)",
            report.esp_bytes
        ));
        ensure!(ratio <= 1.02, "{ratio:.4} times its size");
        Ok(())
    });
    checks.check("booted at many of these moments, it is a healthy node", || {
        boot(world, &written, &recording, &cuts::spread(&moments, BOOTED.of(world)), &|node| {
            healthy(node)?;
            version(node)
        })
    });
    Ok(())
}

/// A power cut at any moment of an apply: the configuration before or the one after, never a mix, never none.
pub(crate) fn every_apply(world: &World, checks: &Checks) -> Result<()> {
    let known = Mutex::new(BTreeMap::new());
    let written = record(world, "applying", |node| {
        let kept = apply_in_every_way(node)?;
        known.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
        Ok(())
    })?;
    let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
    let recording = Recording::open(&written.base(), &written.log())?;
    let moments = recording.moments(seed()?);
    let old = world.artefacts.uki()?;
    let expected = expected(&old, &old)?;
    let report =
        cuts::judge(&written.base(), &recording, &moments, &expected, written.folder.path())?;
    world.figure(format!(
        "power cuts while applying: {} boundaries checked; {} different STATEs; {} bricked",
        report.moments, report.different.1, report.bricks
    ));
    checks.check("wherever the power is cut, every generation is whole", || judged(&report));
    checks.check("booted at many of these moments, it has one of its configurations", || {
        boot(world, &written, &recording, &cuts::spread(&moments, APPLIED.of(world)), &|node| {
            let whole = || {
                let (generation, seen) = in_force(node)?;
                Ok(known.get(&generation) == Some(&seen))
            };
            node.wait_until("it has one of its configurations, whole", BOOT, whole)
                .with_context(|| format!("It has {:?} of {known:?}", in_force(node)))?;
            Ok(format!("generation {}", in_force(node)?.0))
        })
    });
    Ok(())
}

/// Applies configurations live, confirmed, not confirmed and staged. Returns what each generation says.
fn apply_in_every_way(node: &Kept) -> Result<BTreeMap<String, String>> {
    let mut known = BTreeMap::from([in_force(node)?]);
    // Two things of each, of which neither may come alone.
    let apply = |number: u8, how: &[&str]| -> Result<String> {
        let documents = format!(
            "---\napiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.{number}]\n\
             ---\napiVersion: stele/v1\nkind: Sysctl\nname: {SETTING}\nvalue: {number}\n"
        );
        let file = with_more(node, &documents)?;
        node.ctl.run([&["apply-config", "-f", &file.to_string_lossy()], how].concat())?;
        Ok(said(&format!("[\"192.0.2.{number}\"]"), &number.to_string()))
    };
    let first = apply(1, &[])?;
    known.insert(in_force(node)?.0, first);
    let second = apply(2, &["--confirm-within", "30s"])?;
    known.insert(in_force(node)?.0, second);
    node.ctl.run(["confirm"])?;
    let (kept, _) = in_force(node)?;
    let third = apply(3, &["--confirm-within", "10s"])?;
    known.insert(in_force(node)?.0, third);
    node.wait_until("it has gone back", BOOT, || Ok(in_force(node)?.0 == kept))?;
    let boot = node.boot_id()?;
    let fourth = apply(4, &["--mode", "reboot"])?;
    node.wait_for_another_boot(&boot)?;
    node.wait_until("it is in force", BOOT, || Ok(in_force(node)?.0 != kept))?;
    known.insert(in_force(node)?.0, fourth);
    Ok(known)
}

/// The generation in force, and what the machine has of it.
fn in_force(node: &Node) -> Result<(String, String)> {
    let generations = resources(node, "generation")?;
    let active = generations.iter().find(|one| one["status"]["active"] == true);
    let name = active.and_then(|one| one["name"].as_str()).context("No generation is in force")?;
    let servers = resource(node, "resolver", "resolver")?["status"]["servers"].to_string();
    let setting = resource(node, "sysctl", SETTING).and_then(|it| field(&it, "value"));
    Ok((name.to_owned(), said(&servers, &setting.unwrap_or_default())))
}

fn said(servers: &str, setting: &str) -> String {
    format!("name servers {servers}, {SETTING} {setting}")
}

fn judged(report: &Report) -> Result<()> {
    ensure!(report.bricks == 0, "{} moments: {:#?}", report.bricks, report.bricked);
    ensure!(report.moments > 100, "Only {} moments", report.moments);
    Ok(())
}

fn seed() -> Result<u64> {
    env::var(SEED).map_or(Ok(1), |seed| seed.parse().with_context(|| format!("Reading {SEED}")))
}

fn expected(old: &Path, new: &Path) -> Result<Expected> {
    let good = image::tree::sha256_of_file(old)?;
    let images = BTreeMap::from([
        (good.clone(), "the old image".to_owned()),
        (image::tree::sha256_of_file(new)?, "the new image".to_owned()),
    ]);
    Ok(Expected { images, good })
}

/// A node at work, from its start to its end, with every write written down.
fn record(world: &World, label: &str, work: impl FnOnce(&Kept) -> Result<()>) -> Result<Written> {
    let folder = scratch()?;
    let (base, log) = (folder.path().join("base.raw"), folder.path().join("writes.log"));
    let node = world.resumed_as(
        label,
        |disk| copy_sparse(disk, &base),
        |machine| machine.with_log(&log),
    )?;
    node.wait_until_it_answers()?;
    work(&node)?;
    node.ctl.run(["shutdown"])?;
    node.vm.wait_until_off(BOOT)?;
    Ok(Written { folder, node })
}

/// An upgrade, its commit and a rollback.
fn move_there_and_back(world: &World, node: &Kept) -> Result<()> {
    let first = version(node)?;
    node.ctl.run(["upgrade", "--image", &world.variants.next().to_string_lossy()])?;
    ensure!(version(node)? == NEXT);
    let boot = node.boot_id()?;
    node.ctl.run(["rollback"])?;
    node.wait_for_another_boot(&boot)?;
    ensure!(version(node)? == first);
    settle(node)
}

/// Boots the disk as it was at these moments; `look` says what came up, if that is well.
fn boot(
    world: &World,
    written: &Written,
    recording: &Recording,
    moments: &[&Moment],
    look: &(dyn Fn(&Node) -> Result<String> + Sync),
) -> Result<()> {
    let queue = Mutex::new(moments.iter().enumerate());
    let failures = Mutex::new(Vec::new());
    let came_up = Mutex::new(BTreeMap::<String, usize>::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().map(|mut queue| queue.next()).ok().flatten();
                    let Some((number, moment)) = next else { return };
                    match boot_one(world, written, recording, (number, moment), look) {
                        Ok(what) => {
                            if let Ok(mut came_up) = came_up.lock() {
                                *came_up.entry(what).or_default() += 1;
                            }
                        }
                        Err(error) => {
                            if let Ok(mut failures) = failures.lock() {
                                failures.push(format!("{moment}: {error:#}"));
                            }
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    world.figure(format!(
        "power cuts: {} boundaries booted, {} bricked; came up: {:?}",
        moments.len(),
        failures.len(),
        came_up.into_inner().unwrap_or_default()
    ));
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn boot_one(
    world: &World,
    written: &Written,
    recording: &Recording,
    (number, moment): (usize, &Moment),
    look: &dyn Fn(&Node) -> Result<String>,
) -> Result<String> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    cuts::disk_at(&written.base(), recording, moment, &disk)?;
    let machine = Machine::from_disk(&world.artefacts, folder.path(), disk)?.with_watchdog();
    let label = format!("{}-cut-{number}", written.node.label());
    let node = Node::resume(&world.operator, &written.node, &label, machine, folder)?;
    node.wait_until_it_answers()?;
    look(&node)
}

/// Waits until nothing is on trial any more, and looks whether all is well then.
fn healthy(node: &Node) -> Result<()> {
    settle(node)?;
    let version = version(node)?;
    ensure!([env!("CARGO_PKG_VERSION"), NEXT, ROTATING].contains(&version.as_str()), "{version}");
    let running = resources(node, "slot")?
        .into_iter()
        .find(|slot| field(slot, "running").is_ok_and(|running| running == "true"))
        .context("No slot is running")?;
    ensure!(field(&running, "state")? == "good", "{running}");
    ensure!(!mode(node)?.contains("safe"), "it is in safe mode");
    Ok(())
}

pub(crate) fn kills(world: &World, checks: &Checks) -> Result<()> {
    let mut node = world.settled("killed")?;
    // Going round between three images takes steps below the floor.
    let more = fs::read_to_string(&node.files.machine)?
        .replace("kind: UpgradePolicy\n", "kind: UpgradePolicy\noldest: 0.0.1\n");
    fs::write(&node.files.machine, more)?;
    node.ctl.run(["apply-config", "-f", &node.files.machine.to_string_lossy()])?;
    let images = [
        (NEXT, world.variants.next()),
        (ROTATING, world.variants.rotating()),
        (env!("CARGO_PKG_VERSION"), world.artefacts.uki()?),
    ];
    let mut random = Random::new(seed()?);
    let mut ended = BTreeMap::<String, u32>::new();
    let mut failures = Vec::new();
    let kills = KILLS.of(world);
    for number in 1..=kills {
        let after = UPGRADE.mul_f64((random.draw() % 1000) as f64 / 1000.0);
        match kill(&mut node, &images, after) {
            Ok(version) => *ended.entry(version).or_default() += 1,
            Err(error) => {
                failures.push(format!("kill {number}, after {after:.1?}: {error:#}"));
                break;
            }
        }
    }
    let survived: u32 = ended.values().sum();
    world.figure(format!("kills at random moments of an upgrade: {survived} of {kills} survived; then it was on {ended:?}"));
    checks.check("killed at random moments of upgrades, it is a healthy node each time", || {
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    });
    Ok(())
}

/// Starts an upgrade, cuts the power, and looks what is there afterwards.
fn kill(node: &mut Kept, images: &[(&str, PathBuf)], after: Duration) -> Result<String> {
    let image = match missing(node, images)? {
        Some(image) => image,
        None => {
            // All are there, and good. One that was rolled back from is not, and can come again.
            let boot = node.boot_id()?;
            node.ctl.run(["rollback"])?;
            node.wait_for_another_boot(&boot)?;
            healthy(node)?;
            missing(node, images)?.context("All images are there, after a rollback too")?
        }
    };
    let upgrade = node.ctl.follow(["upgrade", "--image", &image.to_string_lossy()])?;
    thread::sleep(after);
    node.vm.cut_power()?;
    let said = upgrade.text();
    drop(upgrade);
    node.vm.power_on()?;
    node.wait_until_it_answers().with_context(|| said.clone())?;
    healthy(node).with_context(|| said)?;
    version(node)
}

/// An image that the node does not have, or has found bad.
fn missing(node: &Node, images: &[(&str, PathBuf)]) -> Result<Option<PathBuf>> {
    let there: Vec<String> = resources(node, "slot")?
        .iter()
        .filter(|slot| field(slot, "state").is_ok_and(|state| state == "good"))
        .filter_map(|slot| field(slot, "version").ok())
        .collect();
    let missing = images.iter().find(|(version, _)| there.iter().all(|there| there != version));
    Ok(missing.map(|(_, image)| image.clone()))
}
