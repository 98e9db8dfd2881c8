// SPDX-License-Identifier: Apache-2.0
//! Whether a node finds the time: from chrony with NTS on this host, from its hypervisor, and after it was lied to.

use crate::{
    raw,
    world::{Kept, World, certificates, field, resource, says, scratch, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::{Machine, free_port},
    node::Node,
    suite::Checks,
};
use serde_json::Value;
use std::{
    fs,
    net::UdpSocket,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use stele_proto::v1::{ListRequest, resource_service_client::ResourceServiceClient};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(120);
/// How far the clock jumps: more than it is slewed, less than is too much to step.
const JUMP: Duration = Duration::from_secs(20);
/// How far ahead the time is that is wrong: no certificate is good for so long.
const WRONG: Duration = Duration::from_secs(14 * 365 * 86_400);
/// A sink that hears nothing before the clock is right, and to which nobody listens.
const PATIENT: &str = "---\napiVersion: stele/v1\nkind: LogSink\nname: patient\naddress: 10.0.2.2:9\nprotocol: udp\nafterClock: true\n";

/// chrony, which gives out the time of this host and does not touch it.
struct Chrony {
    child: Child,
    /// For the exchange of keys.
    port: u16,
    /// Who signed its certificate, in PEM.
    ca: String,
    _folder: TempDir,
}

impl Chrony {
    fn start() -> Result<Chrony> {
        let folder = scratch()?;
        let at = |name: &str| folder.path().join(name);
        let ca = certificates(&folder, "10.0.2.2")?;
        let port = free_port()?;
        let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let text = format!(
            "local stratum 3\nallow all\nbindaddress 127.0.0.1\nport {udp}\ncmdport 0\nbindcmdaddress /\n\
             pidfile {0}/pid\nntsport {port}\nntsdumpdir {0}\nntsserverkey {0}/key.pem\n\
             ntsservercert {0}/certificate.pem\n",
            folder.path().display()
        );
        fs::write(at("chrony.conf"), text)?;
        let child = Command::new("chronyd")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["-x", "-d", "-U", "-u", "root", "-f"])
            .arg(at("chrony.conf"))
            .stderr(Stdio::null())
            .spawn()
            .context("Running chronyd, from the package chrony")?;
        Ok(Chrony { child, port, ca, _folder: folder })
    }

    /// The document that names it to a guest.
    fn document(&self, ptp: bool) -> String {
        let ca = self.ca.trim_end().replace('\n', "\n      ");
        format!(
            "---\napiVersion: stele/v1\nkind: Time\nptp: {ptp}\nservers:\n  - server: 10.0.2.2:{}\n    nts: true\n    \
             ca: |\n      {ca}\n",
            self.port
        )
    }
}

impl Drop for Chrony {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A plain server of the time that is wrong for as long as it is told to be.
struct Liar {
    port: u16,
    /// By how many seconds it is ahead.
    ahead: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Liar {
    fn start() -> Result<Liar> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let port = socket.local_addr()?.port();
        let liar = Liar { port, ahead: Arc::default(), ended: Arc::default() };
        let (ahead, ended) = (Arc::clone(&liar.ahead), Arc::clone(&liar.ended));
        thread::spawn(move || {
            let mut question = [0; 128];
            while !ended.load(Ordering::Relaxed) {
                let Ok((48.., from)) = socket.recv_from(&mut question) else { continue };
                let answer = answer(&question, Duration::from_secs(ahead.load(Ordering::Relaxed)));
                // The next question is answered, if this answer is lost.
                let _lost = socket.send_to(&answer, from);
            }
        });
        Ok(liar)
    }

    /// The document that names it to a guest, and nobody else.
    fn document(&self) -> String {
        format!(
            "---\napiVersion: stele/v1\nkind: Time\nptp: false\nservers: [{{server: \"10.0.2.2:{}\"}}]\n",
            self.port
        )
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// What a server says that is so far ahead; see RFC 5905, section 7.3.
fn answer(question: &[u8], ahead: Duration) -> [u8; 48] {
    /// From 1900, where NTP begins to count, to 1970.
    const TO_1970: u64 = 2_208_988_800;
    let now = UNIX_EPOCH.elapsed().unwrap_or_default() + ahead;
    // Of the seconds, 32 bits count, and 32 bits are the fraction.
    let [_, _, _, _, seconds @ ..] = (now.as_secs() + TO_1970).to_be_bytes();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    let [_, _, _, _, fraction @ ..] = fraction.to_be_bytes();
    let stamp = [seconds, fraction].concat();
    let mut answer = [0; 48];
    // Version 4, mode of a server; stratum 1; asked every second; precise to a microsecond.
    answer[..4].copy_from_slice(&[0x24, 1, 0, 0xec]);
    answer[12..16].copy_from_slice(b"LIAR");
    answer[16..24].copy_from_slice(&stamp);
    // When the question was sent, as it says; when it came, and when this goes.
    answer[24..32].copy_from_slice(&question[40..48]);
    answer[32..40].copy_from_slice(&stamp);
    answer[40..48].copy_from_slice(&stamp);
    answer
}

/// How far the node's clock is behind that of this host; zero if it is not.
fn behind(node: &Kept) -> Result<Duration> {
    let credentials = node.credentials()?;
    let request = ListRequest { kind: "memory".to_owned(), name: String::new() };
    let listed = raw::block_on(async {
        let channel = raw::channel(node, Some(&credentials)).await?;
        anyhow::Ok(ResourceServiceClient::new(channel).list(request).await?.into_inner())
    })??;
    // It is looked at when it is asked for.
    let updated = listed.resources.first().and_then(|memory| memory.updated);
    let there = SystemTime::try_from(updated.context("It says when it was looked at")?)?;
    Ok(SystemTime::now().duration_since(there).unwrap_or_default())
}

pub(crate) fn nts(world: &World, checks: &Checks) -> Result<()> {
    let chrony = Chrony::start()?;
    let mut machine = Machine::live(&world.artefacts)?;
    // Twenty years ahead and more: no certificate of today would be good.
    machine.extra.extend(["-rtc".to_owned(), "base=2049-01-01T00:00:00".to_owned()]);
    let node = Node::start_with(&world.operator, "late", machine, scratch()?, |machine, files| {
        let text = fs::read_to_string(&files.machine)?;
        let first = files.machine.with_file_name("late-first.yaml");
        fs::write(&first, format!("{text}{}{PATIENT}", chrony.document(false)))?;
        Ok(machine.configured_by_fw_cfg(&first))
    })?;
    let node = Kept(node);
    checks.check("a clock that can't be right is set to the image's build", || {
        // The operator's certificate is one of today.
        node.wait_until_it_answers()?;
        says(&node.ctl.run(["logs", "init"])?, &["the clock can't be right"])
    });
    checks.check("the time comes from a server that proves who it is", || {
        node.wait_until("the clock is right", SOON, || {
            let time = resource(&node, "time", "time")?;
            Ok(field(&time, "state")? == "synchronized")
        })?;
        let time = resource(&node, "time", "time")?;
        says(&field(&time, "source")?, &["10.0.2.2"])?;
        ensure!(field(&time, "authenticated")? == "true", "{time}");
        ensure!(time["status"]["offset"].as_f64().is_some_and(|off| off.abs() < 0.5), "{time}");
        Ok(())
    });
    checks.check("a service that waits for the clock begins with it", || {
        let service = resource(&node, "service", "log-sink-patient")?;
        ensure!(field(&service, "state")? == "running", "{service}");
        let since = |one: &Value| one["status"]["since"].as_f64().context("It says since when");
        let (begun, right) = (since(&service)?, since(&resource(&node, "time", "time")?)?);
        // One is in whole milliseconds.
        ensure!(begun + 0.1 > right, "begun at {begun}, right at {right}");
        Ok(())
    });
    checks.check("the clock of the hardware is set too", || {
        node.wait_until("it is", SOON, || {
            let time = resource(&node, "time", "time")?;
            Ok(time["status"]["hardware"].as_f64().is_some_and(|off| off.abs() < 3.0))
        })
    });
    checks.check("a clock that jumps is set right again", || {
        // While a machine stands still, only the time of the others goes on.
        node.vm.qmp("stop", Value::Null)?;
        thread::sleep(JUMP);
        node.vm.qmp("cont", Value::Null)?;
        ensure!(behind(&node)? > JUMP / 2, "{:?}", behind(&node)?);
        node.wait_until("the clock is right again", 5 * SOON, || {
            Ok(behind(&node)? < Duration::from_secs(1))
        })
    });
    checks.check("a server that has gone is missed, and the clock goes on", || {
        drop(chrony);
        node.wait_until("it is missed", 2 * SOON, || {
            Ok(field(&resource(&node, "time", "time")?, "state")? == "holding")
        })?;
        says(&field(&resource(&node, "time", "time")?, "reason")?, &["no source answers"])
    });
    checks.check("the hypervisor's clock is followed where there is one", || {
        let file = with_more(&node, "---\napiVersion: stele/v1\nkind: Time\nservers: []\n")?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
        node.wait_until("the clock is right, or has nobody to follow", SOON, || {
            let state = field(&resource(&node, "time", "time")?, "state")?;
            Ok(state == "synchronized" || state == "none")
        })?;
        world.figure(format!(
            "time by the hypervisor: {}",
            resource(&node, "time", "time")?["status"]
        ));
        Ok(())
    });
    Ok(())
}

/// A source says at one start that it is years later, and never again.
pub(crate) fn wrong_once(world: &World, checks: &Checks) -> Result<()> {
    let liar = Liar::start()?;
    let node = world.settled("wrong-once")?;
    let file = with_more(&node, &liar.document())?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
    checks.check("a clock that is set years ahead lets nobody in", || {
        // A clock that was right is not set so far: it takes a start.
        liar.ahead.store(WRONG.as_secs(), Ordering::Relaxed);
        let launches = node.vm.launches();
        node.ctl.run(["reboot", "--no-wait"])?;
        node.vm.wait_for_launch(launches + 1, SOON)?;
        node.wait_until("the operator's certificate is over", SOON, || {
            let refused = node.ctl.output(["version"])?;
            Ok(String::from_utf8_lossy(&refused.stderr).contains("CertificateExpired"))
        })
    });
    checks.check("at the next start it is set right again", || {
        // The time is written down, and the clock of the hardware set, as soon as the clock follows.
        thread::sleep(Duration::from_secs(5));
        liar.ahead.store(0, Ordering::Relaxed);
        let launches = node.vm.launches();
        node.vm.press_reset_button()?;
        node.vm.wait_for_launch(launches + 1, SOON)?;
        node.wait_until_it_answers()?;
        node.wait_until("the clock is right", SOON, || {
            let time = resource(&node, "time", "time")?;
            Ok(field(&time, "state")? == "synchronized")
        })?;
        ensure!(behind(&node)? < Duration::from_secs(1), "{:?}", behind(&node)?);
        Ok(())
    });
    Ok(())
}
