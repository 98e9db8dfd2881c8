// SPDX-License-Identifier: Apache-2.0
//! What PID 1 has open, for all to see: above all that no IP socket is among it.

use crate::{node::Node, store::Kind};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

/// What `ctl get descriptor` shows.
#[derive(Serialize)]
struct Status {
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    family: &'static str,
    target: String,
}

/// Looks, now.
pub(crate) fn refresh(node: &Node) {
    let mut all = BTreeMap::new();
    let families = families();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let number = entry.file_name().to_string_lossy().into_owned();
        let (kind, family) = match target.split(':').next() {
            Some("socket") => ("socket", family(&families, &target)),
            Some("pipe") => ("pipe", ""),
            Some("anon_inode") => ("anonymous", ""),
            _ => ("file", ""),
        };
        all.insert(number, Status { kind, family, target });
    }
    node.store.replace(Kind::Descriptor, &all);
}

/// The family of a socket.
fn family(families: &HashMap<String, &'static str>, target: &str) -> &'static str {
    let inode = target.trim_start_matches("socket:[").trim_end_matches(']');
    families.get(inode).copied().unwrap_or("unknown")
}

/// The family of each socket, by its inode: from the tables in which the kernel lists them, proc_pid_net(5), each with the
/// column that has it.
fn families() -> HashMap<String, &'static str> {
    let tables = [
        ("unix", 6, "unix"),
        ("netlink", 9, "netlink"),
        ("packet", 8, "packet"),
        ("tcp", 9, "inet"),
        ("tcp6", 9, "inet6"),
        ("udp", 9, "inet"),
        ("udp6", 9, "inet6"),
        ("raw", 9, "inet"),
        ("raw6", 9, "inet6"),
    ];
    let mut families = HashMap::new();
    for (table, column, family) in tables {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let inodes = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(column));
        families.extend(inodes.map(|inode| (inode.to_owned(), family)));
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net, os::unix::net::UnixDatagram};

    #[test]
    fn sockets_are_told_apart() {
        let unix = UnixDatagram::unbound().unwrap();
        let udp = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp =
            net::TcpListener::bind("[::1]:0").or_else(|_| net::TcpListener::bind("127.0.0.1:0"));
        let tcp = tcp.unwrap();
        let inet = if tcp.local_addr().unwrap().is_ipv6() { "inet6" } else { "inet" };
        let families = families();
        let family = |socket: &dyn std::os::fd::AsRawFd| {
            let target = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
            family(&families, &target.to_string_lossy())
        };
        assert_eq!([family(&unix), family(&udp), family(&tcp)], ["unix", "inet", inet]);
    }
}
