// SPDX-License-Identifier: Apache-2.0
//! What of the network programs read from files: the host name, `/etc/hosts` and `/etc/resolv.conf`.

use super::NetworkError;
use std::{fs, io, net::IpAddr};
use stele_config::Hosts;
use stele_machine::network::names::{self, Resolver};

const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Keeps a link's other addresses of a network when the first one goes; see `plan` in the machine crate.
const PROMOTE: &str = "/proc/sys/net/ipv4/conf/all/promote_secondaries";

/// What was written last; nothing else writes these files.
#[derive(Debug, Default)]
pub(super) struct Files {
    hostname: Option<String>,
    hosts: Option<String>,
    resolv_conf: Option<String>,
    promote: Option<String>,
}

impl Files {
    /// Writes what has changed.
    pub(super) fn write(
        &mut self,
        hostname: &str,
        resolver: &Resolver,
        addresses: &[IpAddr],
        others: &[Hosts],
    ) -> impl Iterator<Item = NetworkError> + use<> {
        let sysctl = |file: &str, text: &str| fs::write(file, text);
        [
            update(&mut self.promote, PROMOTE, "1".to_owned(), sysctl),
            update(&mut self.hostname, HOSTNAME, hostname.to_owned(), sysctl),
            update(&mut self.hosts, HOSTS, names::hosts(hostname, addresses, others), replace),
            update(&mut self.resolv_conf, RESOLV_CONF, names::resolv_conf(resolver), replace),
        ]
        .into_iter()
        .filter_map(Result::err)
    }
}

fn update(
    last: &mut Option<String>,
    file: &'static str,
    text: String,
    write: impl Fn(&str, &str) -> io::Result<()>,
) -> Result<(), NetworkError> {
    if last.as_ref() == Some(&text) {
        return Ok(());
    }
    write(file, &text).map_err(|source| NetworkError::Write { file, source })?;
    *last = Some(text);
    Ok(())
}

/// Whoever reads the file meanwhile gets all of the old or all of the new.
fn replace(file: &str, text: &str) -> io::Result<()> {
    let beside = format!("{file}.new");
    fs::write(&beside, text)?;
    fs::rename(&beside, file)
}
