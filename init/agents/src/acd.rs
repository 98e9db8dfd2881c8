// SPDX-License-Identifier: Apache-2.0
//! Whether another machine has a fixed IPv4 address of ours: address conflict detection (RFC 5227), for PID 1.
//!
//! ```text
//!  task ──────────────────────► a claim for each address
//!  ARP ──► frame::parse_arp ──► claim::Claim ─► [Effect] ─► frames, reports to PID 1
//!  time ──────────────────────►
//! ```
//!
//! One agent serves all links, and touches none of them: PID 1 gives addresses to links, and takes them back. The kernel passes on
//! what is about one of the addresses, and no other packet. What PID 1 has to know again after the agent was started anew is
//! in the task, so the agent keeps nothing. The codec of ARP, and the probes and announcements, are those of [`crate::dhcp`].

pub mod claim;

use crate::{
    dhcp::{
        Mac,
        client::timing::Random,
        frame::{self, Arp},
    },
    leasing::{self, BATCH, LeasingError, now},
    pid1::framed,
};
use claim::{Claim, Effect};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use prost::Message as _;
use rustix::event::{PollFd, PollFlags};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};
use stele_kernel::packet::{PacketSocket, Traffic};
use stele_proto::internal::{AcdFinding, AcdTask, acd_address::Mode};

/// The longest frame that is looked at: what is behind an ARP packet is padding.
const LONGEST: usize = 64;
/// How long nothing is waited for when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AcdError {
    /// PID 1 could not say that there is another task.
    #[error("waiting for SIGHUP")]
    Signal(#[source] nix::errno::Errno),
    /// There is no task.
    #[error("reading the task {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The task makes no sense.
    #[error("understanding the task")]
    Understand(#[source] prost::DecodeError),
    /// PID 1 can't be told.
    #[error("reporting")]
    Report(#[source] io::Error),
    /// What is around it does not work.
    #[error(transparent)]
    Around(#[from] LeasingError),
}

/// What an address is known by: its link, the hardware address of that, and itself.
type Key = (u32, [u8; 6], Ipv4Addr);

/// An address, and where it is spoken about.
struct Watch {
    socket: PacketSocket,
    claim: Claim,
}

/// Works until PID 1 can't be told any more.
///
/// # Errors
/// Then, or when there is no task.
pub fn run(task: &Path, reports: &mut impl Write) -> Result<Infallible, AcdError> {
    // Before the task is read: a signal that comes from now on is about the next one.
    let hangup = hangup().map_err(AcdError::Signal)?;
    let random = Random::new(leasing::seed()?);
    let mut agent = Agent { reports, random, own: Vec::new(), watches: BTreeMap::new() };
    agent.read(task)?;
    loop {
        let time = now();
        let mut due = time.saturating_add(IDLE);
        for (key, watch) in &mut agent.watches {
            let effects = watch.claim.pass(time, &mut agent.random);
            act(agent.reports, *key, &watch.socket, &effects)?;
            due = watch.claim.due().map_or(due, |own| own.min(due));
        }
        let sockets = agent.watches.values().map(|watch| &watch.socket);
        let mut sources: Vec<_> =
            sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        sources.push(PollFd::new(&hangup, PollFlags::IN));
        leasing::wait(&mut sources, due)?;
        let ready: Vec<bool> = sources.iter().map(|source| !source.revents().is_empty()).collect();
        agent.listen(&ready)?;
        if hangup.read_signal().map_err(AcdError::Signal)?.is_some() {
            agent.read(task)?;
        }
    }
}

fn hangup() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGHUP);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

struct Agent<'a, W> {
    reports: &'a mut W,
    random: Random,
    /// Who is no other machine.
    own: Vec<Mac>,
    watches: BTreeMap<Key, Watch>,
}

impl<W: Write> Agent<'_, W> {
    /// Takes the task up. What is in it as before goes on as it is.
    fn read(&mut self, file: &Path) -> Result<(), AcdError> {
        let bytes =
            fs::read(file).map_err(|source| AcdError::Read { file: file.to_owned(), source })?;
        let task = AcdTask::decode(bytes.as_slice()).map_err(AcdError::Understand)?;
        self.own = task.own.iter().filter_map(|mac| mac_of(mac)).collect();
        let mut before = std::mem::take(&mut self.watches);
        for wanted in &task.addresses {
            let address = <[u8; 4]>::try_from(wanted.address.as_slice()).map(Ipv4Addr::from);
            let (Some(Mac(mac)), Ok(address)) = (mac_of(&wanted.mac), address) else { continue };
            let key = (wanted.link, mac, address);
            let watch = match before.remove(&key) {
                Some(watch) => watch,
                None => match Watch::open(wanted.link, address, wanted.mode()) {
                    Ok(watch) => watch,
                    // A link may be gone before anybody has said so.
                    Err(error) => {
                        eprintln!("{address} on link {}: {error}", wanted.link);
                        continue;
                    }
                },
            };
            self.watches.insert(key, watch);
        }
        Ok(())
    }

    /// Takes what has come to the sockets that are ready, in the order of the watches.
    fn listen(&mut self, ready: &[bool]) -> Result<(), AcdError> {
        let time = now();
        let watches = self.watches.iter_mut().zip(ready).filter(|(_, ready)| **ready);
        for ((key, watch), _) in watches {
            let effects = watch.listen(&self.own, time, &mut self.random);
            act(self.reports, *key, &watch.socket, &effects)?;
        }
        Ok(())
    }
}

impl Watch {
    fn open(link: u32, address: Ipv4Addr, mode: Mode) -> io::Result<Watch> {
        let socket = PacketSocket::open(link, Traffic::ArpAbout { address })?;
        Ok(Watch { socket, claim: Claim::new(address, mode, now()) })
    }

    /// Takes what has come.
    fn listen(&mut self, own: &[Mac], time: Duration, random: &mut Random) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut buffer = [0; LONGEST];
        for _ in 0..BATCH {
            // A link that is down says so once for each time; PID 1 says what becomes of the address.
            let Ok(Some(bytes)) = self.socket.receive(&mut buffer) else { break };
            if let Some(arp) = another(bytes, own) {
                effects.extend(self.claim.hear(&arp, time, random));
            }
        }
        effects
    }
}

/// What another machine says.
fn another(bytes: &[u8], own: &[Mac]) -> Option<Arp> {
    frame::parse_arp(bytes).filter(|arp| !own.contains(&arp.sender))
}

fn act(
    reports: &mut impl Write,
    (link, mac, address): Key,
    socket: &PacketSocket,
    effects: &[Effect],
) -> Result<(), AcdError> {
    for effect in effects {
        match effect {
            Effect::Send { sender } => {
                // What can't be sent is sent again, or PID 1 hears of it from the kernel: a link that is down.
                let _ = socket.send(&frame::build_arp(Mac(mac), *sender, address));
            }
            Effect::Tell(by) => {
                let by = by.map(|Mac(mac)| mac.to_vec()).unwrap_or_default();
                let finding = AcdFinding { link, address: address.octets().to_vec(), by };
                reports.write_all(&framed(&finding)).map_err(AcdError::Report)?;
            }
        }
    }
    Ok(())
}

fn mac_of(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}
