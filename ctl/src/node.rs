// SPDX-License-Identifier: Apache-2.0
//! How a node is named on the command line and in a context.
//!
//! `host`, `host:port`, `[v6]:port`, a bare v6 address, and `NAME=ADDRESS`: dial ADDRESS and expect the certificate
//! of NAME, for port forwards and addresses that the node does not know of.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The port of the API.
pub(crate) const PORT: u16 = 50000;

/// A node as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Node {
    /// The host or address to dial.
    pub(crate) host: String,
    /// The port to dial.
    pub(crate) port: u16,
    /// The name that its certificate must carry, when that is not the host.
    pub(crate) server_name: Option<String>,
}

/// A node in a context file: a string, or an address with a name.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Plain(String),
    Named {
        address: String,
        #[serde(rename = "serverName")]
        server_name: String,
    },
}

impl From<Written> for Node {
    fn from(written: Written) -> Node {
        // A node that cannot be read keeps its text as host: dialling it then says which one and why.
        match written {
            Written::Plain(text) => {
                Node::parse(&text).unwrap_or(Node { host: text, port: PORT, server_name: None })
            }
            Written::Named { address, server_name } => {
                let node = Node::parse(&address).unwrap_or(Node {
                    host: address,
                    port: PORT,
                    server_name: None,
                });
                Node { server_name: Some(server_name), ..node }
            }
        }
    }
}

impl From<Node> for Written {
    fn from(node: Node) -> Written {
        let address = node.address();
        match node.server_name {
            Some(server_name) => Written::Named { address, server_name },
            None => Written::Plain(address),
        }
    }
}

impl Node {
    /// Reads one node.
    pub(crate) fn parse(text: &str) -> Result<Node> {
        let (server_name, address) = match text.split_once('=') {
            Some(("", _)) => bail!(
                "\"{text}\" has no name before \"=\". Write NAME=ADDRESS, such as web1=127.0.0.1:5001"
            ),
            Some((name, address)) => (Some(name.to_owned()), address),
            None => (None, text),
        };
        let (host, port) = split_port(address)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            bail!("\"{address}\" is not an address. Write HOST, HOST:PORT or [IPv6]:PORT");
        }
        Ok(Node { host: host.to_owned(), port, server_name })
    }

    /// Where to dial, as it is written in an URL: brackets around IPv6.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name that its certificate must carry.
    pub(crate) fn expected_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }

    /// What the node is called in output: short, and distinct as long as what the user wrote is.
    pub(crate) fn name(&self) -> String {
        match &self.server_name {
            Some(name) => name.clone(),
            None if self.port == PORT => self.host.clone(),
            None => self.address(),
        }
    }

    /// True if a user who writes `text` may mean this node of a context.
    pub(crate) fn is_meant_by(&self, text: &str) -> bool {
        self.name() == text
            || Node::parse(text)
                .is_ok_and(|node| node.server_name.is_none() && node.address() == self.address())
    }
}

fn split_port(address: &str) -> Result<(&str, u16)> {
    let parse = |port: &str| match port.parse::<u16>() {
        Ok(0) | Err(_) => {
            bail!("\"{port}\" in \"{address}\" is not a port. A port is a number from 1 to 65535")
        }
        Ok(port) => Ok(port),
    };
    if let Some(rest) = address.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, "")) => Ok((host, PORT)),
            Some((host, port)) if port.starts_with(':') => Ok((host, parse(&port[1..])?)),
            _ => bail!(
                "\"{address}\" opens a bracket and does not close it before the port. Write [IPv6]:PORT"
            ),
        };
    }
    match address.split_once(':') {
        None => Ok((address, PORT)),
        Some((_, rest)) if rest.contains(':') => Ok((address, PORT)), // a bare IPv6 address
        Some((host, port)) => Ok((host, parse(port)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, address: &str, expected_name: &str, name: &str) {
        let node = Node::parse(text).unwrap();
        assert_eq!(
            (node.address().as_str(), node.expected_name(), node.name().as_str()),
            (address, expected_name, name),
            "{text}"
        );
    }

    #[test]
    fn every_way_to_write_a_node() {
        check("10.0.0.5", "10.0.0.5:50000", "10.0.0.5", "10.0.0.5");
        check("10.0.0.5:51000", "10.0.0.5:51000", "10.0.0.5", "10.0.0.5:51000");
        check("web1.example", "web1.example:50000", "web1.example", "web1.example");
        check("fd00::5", "[fd00::5]:50000", "fd00::5", "fd00::5");
        check("[fd00::5]", "[fd00::5]:50000", "fd00::5", "fd00::5");
        check("[fd00::5]:51000", "[fd00::5]:51000", "fd00::5", "[fd00::5]:51000");
        check("web1=127.0.0.1:5001", "127.0.0.1:5001", "web1", "web1");
        check("web1=[::1]:5001", "[::1]:5001", "web1", "web1");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", ":5000", "a:b", "a:0", "a:70000", "[::1", "[::1]5", "=a", "https://a", "a b"]
        {
            assert!(Node::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_context_names_nodes_both_ways() {
        let yaml = "- 10.0.0.5\n- address: 127.0.0.1:5001\n  serverName: web1\n";
        let nodes: Vec<Node> = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(nodes[0].address(), "10.0.0.5:50000");
        assert_eq!(nodes[1].expected_name(), "web1");
        assert_eq!(
            serde_yaml::to_string(&nodes).unwrap(),
            "- 10.0.0.5:50000\n- address: 127.0.0.1:5001\n  serverName: web1\n"
        );
        assert!(nodes[1].is_meant_by("web1") && nodes[1].is_meant_by("127.0.0.1:5001"));
        assert!(nodes[0].is_meant_by("10.0.0.5") && !nodes[0].is_meant_by("10.0.0.6"));
    }
}
