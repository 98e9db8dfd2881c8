// SPDX-License-Identifier: Apache-2.0
//! Whoever has no business with the API is refused, it is written down, and the next good call works.

use crate::{
    raw,
    world::{Kept, World, says},
};
use anyhow::{Context as _, Result, bail, ensure};
use hack::{api::Credentials, node::Operator, suite::Checks};
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(60);
/// For one connection.
const PATIENCE: Duration = Duration::from_millis(20);
/// For all of a thousand.
const LONG: Duration = Duration::from_secs(300);

pub(crate) fn bad_input(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.live("besieged")?);
    let good = |what: &str| {
        node.ctl
            .run(["version"])
            .map(drop)
            .with_context(|| format!("the next good call after {what}"))
    };
    let refused = |client: Option<&Credentials>| -> Result<String> {
        match raw::block_on(raw::version(&node, client))? {
            Ok(version) => bail!("It was told the version: {version}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    };

    checks.check("no certificate", || {
        refused(None)?;
        says(&node.ctl.run(["logs", "apid"])?, &["no client certificate"])
            .or_else(|_| says(&node.ctl.run(["logs", "audit"])?, &["no client certificate"]))?;
        good("no certificate")
    });
    checks.check("a certificate of another CA", || {
        let stranger = Operator::new(&world.artefacts)?;
        let files = stranger.files("besieged", &node.vm.api()?)?;
        refused(Some(&Credentials::read(&files.client)?))?;
        good("another CA")
    });
    checks.check("a node of another CA is not believed", || {
        let stranger = Operator::new(&world.artefacts)?;
        let files = stranger.files("besieged", &node.vm.api()?)?;
        let home = stranger.dir().join("home");
        std::fs::create_dir_all(&home)?;
        let ctl = stranger.ctl().at_home_in(&home);
        ctl.run(["config", "merge", &files.client.to_string_lossy()])?;
        ctl.fails(["version"]).map(drop)
    });
    checks.check("a certificate that has expired", || {
        let late = world.operator.client(&node, "late", "os:admin", "1s")?;
        // By the node's clock too, which may be a few seconds behind this machine's.
        std::thread::sleep(Duration::from_secs(6));
        says(&late.fails(["version"])?, &["expired"])?;
        // ctl sees that by itself and does not even ask; others do.
        refused(Some(&Credentials::read(&late.home().join("client.yaml"))?))?;
        good("an expired certificate")
    });
    checks.check("plain HTTP", || {
        let answer = shout(&node, b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")?;
        ensure!(!answer.starts_with(b"HTTP"), "it answered: {}", String::from_utf8_lossy(&answer));
        good("plain HTTP")
    });
    checks.check("bytes that mean nothing", || {
        let noise: Vec<u8> =
            (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        shout(&node, &noise)?;
        good("garbage")
    });
    checks.check("a message of 64 MiB", || {
        let status = raw::apply(&node, vec![b' '; 64 << 20])?.err().context("It was taken")?;
        ensure!(status.code() != tonic::Code::Ok, "{status}");
        good("a large message")
    });
    checks.check("1,000 idle connections", || {
        let address: SocketAddr = node.vm.api()?.parse()?;
        let started = Instant::now();
        let mut idle = Vec::new();
        while idle.len() < 1000 {
            ensure!(started.elapsed() < LONG, "Only {} connections in {LONG:?}", idle.len());
            // QEMU lets one connection wait at its door, and the kernel tries a second one again only after a second:
            // this tries again by itself.
            idle.extend(TcpStream::connect_timeout(&address, PATIENCE));
        }
        node.wait_until("a good call comes through", SOON, || {
            Ok(node.ctl.output(["version"])?.status.success())
        })?;
        drop(idle);
        good("1,000 idle connections")
    });
    checks.check("the node has written the refusals down", || {
        let logs = node.ctl.run(["logs", "audit"])? + &node.ctl.run(["logs", "apid"])?;
        says(&logs, &["not issued by this node's CA", "expired", "does not speak TLS"])
    });
    checks.check("nothing was restarted by any of it", || {
        ensure!(node.vm.launches() == 1);
        let apid = crate::world::resource(&node, "service", "apid")?;
        let restarts = crate::world::field(&apid, "restarts")?;
        ensure!(restarts.parse::<f64>()? == 0.0, "apid was restarted {restarts} times");
        Ok(())
    });
    Ok(())
}

/// Sends bytes, and returns what comes back until the node hangs up.
fn shout(node: &Kept, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(node.vm.api()?)?;
    stream.set_read_timeout(Some(SOON))?;
    // It may hang up before it has heard everything.
    let _all = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            bail!("It does not hang up")
        }
        Ok(_) | Err(_) => Ok(answer),
    }
}
