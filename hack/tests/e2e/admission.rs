// SPDX-License-Identifier: Apache-2.0
//! Which images a node takes: signatures and keys, versions, its own configuration; and when it moves to them.

use crate::{
    http::Server,
    upgrade::slot,
    world::{Kept, World, field, resources, says, scratch, settle, version, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    disk,
    node::BOOT,
    suite::Checks,
    variants::{DEMANDED, ELDER, NEXT, PICKY, ROTATING},
};
use image::keys::Signer;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) fn signatures(world: &World, checks: &Checks) -> Result<()> {
    let mut node = world.settled("wary")?;
    let folder = scratch()?;
    let before = resources(&node, "slot")?.len();
    let stranger = Signer::read(&world.variants.second_key())?;
    let copy = |name: &str| copied(&world.variants.next(), &folder.path().join(name));
    let refused = |image: &Path, needles: &[&str]| -> Result<()> {
        says(&node.ctl.fails(["upgrade", "--image", &image.to_string_lossy()])?, needles)?;
        ensure!(resources(&node, "slot")?.len() == before, "there is a slot more");
        Ok(())
    };
    checks.check("an image that nobody has signed is refused", || {
        refused(&copy("unsigned.efi")?, &["sign"])
    });
    checks.check("one that a stranger has signed is refused", || {
        let image = copy("strange.efi")?;
        stranger.sign_file(&image)?;
        refused(&image, &["key"])
    });
    checks.check("one that was altered is refused", || {
        let image = copy("altered.efi")?;
        fs::copy(signature(&world.variants.next()), signature(&image))?;
        let mut bytes = fs::read(&image)?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("An image has a middle")? ^= 1;
        fs::write(&image, bytes)?;
        refused(&image, &["sign"])
    });
    checks.check("the same from a URL", || {
        let server = Server::start(folder.path())?;
        for image in ["unsigned.efi", "strange.efi", "altered.efi"] {
            let said = node.ctl.fails(["upgrade", "--url", &server.url(image)])?;
            says(&said, &["sign"])?;
        }
        ensure!(resources(&node, "slot")?.len() == before);
        Ok(())
    });
    checks.check("a configuration can trust another key", || {
        let public = fs::read_to_string(world.variants.second_key().with_extension("pub"))?;
        let public = public.trim().replace('\n', "\n    ");
        let changed = fs::read_to_string(&node.files.machine)?.replace(
            "kind: UpgradePolicy\n",
            &format!("kind: UpgradePolicy\nkeys:\n  - |\n    {public}\n"),
        );
        let file = node.files.machine.with_file_name("trusting.yaml");
        fs::write(&file, changed)?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
        let image = folder.path().join("strange.efi");
        node.ctl.run(["upgrade", "--stage-only", "--image", &image.to_string_lossy()])?;
        node.ctl.run(["apply-config", "-f", &node.files.machine.to_string_lossy()]).map(drop)
    });
    checks.check("rotation: an image brings the next key with it", || {
        let rotating = world.variants.rotating();
        node.ctl.run(["upgrade", "--image", &rotating.to_string_lossy()])?;
        ensure!(version(&node)? == ROTATING);
        settle(&node)?;
        let image = folder.path().join("strange.efi");
        node.ctl.run(["upgrade", "--image", &image.to_string_lossy()])?;
        ensure!(version(&node)? == NEXT);
        settle(&node)
    });
    checks.check("nothing is left on the ESP but the slots", || {
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        let files = disk::list_esp(&node.disk()?, "EFI/Linux")?;
        ensure!(files.iter().all(|file| file.ends_with(".efi")), "{files:?}");
        Ok(())
    });
    Ok(())
}

pub(crate) fn versions(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("choosing")?;
    let first = version(&node)?;
    let upgrade = |arguments: &[&str], image: &Path| {
        let image = image.to_string_lossy();
        let mut line = vec!["upgrade"];
        line.extend(arguments);
        line.extend(["--image", &image]);
        line.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let before = resources(&node, "slot")?.len();
    checks.check("an image that wants a newer one before it is refused", || {
        let said = node.ctl.fails(upgrade(&[], &world.variants.demanding()))?;
        says(&said, &[DEMANDED, &first])?;
        ensure!(resources(&node, "slot")?.len() == before);
        Ok(())
    });
    checks.check(
        "an image that can't read the configuration is refused, with document and key",
        || {
            let said = node.ctl.fails(upgrade(&[], &world.variants.picky()))?;
            says(&said, &[PICKY, "UpgradePolicy", "deadline", "document 1"])?;
            ensure!(resources(&node, "slot")?.len() == before);
            Ok(())
        },
    );
    checks.check(
        "an image that knows older documents alone is refused what they can't say",
        || {
            link(&node, "dhcp4: {metric: 200}")?;
            let said = node.ctl.fails(upgrade(&[], &world.variants.elder()))?;
            says(&said, &[ELDER, "Link", "dhcp4.metric", "stele/v1"])?;
            ensure!(resources(&node, "slot")?.len() == before);
            Ok(())
        },
    );
    checks.check("--stage-only leaves it at that", || {
        node.ctl.run(upgrade(&["--stage-only"], &world.variants.next()))?;
        says(&node.ctl.run(["slots"])?, &["staged"])?;
        ensure!(version(&node)? == first);
        Ok(())
    });
    checks.check("--no-reboot waits for the next one", || {
        let slot = format!("stele_{NEXT}.efi");
        node.ctl.run(["upgrade", "--no-reboot", "--slot", &slot])?;
        ensure!(version(&node)? == first && node.vm.launches() == 1);
        let boot = node.boot_id()?;
        node.ctl.run(["reboot"])?;
        node.wait_for_another_boot(&boot)?;
        settle(&node)?;
        ensure!(version(&node)? == NEXT, "{}", version(&node)?);
        Ok(())
    });
    checks.check("a step below the floor is refused", || {
        let said = node.ctl.fails(upgrade(&[], &world.variants.rotating()))?;
        says(&said, &[ROTATING, NEXT, "oldest"])
    });
    checks.check("unless the configuration allows it; --at waits for its time", || {
        allow(&node, ROTATING)?;
        let boot = node.boot_id()?;
        let launches = node.vm.launches();
        node.ctl.run(upgrade(&["--at", "+12s"], &world.variants.rotating()))?;
        ensure!(node.vm.launches() == launches, "it did not wait");
        node.wait_until("its time has come", BOOT + Duration::from_secs(20), || {
            Ok(node.boot_id().is_ok_and(|now| now != boot))
        })?;
        settle(&node)?;
        ensure!(version(&node)? == ROTATING);
        Ok(())
    });
    checks.check("the floor stays where it was", || {
        says(&node.ctl.run(["slots"])?, &[&format!("older than {NEXT} is taken")])
    });
    checks.check("an image that knows older documents alone finds them so, and is good", || {
        link(&node, "dhcp4: {}")?;
        node.ctl.run(upgrade(&[], &world.variants.elder()))?;
        ensure!(version(&node)? == ELDER, "{}", version(&node)?);
        ensure!(field(&slot(&node, ELDER)?, "state")? == "good");
        says(&node.ctl.run(["get", "config"])?, &["kind: Link", "name: eth0"])
    });
    Ok(())
}

/// Configures the link in today's documents.
fn link(node: &Kept, more: &str) -> Result<()> {
    let document = format!("---\napiVersion: stele/v2\nkind: Link\nname: eth0\n{more}\n");
    let file = with_more(node, &document)?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy()]).map(drop)
}

/// Allows steps back to this version.
fn allow(node: &Kept, oldest: &str) -> Result<()> {
    let file = with_more(node, "")?;
    let changed = fs::read_to_string(&file)?
        .replace("kind: UpgradePolicy\n", &format!("kind: UpgradePolicy\noldest: {oldest}\n"));
    fs::write(&file, changed)?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy()]).map(drop)
}

fn copied(from: &Path, to: &Path) -> Result<PathBuf> {
    fs::copy(from, to).with_context(|| format!("Copying {}", from.display()))?;
    Ok(to.to_owned())
}

fn signature(image: &Path) -> PathBuf {
    image::keys::beside(image)
}
