// SPDX-License-Identifier: Apache-2.0
//! `agent metadata PLATFORM [SERVER…]`: what the metadata service of that platform says; `agent metadata --check-in PLATFORM
//! [SERVER…]` tells it that the machine is up. Each SERVER is the address of a DHCP server, for platforms where that is the service, or may
//! be. A service that can't be reached by IPv4 is asked by IPv6, where the platform has it there too.
//!
//! Exit 0 when it is done; otherwise 1, and one line on standard error says what was tried and why it failed.

use std::io;
use std::net::IpAddr;
use std::process::ExitCode;

use stele_agents::metadata::{MetadataError, Service};
use stele_platform::{Metadata, Server};

use crate::fetch::trusted;

const USAGE: &str = "agent metadata [--check-in] PLATFORM [SERVER...]";

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let (checks_in, rest) = match arguments {
        ["--check-in", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let found = match rest {
        [name, servers @ ..] => service(name, servers),
        [] => None,
    };
    let Some((metadata, servers)) = found else {
        return crate::misused(USAGE);
    };
    match crate::block_on(talk(&metadata, servers, checks_in)) {
        Err(code) => code,
        Ok(result) => crate::ended(result),
    }
}

/// The metadata service of the platform of this name, and where it is, in the order in which it is looked for.
fn service(name: &str, dhcp: &[&str]) -> Option<(Metadata, Vec<String>)> {
    let metadata = stele_platform::named(name)?.metadata?;
    let servers = match metadata.server {
        Server::At(server) => vec![server.to_owned()],
        Server::Dhcp(other) => {
            let dhcp = dhcp.iter().filter_map(|server| server.parse().ok());
            let dhcp = dhcp.map(|address| match address {
                IpAddr::V4(address) => format!("http://{address}"),
                IpAddr::V6(address) => format!("http://[{address}]"),
            });
            dhcp.chain([other.to_owned()]).collect()
        }
    };
    Some((metadata, servers.into_iter().chain(metadata.ipv6.map(str::to_owned)).collect()))
}

/// Talks to the first of these that is met.
async fn talk(
    metadata: &Metadata,
    servers: Vec<String>,
    checks_in: bool,
) -> Result<(), MetadataError> {
    let mut unmet = Ok(());
    for server in servers {
        let roots = if server.starts_with("http:") { Vec::new() } else { trusted() };
        let mut service = Service::new(metadata, server, roots);
        let talk = if checks_in { service.check_in().await } else { converse(&mut service).await };
        match talk {
            Err(error) if error.is_of_the_way() => unmet = unmet.and(Err(error)),
            talk => return talk,
        }
    }
    unmet
}

async fn converse(service: &mut Service<'_>) -> Result<(), MetadataError> {
    let said = service.converse().await?;
    said.write(&mut io::stdout().lock()).map_err(MetadataError::Output)
}
