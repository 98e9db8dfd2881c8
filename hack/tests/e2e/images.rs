// SPDX-License-Identifier: Apache-2.0
//! Images that are refused: with the reason and the numbers, the running slot untouched, no partial file left.

use crate::{
    raw,
    world::{Kept, World, resources, says, scratch},
};
use anyhow::{Result, ensure};
use hack::{node::BOOT, suite::Checks};
use image::keys::Signer;
use serde_json::Value;
use std::fs;

pub(crate) fn refused(world: &World, checks: &Checks) -> Result<()> {
    let mut node = Kept(world.installed("choosy")?);
    let folder = scratch()?;
    let before = slots(&node)?;
    let good = fs::read(world.variants.next())?;
    let signer = Signer::read(&hack::build::secret())?;

    let refuse = |name: &str, bytes: Option<&[u8]>, needles: &[&str]| -> Result<()> {
        let file = folder.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&file, bytes)?;
        }
        says(&node.ctl.fails(["upgrade", "--image", &file.to_string_lossy()])?, needles)?;
        ensure!(slots(&node)? == before, "the slots have changed: {:?}", slots(&node)?);
        Ok(())
    };
    checks.check("a truncated file", || {
        let half = good.get(..good.len() / 2).unwrap_or_default();
        refuse("truncated.efi", Some(half), &[])
    });
    checks.check("a file that is no UKI", || {
        refuse("text.efi", Some(&b"This is no image.\n".repeat(100_000)), &[])
    });
    checks.check("a program for UEFI that is no UKI", || {
        let stub = good.get(..65536).unwrap_or_default();
        refuse("stub.efi", Some(stub), &[])
    });
    checks.check("an image for another architecture", || {
        let path = folder.path().join("foreign.efi");
        fs::copy(world.variants.foreign(), &path)?;
        signer.sign_file(&path)?;
        refuse("foreign.efi", None, &["x86-64"])
    });
    checks.check("an image larger than the room on the ESP, with both numbers", || {
        let path = folder.path().join("large.efi");
        fs::copy(world.variants.next(), &path)?;
        fs::OpenOptions::new().write(true).open(&path)?.set_len(600 << 20)?;
        signer.sign_file(&path)?;
        refuse("large.efi", None, &["629145600"]).or_else(|_| refuse("large.efi", None, &["600"]))
    });
    checks.check("a connection that is cut in the middle", || {
        raw::push_half(&node, &world.variants.next(), &good)?;
        node.wait_until("the node has noticed", BOOT, || Ok(slots(&node)? == before))
    });
    checks.check("a good image still finds its place, and waits there", || {
        let image = world.variants.next();
        node.ctl.run(["upgrade", "--stage-only", "--image", &image.to_string_lossy()])?;
        says(&node.ctl.run(["slots"])?, &["staged"])
    });
    checks.check("nothing else is on the ESP", || {
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        let disk = node.disk()?;
        let files = hack::disk::list_esp(&disk, "EFI/Linux")?;
        ensure!(files.len() == 2, "{files:?}");
        ensure!(files.iter().any(|file| file.ends_with(".staged")), "{files:?}");
        Ok(())
    });
    Ok(())
}

fn slots(node: &Kept) -> Result<Vec<Value>> {
    let mut slots = resources(node, "slot")?;
    // When it was looked at is no matter.
    for slot in &mut slots {
        *slot = slot["status"].take();
    }
    Ok(slots)
}
