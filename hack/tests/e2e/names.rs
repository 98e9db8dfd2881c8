// SPDX-License-Identifier: Apache-2.0
//! How a node resolves names: by a stub of its own, which asks unbound on this host over TLS, or the servers of DHCP.

use crate::{
    kinds::apply,
    world::{Kept, certificates, field, resource, says, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{machine::free_port, suite::Checks};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
/// The name in the certificate of unbound.
const NAME: &str = "dns.example";

/// unbound, which knows `stele.example` and nothing else, over TLS alone.
struct Unbound {
    child: Child,
    port: u16,
    /// Who signed its certificate, in PEM.
    authority: String,
    _folder: TempDir,
}

impl Unbound {
    fn start() -> Result<Unbound> {
        let folder = scratch()?;
        let authority = certificates(&folder, NAME)?;
        let port = free_port()?;
        let file = folder.path().join("unbound.conf");
        let text = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  tls-port: {port}\n  access-control: 127.0.0.0/8 allow\n  \
             tls-service-key: {0}/key.pem\n  tls-service-pem: {0}/certificate.pem\n  \
             username: \"\"\n  chroot: \"\"\n  directory: \"{0}\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  \
             module-config: \"iterator\"\n  local-zone: \"example.\" static\n  \
             local-data: \"stele.example. 300 IN A 192.0.2.80\"\nremote-control:\n  control-enable: no\n",
            folder.path().display()
        );
        fs::write(&file, text)?;
        let child = Command::new("setpriv")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["--pdeathsig", "KILL", "--", "unbound", "-d", "-c"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .context("Running unbound, from the package of this name")?;
        Ok(Unbound { child, port, authority, _folder: folder })
    }

    /// The document that names it to a guest, and says what its certificate must hold.
    fn document(&self, name: &str) -> String {
        format!(
            "---\napiVersion: stele/v1\nkind: Resolver\nservers: [\"10.0.2.2:{}#{name}\"]\n",
            self.port
        )
    }

    /// The document that has a guest believe its authority.
    fn roots(&self) -> String {
        format!(
            "---\napiVersion: stele/v1\nkind: TrustedRoots\nname: names\ncertificates: |\n  {}\n",
            self.authority.trim_end().replace('\n', "\n  ")
        )
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until the resolver is in this state.
fn becomes(node: &Kept, state: &str) -> Result<()> {
    node.wait_until(&format!("the resolver is {state}"), SOON, || {
        Ok(field(&resource(node, "resolver", "resolver")?, "state")? == state)
    })
}

/// The question that only unbound knows the answer to.
const DIG: [&str; 4] = ["dig", "stele.example", "-W", "6s"];

/// Waits until there is no answer to it. With other roots the stub starts again, which takes a moment.
fn fails(node: &Kept) -> Result<()> {
    node.wait_until("there is no answer", SOON, || {
        Ok(node.ctl.fails(DIG).is_ok_and(|said| said.contains("ServFail")))
    })?;
    becomes(node, "failing")
}

pub(crate) fn every(node: &Kept, checks: &Checks) -> Result<()> {
    let unbound = Unbound::start()?;
    checks.check("names come over TLS, from a server that proves who it is", || {
        apply(node, &format!("{}{}", unbound.document(NAME), unbound.roots()))?;
        node.wait_until("there is an answer", SOON, || Ok(node.ctl.run(DIG).is_ok()))?;
        says(&node.ctl.run(DIG)?, &["NoError from 127.0.0.53", "192.0.2.80"])?;
        says(&node.ctl.fails(["dig", "nothing.example", "-W", "6s"])?, &["NXDomain"])?;
        node.wait_until("both answers are counted, and what was remembered", SOON, || {
            let status = &resource(node, "resolver", "resolver")?["status"];
            let (hits, answers) = (&status["hits"], &status["asked"][0]["answers"]);
            Ok(hits.as_u64() >= Some(1) && answers.as_u64() >= Some(2))
        })?;
        let resolver = resource(node, "resolver", "resolver")?;
        ensure!(field(&resolver, "state")? == "answering", "{resolver}");
        says(&resolver.to_string(), &["\"tls\"", "127.0.0.53"])?;
        node.ctl.run(["drift"]).map(drop)
    });
    checks.check("one that has another name is not believed, nor asked in another way", || {
        apply(node, &format!("{}{}", unbound.document("other.example"), unbound.roots()))?;
        fails(node)?;
        says(&field(&resource(node, "resolver", "resolver")?, "reason")?, &["certificate"])
    });
    checks.check("nor is one whose authority is not trusted any more", || {
        apply(node, &unbound.document(NAME))?;
        fails(node)
    });
    checks.check("the stub asks the servers of DHCP where nobody names others", || {
        apply(node, "---\napiVersion: stele/v1\nkind: Resolver\nstub: true\n")?;
        becomes(node, "answering")?;
        let resolver = resource(node, "resolver", "resolver")?;
        says(&resolver.to_string(), &["10.0.2.3", "lease", "127.0.0.53"])?;
        apply(node, "")?;
        becomes(node, "direct")?;
        ensure!(resource(node, "service", "dns").is_err(), "the stub still runs");
        Ok(())
    });
    Ok(())
}
