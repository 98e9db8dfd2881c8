// SPDX-License-Identifier: Apache-2.0
//! Images from a registry: a real one, with real signatures, and with every trouble on the way; and uploads and URLs that
//! break off.

use crate::{
    proxy::{Proxy, Trouble},
    raw,
    world::{Kept, World, resources, says, scratch, version},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::free_port,
    suite::Checks,
    variants::{BROKEN, NEXT},
};
use image::{keys::Signer, progress::Progress, push};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// A registry on this host. It ends when this value is dropped.
pub(crate) struct Registry {
    child: Child,
    port: u16,
    data: PathBuf,
    _folder: TempDir,
}

impl Registry {
    pub(crate) fn start(world: &World) -> Result<Self> {
        let folder = scratch()?;
        let data = folder.path().join("data");
        Self::serve(world, folder, data, "")
    }

    /// Another one with the same content, for who has a password of this htpasswd(1) file. It ends before this one.
    pub(crate) fn closed(&self, world: &World, passwords: &str) -> Result<Self> {
        let folder = scratch()?;
        let file = folder.path().join("htpasswd");
        fs::write(&file, passwords)?;
        let auth = format!("auth:\n  htpasswd: {{realm: closed, path: {}}}\n", file.display());
        Self::serve(world, folder, self.data.clone(), &auth)
    }

    fn serve(world: &World, folder: TempDir, data: PathBuf, more: &str) -> Result<Self> {
        let port = free_port()?;
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n{more}",
            data.display()
        );
        fs::write(&config, text)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(world.tools.docker_registry())
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Starting docker-registry")?;
        let registry = Self { child, port, data, _folder: folder };
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A reference for this host.
    fn here(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/stele/os:{tag}", self.port)
    }

    /// A reference for the guest.
    fn there(&self, tag: &str) -> String {
        format!("http://10.0.2.2:{}/stele/os:{tag}", self.port)
    }

    pub(crate) fn push(&self, tag: &str, image: &Path, signer: Option<&Signer>) -> Result<String> {
        push::push(&format!("http://{}", self.here(tag)), image, signer, &Progress::silent())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

pub(crate) fn real(world: &World, checks: &Checks) -> Result<()> {
    let registry = Registry::start(world)?;
    let node = world.settled("puller")?;
    let signer = Signer::read(&hack::build::secret())?;
    let next = world.variants.next();
    let folder = scratch()?;
    let public = folder.path().join("key.pub");
    fs::write(&public, signer.public().key.to_pem()?)?;
    let cosign = |arguments: &[&str]| -> Result<String> {
        let mut cosign = Command::new(world.tools.cosign());
        cosign.args(arguments).env("HOME", folder.path()).env("COSIGN_PASSWORD", "");
        said(&mut cosign)
    };
    let upgrade = |reference: &str, arguments: &[&str]| {
        let mut line = vec!["upgrade".to_owned(), "--registry".to_owned(), reference.to_owned()];
        line.extend(arguments.iter().map(|word| (*word).to_owned()));
        line
    };

    checks.check("image push publishes an artifact that skopeo reads", || {
        registry.push(NEXT, &next, Some(&signer))?;
        let place = format!("docker://{}", registry.here(NEXT));
        let raw =
            said(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &place]))?;
        says(&raw, &[push::ARTIFACT, push::LAYER])?;
        let copy = format!("dir:{}", folder.path().join("copy").display());
        said(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &place, &copy]))?;
        let digest = image::tree::sha256_of_file(&next)?;
        let layer = folder.path().join("copy").join(&digest);
        ensure!(image::tree::sha256_of_file(&layer)? == digest, "the layer is another file");
        Ok(())
    });
    checks.check("cosign verifies its signature, offline", || {
        let arguments = [
            "verify",
            "--key",
            &public.to_string_lossy(),
            "--insecure-ignore-tlog=true",
            "--allow-http-registry",
        ];
        says(
            &cosign(&[&arguments[..], &[&registry.here(NEXT)]].concat())?,
            &["docker-manifest-digest"],
        )
    });
    checks.check("the node takes it", || {
        node.ctl.run(upgrade(&registry.there(NEXT), &["--stage-only"]))?;
        says(&node.ctl.run(["slots"])?, &[NEXT, "staged"])
    });
    checks.check("one that nobody has signed is refused", || {
        registry.push("unsigned", &world.variants.rotating(), None)?;
        says(&node.ctl.fails(upgrade(&registry.there("unsigned"), &["--stage-only"]))?, &["sign"])
    });
    checks.check("one that a stranger has signed is refused", || {
        let stranger = Signer::read(&world.variants.second_key())?;
        registry.push("strange", &world.variants.demanding(), Some(&stranger))?;
        says(&node.ctl.fails(upgrade(&registry.there("strange"), &["--stage-only"]))?, &["key"])
    });
    checks.check("cosign signs it, in the form of today and in that of before, and the node takes that", || {
        let place = folder.path().join("imported");
        let secret = hack::build::secret();
        cosign(&["import-key-pair", "--yes", "--key", &secret.to_string_lossy(), "--output-key-prefix", &place.to_string_lossy()])?;
        let key = format!("{}.key", place.display());
        let config = folder.path().join("signing.json");
        fs::write(&config, r#"{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}"#)?;
        let images = [("today", world.variants.broken(hack::broken::Fault::Stuck)), ("before", world.variants.broken(hack::broken::Fault::Hangs))];
        for (tag, image) in images {
            let digest = registry.push(tag, &image, None)?;
            let config = config.to_string_lossy();
            let form: &[&str] = match tag {
                "today" => &["--signing-config", &config],
                _ => &["--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"],
            };
            let sign = ["sign", "--yes", "--key", &key, "--allow-http-registry"];
            cosign(&[&sign[..], form, &[&digest]].concat()).with_context(|| tag.to_owned())?;
            node.ctl.run(upgrade(&registry.there(tag), &["--stage-only"])).with_context(|| tag.to_owned())?;
            says(&node.ctl.run(["slots"])?, &[BROKEN, "staged"])?;
        }
        Ok(())
    });
    checks.check("and moves to one", || {
        node.ctl.run(upgrade(&registry.there(NEXT), &["--limit-rate", "20M"]))?;
        ensure!(version(&node)? == NEXT);
        Ok(())
    });
    Ok(())
}

pub(crate) fn troubled(world: &World, checks: &Checks) -> Result<()> {
    let registry = Registry::start(world)?;
    let node = world.settled("patient")?;
    let signer = Signer::read(&hack::build::secret())?;
    registry.push(NEXT, &world.variants.next(), Some(&signer))?;
    let through = |trouble: Trouble| -> Result<(Proxy, Vec<String>)> {
        let proxy = Proxy::start(registry.port, trouble)?;
        let reference = format!("http://{}/stele/os:{NEXT}", proxy.host());
        let line = ["upgrade", "--stage-only", "--registry", &reference].map(str::to_owned);
        Ok((proxy, line.to_vec()))
    };
    let nothing = |node: &Kept| -> Result<()> {
        ensure!(resources(node, "slot")?.len() == 1, "something was staged");
        Ok(())
    };
    checks.check("a registry that redirects in a circle is given up, with a word of why", || {
        let (_proxy, line) = through(Trouble::Circle)?;
        says(&node.ctl.fails(line)?, &["redirect"])?;
        nothing(&node)
    });
    checks.check("one that sends the wrong bytes is not believed", || {
        let (_proxy, line) = through(Trouble::Alters)?;
        node.ctl.fails(line)?;
        nothing(&node)
    });
    checks.check("one that is slow is waited for", || {
        let (_proxy, line) = through(Trouble::Slow { rate: 6 << 20 })?;
        node.ctl.run(line)?;
        says(&node.ctl.run(["slots"])?, &["staged"])
    });
    checks.check("one that dies in the middle is gone on with", || {
        // Another image, so that there is something to do.
        registry.push("again", &world.variants.rotating(), Some(&signer))?;
        let trouble = Trouble::BreaksOff { after: 5 << 20, times: 3 };
        let proxy = Proxy::start(registry.port, trouble)?;
        let reference = format!("http://{}/stele/os:again", proxy.host());
        node.ctl.run(["upgrade", "--stage-only", "--registry", &reference])?;
        ensure!(proxy.broken() == 3, "it broke off {} times", proxy.broken());
        Ok(())
    });
    checks.check("one that is dead is given up", || {
        let dead = format!("http://10.0.2.2:{}/stele/os:{NEXT}", free_port()?);
        node.ctl.fails(["upgrade", "--stage-only", "--registry", &dead]).map(drop)
    });
    Ok(())
}

pub(crate) fn resumed(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("resumer")?;
    let next = world.variants.next();
    let bytes = fs::read(&next)?;
    checks.check("an upload that was cut goes on where it was", || {
        let begun = raw::push_half(&node, &next, &bytes)?;
        ensure!(begun == 0, "{begun} bytes were there before the first");
        node.wait_until("the node has noticed", SOON, || {
            Ok(raw::push_half(&node, &next, &bytes).is_ok_and(|begun| begun > 1 << 20))
        })?;
        node.ctl.run(["upgrade", "--stage-only", "--image", &next.to_string_lossy()])?;
        says(&node.ctl.run(["slots"])?, &["staged"])
    });
    checks.check("so does a URL", || {
        let served = crate::http::Server::start(next.parent().context("A folder")?)?;
        let trouble = Trouble::BreaksOff { after: 8 << 20, times: 2 };
        let proxy = Proxy::start(served.port(), trouble)?;
        let url = format!("http://{}/rotating.efi", proxy.host());
        node.ctl.run(["upgrade", "--stage-only", "--url", &url])?;
        ensure!(proxy.broken() == 2, "it broke off {} times", proxy.broken());
        Ok(())
    });
    checks.check("and it still upgrades", || {
        node.ctl.run(["upgrade", "--image", &next.to_string_lossy()])?;
        ensure!(version(&node)? == NEXT);
        Ok(())
    });
    Ok(())
}

fn said(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("Running {command:?}"))?;
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "{command:?}: {all}");
    Ok(all)
}
