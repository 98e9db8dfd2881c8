// SPDX-License-Identifier: Apache-2.0
//! Registries: where else to look for what they have, and with which password.

use crate::endpoint::{self, EndpointError};
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::secret::Password;
use crate::value::Text;
use crate::{Setting, Url};
use std::fmt;
use std::str::FromStr;

/// Most documents of each of the two kinds.
pub(crate) const MAX_REGISTRIES: usize = 64;

record! {
    /// Other places that have what a registry has. They are asked first, in their order, then the registry itself. None of
    /// them has to be trusted for it: images are taken for their signatures.
    pub struct RegistryMirror as "RegistryMirror" {
        /// The registry, as it stands before the first slash in the name of an image. One document for each.
        name: RegistryName,
        /// The places. What comes before `/v2/` in their addresses.
        endpoints: List<Url, 1, 8>,
    }
}

record! {
    /// With which name and password a registry, or a mirror of one, is asked.
    pub struct RegistryAuth as "RegistryAuth" {
        /// The registry or the mirror: its host, and its port where it has one of its own. One document for each.
        name: RegistryName,
        /// Who asks.
        username: Setting,
        /// The password or the token. It is redacted wherever the configuration is shown to anyone below `os:admin`.
        password: Password,
    }
}

impl RegistryMirror {
    /// The registry.
    #[must_use]
    pub fn name(&self) -> &RegistryName {
        &self.name
    }

    /// The places, in the order in which they are asked: one to eight.
    #[must_use]
    pub fn endpoints(&self) -> &[Url] {
        &self.endpoints
    }
}

impl Check for RegistryMirror {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.as_str().contains('?') {
                let message = format!("{endpoint} has a query");
                report.find_item(node, ("endpoints", index), message, "what comes before /v2/");
            }
        }
    }
}

impl RegistryAuth {
    /// The registry or the mirror.
    #[must_use]
    pub fn name(&self) -> &RegistryName {
        &self.name
    }

    /// Who asks.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username.as_str()
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> &str {
        self.password.as_str()
    }
}

impl Check for RegistryAuth {
    fn check(&self, node: &Node, report: &mut Report) {
        // RFC 7617, section 2: the colon ends the name.
        if self.username().is_empty() || self.username().contains(':') {
            let message = "is empty or has a colon";
            report.find_at(node, "username", message, "a name without a colon");
        }
    }
}

/// A registry: its host, and its port where it is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(String);

impl RegistryName {
    /// The host, and the port behind a colon.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegistryName {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<RegistryName, EndpointError> {
        let (host, port) = endpoint::split(text)?;
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(RegistryName(format!("{host}{port}")))
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for RegistryName {
    const WHAT: &'static str = "a registry";
    const EXAMPLE: &'static str = "registry.example.com:5000";
    const PATTERN: &'static str = "^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z.-]+)(:[0-9]+)?$";
}
