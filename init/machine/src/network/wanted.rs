// SPDX-License-Identifier: Apache-2.0
//! Who has a say in the network: the configuration, and as far as that says nothing, the platform or the kernel command line.

use super::given::{Given, Giver};
use stele_config::{Link, MachineConfig, Resolver, VirtualLink};

/// What is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The configuration, which comes first.
    pub config: Option<&'a MachineConfig>,
    /// What others have given. Its links count while the configuration has no `Link`, its name servers while it
    /// names none.
    pub given: Option<&'a Given>,
}

impl<'a> Wanted<'a> {
    /// How links are set up.
    #[must_use]
    pub fn links(self) -> &'a [Link] {
        match self.given() {
            Some(given) => given.documents.links(),
            None => self.config.map(MachineConfig::links).unwrap_or_default(),
        }
    }

    /// Whether others than the configuration say how links are set up.
    pub(super) fn gives_links(self) -> bool {
        self.given().is_some()
    }

    /// Whether links that nothing is said of get DHCP.
    pub(super) fn others_by_dhcp(self) -> bool {
        self.links().is_empty() || self.given().is_some_and(|given| given.by == Giver::Platform)
    }

    /// Links that the kernel makes: those of the configuration, and those that the links of others need.
    pub fn virtual_links(self) -> impl Iterator<Item = &'a VirtualLink> {
        let own = self.config.map(MachineConfig::virtual_links).unwrap_or_default();
        let given = self.given().map(|given| given.documents.virtual_links()).unwrap_or_default();
        let others = given.iter().filter(|link| own.iter().all(|own| own.name() != link.name()));
        own.iter().chain(others)
    }

    /// How names are resolved: what the configuration says, then what others do.
    pub fn resolvers(self) -> impl Iterator<Item = &'a Resolver> {
        let own = self.config.and_then(MachineConfig::resolver);
        own.into_iter().chain(self.given.and_then(|given| given.documents.resolver()))
    }

    /// What others have given, while it counts.
    fn given(self) -> Option<&'a Given> {
        let own = self.config.map(MachineConfig::links).unwrap_or_default();
        self.given.filter(|_| own.is_empty())
    }
}

impl<'a> From<Option<&'a MachineConfig>> for Wanted<'a> {
    fn from(config: Option<&'a MachineConfig>) -> Wanted<'a> {
        Wanted { config, given: None }
    }
}
