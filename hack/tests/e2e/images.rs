// SPDX-License-Identifier: Apache-2.0
//! Images that are refused: with the reason and the numbers, the running slot untouched, no partial file left.

use crate::{
    raw,
    world::{Kept, World, resources, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{node::BOOT, suite::Checks};
use image::keys::Signer;
use serde_json::Value;
use std::{fs, path::Path};
use stele_proto::v1::{
    PushHeader, PushRequest, push_request::Part, upgrade_service_client::UpgradeServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

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
        cut_in_the_middle(&node, &world.variants.next())?;
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

/// Sends the header and half of an image, and goes away.
fn cut_in_the_middle(node: &Kept, file: &Path) -> Result<()> {
    let credentials = node.credentials()?;
    let image = fs::read(file)?;
    let signature = stele_signature::read(&fs::read_to_string(image::keys::beside(file))?)?;
    let sha256 = image::tree::digest_of_file(file)?.to_vec();
    raw::block_on(async {
        let channel = raw::channel(node, Some(&credentials)).await?;
        let (sender, receiver) = mpsc::channel(4);
        let header = PushHeader { size: image.len() as u64, sha256, signature };
        sender.send(PushRequest { part: Some(Part::Header(header)) }).await?;
        let mut upgrade = UpgradeServiceClient::new(channel);
        let push = upgrade.push(ReceiverStream::new(receiver));
        let feed = async {
            for chunk in image.get(..image.len() / 2).unwrap_or_default().chunks(1 << 20) {
                sender.send(PushRequest { part: Some(Part::Chunk(chunk.to_vec().into())) }).await?;
            }
            anyhow::Ok(())
        };
        let (progress, fed) = tokio::join!(push, feed);
        let first = progress?.into_inner().message().await?;
        fed?;
        first.context("There was no progress")?;
        anyhow::Ok(())
    })?
}

fn slots(node: &Kept) -> Result<Vec<Value>> {
    let mut slots = resources(node, "slot")?;
    // When it was looked at is no matter.
    for slot in &mut slots {
        *slot = slot["status"].take();
    }
    Ok(slots)
}
