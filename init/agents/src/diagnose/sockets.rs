// SPDX-License-Identifier: Apache-2.0
//! The sockets, out of /proc/net.

use super::{DiagnoseError, plain, read, text};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};
use stele_proto::v1::Socket;

/// Those that have lines of the same form, as in the kernel's net/ipv4/tcp_ipv4.c.
const INTERNET: [&str; 8] = ["tcp", "tcp6", "udp", "udp6", "icmp", "icmp6", "raw", "raw6"];

/// All of them, by protocol.
pub(super) fn all(net: &Path) -> Result<Vec<Socket>, DiagnoseError> {
    let mut sockets = Vec::new();
    for protocol in INTERNET {
        // A machine without IPv6 has none of its files.
        let lines = text(net.join(protocol));
        sockets.extend(lines.lines().skip(1).filter_map(|line| internet(protocol, line)));
    }
    // A kernel without sockets for packets has no such file.
    sockets.extend(text(net.join("packet")).lines().skip(1).filter_map(packet));
    sockets.extend(read(net.join("unix"))?.lines().skip(1).filter_map(unix));
    Ok(sockets)
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode`.
fn internet(protocol: &str, line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let remote = address(fields.get(2)?)?;
    let (send, receive) = fields.get(4)?.split_once(':')?;
    let bytes = |text| u64::from_str_radix(text, 16).ok();
    let has_states = protocol.starts_with("tcp");
    Some(Socket {
        protocol: protocol.to_owned(),
        local: address(fields.get(1)?)?.to_string(),
        remote: match remote {
            nobody if nobody.port() == 0 && nobody.ip().is_unspecified() => String::new(),
            somebody => somebody.to_string(),
        },
        state: if has_states { state(fields.get(3)?).to_owned() } else { String::new() },
        uid: fields.get(7)?.parse().ok()?,
        service: String::new(),
        inode: fields.get(9)?.parse().ok()?,
        receive_queue: bytes(receive)?,
        send_queue: bytes(send)?,
    })
}

/// `ADDRESS:PORT`: an address as words in the machine's order, in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..address.len())
        .step_by(8)
        .map(|at| {
            Some(u32::from_str_radix(address.get(at..at.checked_add(8)?)?, 16).ok()?.to_ne_bytes())
        })
        .collect::<Option<_>>()?;
    let bytes = words.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// The kernel's include/net/tcp_states.h.
fn state(number: &str) -> &'static str {
    match number {
        "01" => "established",
        "02" => "syn-sent",
        "03" | "0C" => "syn-received",
        "04" => "fin-wait-1",
        "05" => "fin-wait-2",
        "06" => "time-wait",
        "07" => "close",
        "08" => "close-wait",
        "09" => "last-ack",
        "0A" => "listen",
        "0B" => "closing",
        _ => "",
    }
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn packet(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some(Socket {
        protocol: "packet".to_owned(),
        local: fields.get(4)?.parse::<u32>().ok()?.to_string(),
        receive_queue: fields.get(6)?.parse().ok()?,
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(8)?.parse().ok()?,
        ..Socket::default()
    })
}

/// `Num RefCount Protocol Flags Type St Inode Path`; only those that have a path, and listen or have a peer.
fn unix(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace();
    let flags = fields.nth(3)?;
    let state = match (flags, fields.nth(1)?) {
        // SO_ACCEPTCON.
        ("00010000", _) => "listen",
        (_, "03") => "established",
        _ => "",
    };
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next()?;
    Some(Socket {
        protocol: "unix".to_owned(),
        local: plain(path),
        state: state.to_owned(),
        inode,
        ..Socket::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn lines_of_the_kernel() {
        let line = "   0: 0100007F:C350 0200007F:1F90 01 00000010:00000020 00:00000000 00000000   201        0 4711 1 0000000000000000 100 0 0 10 0";
        let socket = internet("tcp", line).unwrap();
        assert_eq!(
            (socket.local.as_str(), socket.remote.as_str(), socket.state.as_str()),
            ("127.0.0.1:50000", "127.0.0.2:8080", "established")
        );
        assert_eq!((socket.uid, socket.inode, socket.send_queue), (201, 4711, 16));
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 8000 /run/stele/init.sock";
        let socket = unix(line).unwrap();
        assert_eq!(
            (socket.local.as_str(), socket.state.as_str()),
            ("/run/stele/init.sock", "listen")
        );
        for line in ["", "x", "0: 1:2 3:4 5", "0: 0100007F0:C350 0200007F:1F90 01 0:0 0:0 0 0 0 1"]
        {
            assert_eq!(internet("tcp", line), None);
        }
    }

    #[test]
    fn sockets_of_this_machine() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let all = all(Path::new("/proc/net")).unwrap();
        let find = |protocol: &str, local: String| {
            all.iter().find(|socket| socket.protocol == protocol && socket.local == local).unwrap()
        };
        let listening = find("tcp", tcp.local_addr().unwrap().to_string());
        assert_eq!((listening.state.as_str(), listening.remote.as_str()), ("listen", ""));
        assert_eq!(find("udp6", udp.local_addr().unwrap().to_string()).state, "");
    }
}
