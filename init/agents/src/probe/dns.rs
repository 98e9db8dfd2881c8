// SPDX-License-Identifier: Apache-2.0
//! Names: a check of its own, and the way of the other checks to addresses.
//!
//! The C library would look names up on a thread that cannot be called back, and say little of why it failed. This asks the
//! same servers by itself: over UDP, by TCP where an answer does not fit, one after the other, again and again until its
//! time is over.

use super::Seen;
use hickory_proto::{
    ProtoError,
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
    serialize::binary::DecodeError,
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Deserializer, de};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long a server is waited for before the next is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long IPv6 addresses are waited for when there are IPv4 ones already.
const GRACE: Duration = Duration::from_millis(500);
/// The longest answer over UDP.
const LONGEST: usize = 4096;

/// The name that must have an address.
#[derive(Debug, Deserialize)]
pub(super) struct Dns {
    name: String,
    #[serde(default, deserialize_with = "server")]
    server: Option<SocketAddr>,
}

/// How the machine resolves names.
#[derive(Debug)]
pub struct Names {
    /// The file of names that are known without asking.
    pub hosts: PathBuf,
    /// The file that says whom to ask.
    pub resolv_conf: PathBuf,
    /// The port at which those are asked.
    pub port: u16,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error("reading {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("the machine has no name servers")]
    NoServers,
    #[error("there is no such name, says {0}")]
    NoSuchName(SocketAddr),
    #[error("it has no address, says {0}")]
    NoAddress(SocketAddr),
    #[error("{server} answers {code}")]
    Refused { server: SocketAddr, code: ResponseCode },
    #[error("this is not a name")]
    Name(#[source] ProtoError),
    #[error("asking {server}")]
    Ask { server: SocketAddr, source: io::Error },
    #[error("getting random numbers")]
    Random(#[source] io::Error),
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    #[error("{server} answers with nonsense")]
    Nonsense { server: SocketAddr, source: DecodeError },
}

/// An address, with the port 53 if there is none.
fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address.or_else(|_| text.parse()).map(Some).map_err(de::Error::custom)
}

impl Dns {
    pub(super) fn what(&self) -> String {
        match self.server {
            Some(server) => format!("resolving {} at {}", self.name, server.ip()),
            None => format!("resolving {}", self.name),
        }
    }

    pub(super) async fn attempt(&self, names: &Names) -> Seen {
        let addresses = match self.server {
            Some(server) => ask(&[server], &self.name).await?,
            None => names.ask(&self.name).await?,
        };
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Ok(format!("{} is {}", self.name, addresses.join(", ")))
    }
}

impl Names {
    /// The addresses of a host: at least one.
    pub(crate) async fn host(
        &self,
        name: &str,
    ) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        // Without the file, nothing is known without asking.
        let known = in_hosts(&std::fs::read_to_string(&self.hosts).unwrap_or_default(), name);
        if known.is_empty() { Ok(self.ask(name).await?) } else { Ok(known) }
    }

    /// The servers of the machine: at least one.
    pub(crate) fn servers(&self) -> Result<Vec<SocketAddr>, NameError> {
        self.servers_in(&self.read()?)
    }

    fn read(&self) -> Result<String, NameError> {
        std::fs::read_to_string(&self.resolv_conf)
            .map_err(|source| NameError::Read { file: self.resolv_conf.clone(), source })
    }

    fn servers_in(&self, text: &str) -> Result<Vec<SocketAddr>, NameError> {
        let servers: Vec<SocketAddr> = words(text, "nameserver")
            .filter_map(|word| word.parse().ok())
            .map(|address| SocketAddr::new(address, self.port))
            .collect();
        if servers.is_empty() { Err(NameError::NoServers) } else { Ok(servers) }
    }

    /// Asks the servers of the machine.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let text = self.read()?;
        let servers = self.servers_in(&text)?;
        // As resolv.conf(5) has it: a name with a dot is tried as it is first.
        let mut candidates: Vec<String> =
            words(&text, "search").map(|domain| format!("{name}.{domain}")).collect();
        let place = if name.contains('.') { 0 } else { candidates.len() };
        candidates.insert(place, name.to_owned());
        let mut first = None;
        for candidate in candidates {
            match ask(&servers, &candidate).await {
                Ok(addresses) => return Ok(addresses),
                Err(error @ (NameError::NoSuchName(_) | NameError::NoAddress(_))) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or(NameError::NoServers))
    }
}

/// The words after this one, on all lines that begin with it.
fn words<'t>(text: &'t str, first: &'static str) -> impl Iterator<Item = &'t str> {
    text.lines().flat_map(move |line| {
        let mut words = line.split_whitespace();
        let matches = words.next() == Some(first);
        words.filter(move |_| matches)
    })
}

/// The addresses of a name in the text of a hosts(5) file.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

/// The addresses of exactly this name: at least one.
async fn ask(servers: &[SocketAddr], name: &str) -> Result<Vec<IpAddr>, NameError> {
    let mut absolute = Name::from_ascii(name).map_err(NameError::Name)?;
    absolute.set_fqdn(true);
    let (mut addresses, server) = ask_for(servers, &absolute, RecordType::A).await?;
    let others = ask_for(servers, &absolute, RecordType::AAAA);
    if addresses.is_empty() {
        addresses = others.await?.0;
    } else if let Ok(Ok((others, _))) = timeout(GRACE, others).await {
        addresses.extend(others);
    }
    if addresses.is_empty() { Err(NameError::NoAddress(server)) } else { Ok(addresses) }
}

/// Asks for one kind of address until a server answers; returns without one only if none of them can.
async fn ask_for(
    servers: &[SocketAddr],
    name: &Name,
    kind: RecordType,
) -> Result<(Vec<IpAddr>, SocketAddr), NameError> {
    loop {
        let mut last = NameError::NoServers;
        let mut silent = false;
        for server in servers {
            last = match timeout(PATIENCE, exchange(*server, name, kind)).await {
                Ok(Ok(answer)) => match answer.metadata.response_code {
                    ResponseCode::NoError => return Ok((addresses(&answer), *server)),
                    ResponseCode::NXDomain => return Err(NameError::NoSuchName(*server)),
                    code => NameError::Refused { server: *server, code },
                },
                Ok(Err(error)) => error,
                Err(_) => {
                    silent = true;
                    NameError::Silent(*server)
                }
            };
        }
        if !silent {
            return Err(last);
        }
    }
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(|record| address(&record.data)).collect()
}

/// One question and its answer.
pub(crate) async fn exchange(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
) -> Result<Message, NameError> {
    // Not from `Message::query`: in a static program it looks for random numbers in /dev, which this one does not see.
    let mut id = [0; 2];
    getrandom(&mut id[..], GetRandomFlags::empty())
        .map_err(|errno| NameError::Random(errno.into()))?;
    let mut question = Message::new(u16::from_ne_bytes(id), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec().map_err(NameError::Name)?;
    let failed = |source| NameError::Ask { server, source };
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(&bytes).await.map_err(failed)?;
    let mut buffer = [0; LONGEST];
    let answer = loop {
        let length = socket.recv(&mut buffer).await.map_err(failed)?;
        let answer = Message::from_vec(buffer.get(..length).unwrap_or_default());
        // Whatever else comes here is no answer to this.
        match answer {
            Ok(answer) if answers(&answer, &question) => break answer,
            Ok(_) => {}
            Err(source) => return Err(NameError::Nonsense { server, source }),
        }
    };
    if answer.metadata.truncation && addresses(&answer).is_empty() {
        return over_tcp(server, &bytes).await;
    }
    Ok(answer)
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}

/// The same question where its answer has room (RFC 7766).
async fn over_tcp(server: SocketAddr, question: &[u8]) -> Result<Message, NameError> {
    let failed = |source| NameError::Ask { server, source };
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    let mut bytes = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    bytes.extend(question);
    stream.write_all(&bytes).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.map_err(failed)?;
    Message::from_vec(&answer).map_err(|source| NameError::Nonsense { server, source })
}

#[cfg(test)]
mod tests {
    use super::{in_hosts, words};

    #[test]
    fn hosts() {
        let text = "127.0.0.1 localhost # me\n::1 localhost ip6-localhost\n#10.0.0.1 web\n10.0.0.2 db.example db\nx y\n\n";
        let found = |name| {
            let addresses = in_hosts(text, name);
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("LocalHost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("db"), ["10.0.0.2"]);
        assert!(found("web").is_empty() && found("me").is_empty() && found("y").is_empty());
    }

    #[test]
    fn resolv_conf() {
        let text = "# a comment\nnameserver 10.0.2.3\nnameserver ::1\nsearch a.example b.example\n";
        assert_eq!(words(text, "nameserver").collect::<Vec<_>>(), ["10.0.2.3", "::1"]);
        assert_eq!(words(text, "search").collect::<Vec<_>>(), ["a.example", "b.example"]);
        assert_eq!(words(text, "options").count(), 0);
    }
}
