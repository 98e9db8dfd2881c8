// SPDX-License-Identifier: Apache-2.0
//! What routers advertise besides what the kernel itself takes: name servers and search domains (RFC 8106), for PID 1.
//!
//! ```text
//!  router ─► kernel (is it from the link, whole, and a router's?) ─► option::parse ─► pace ─► reports to PID 1
//! ```
//!
//! One agent serves all links. It keeps nothing: how long something holds is for PID 1 to know.

pub mod option;
pub mod pace;

use crate::pid1::framed;
use option::Advertised;
use pace::Pace;
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    convert::Infallible,
    io::{self, Write},
    net::Ipv6Addr,
};
use stele_kernel::{
    clock,
    net::{NetError, RouterOptions},
};
use stele_proto::internal::AdvertisedNames;

/// The longest message that is taken: an option has at most 2040 bytes.
const LONGEST: usize = 4096;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum RoutersError {
    /// The kernel says nothing.
    #[error("asking the kernel for what routers advertise")]
    Subscribe(#[source] NetError),
    /// It says no more.
    #[error("reading what routers advertise")]
    Read(#[source] io::Error),
    /// PID 1 can't be told.
    #[error("reporting")]
    Report(#[source] io::Error),
}

/// Works until PID 1 can't be told any more.
///
/// # Errors
/// Then, or when the kernel refuses.
pub fn run(reports: &mut impl Write) -> Result<Infallible, RoutersError> {
    let options = RouterOptions::new().map_err(RoutersError::Subscribe)?;
    let (mut buffer, mut pace) = ([0; LONGEST], Pace::default());
    loop {
        match poll(&mut [PollFd::new(&options, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(RoutersError::Read(errno.into())),
        }
        let Some(bytes) = options.receive(&mut buffer).map_err(RoutersError::Read)? else {
            continue;
        };
        if let Some(advertised) = option::parse(bytes)
            && pace.allows(advertised.link, clock::since_boot().unwrap_or_default())
        {
            reports.write_all(&framed(&encode(advertised))).map_err(RoutersError::Report)?;
        }
    }
}

fn encode(advertised: Advertised) -> AdvertisedNames {
    let bytes = |server: Ipv6Addr| server.octets().to_vec();
    AdvertisedNames {
        link: advertised.link,
        dns_servers: advertised.servers.into_iter().map(bytes).collect(),
        domains: advertised.domains,
        seconds: advertised.seconds,
    }
}
