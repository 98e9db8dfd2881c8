// SPDX-License-Identifier: Apache-2.0
//! The closed set of kinds, and the one walk that makes documents of trees.

use crate::environment::{Environment, MAX_ENVIRONMENTS};
use crate::files::{Files, MAX_FILES};
use crate::firewall::Firewall;
use crate::health::{HealthCheckDocument, MAX_CHECKS};
use crate::hosts::{Hosts, MAX_HOSTS};
use crate::kernel_args::KernelArgs;
use crate::kernel_module::{KernelModule, MAX_MODULES};
use crate::link::LinkV1;
use crate::log_sink::{LogSink, MAX_SINKS};
use crate::node::{Entry, Node, Tree};
use crate::probe::{MAX_PROBES, ProbeDocument};
use crate::record::{Check, did_you_mean, record};
use crate::registry::{MAX_REGISTRIES, RegistryAuth, RegistryMirror};
use crate::report::{Report, quote};
use crate::routing_rule::{MAX_RULES, RoutingRule};
use crate::shape::Shape;
use crate::step::{API_VERSIONS, Lost, Step as _};
use crate::sysctl::{MAX_SYSCTLS, Sysctl};
use crate::trusted_roots::{MAX_ROOTS, TrustedRoots};
use crate::value::{Secrets, Value};
use crate::virtual_link::{Bond, Bridge, Dummy, Veth, Vlan, Vrf, WireGuard};
use crate::{
    ClientAccess, Hostname, Identity, Link, MetadataService, Metrics, Resolver, Time,
    UpgradePolicy, Watchdog,
};

record! {
    /// The name of the machine. Without it, the name that the platform has for it (the metadata of a cloud or on a drive, or the
    /// host name in `ip=` on the kernel command line), or else that of DHCP, or else `stele-` and the end of the first link's
    /// hardware address. A platform's name that can't be one is cut to its first label, or left out.
    pub(crate) struct HostnameDocument as "Hostname" {
        /// The name: one label, or several with dots between them. It is kept in lower case.
        pub(crate) hostname: Hostname,
    }
}

impl Check for HostnameDocument {}

/// A kind of document.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The name.
    pub(crate) name: &'static str,
    /// How many there may be.
    #[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "only the manual reads it"))]
    pub(crate) count: Count,
    /// The versions of its documents, the oldest first; those of [`API_VERSIONS`] from the first on.
    pub(crate) versions: &'static [Version],
}

/// A version of a kind's documents.
#[derive(Debug)]
pub(crate) struct Version {
    /// What they hold.
    #[cfg_attr(
        not(feature = "schema"),
        expect(dead_code, reason = "only the schema and the manual read it")
    )]
    pub(crate) shape: fn() -> Shape,
    /// One that is good, as people write it.
    #[cfg(feature = "schema")]
    pub(crate) example: &'static str,
    /// Their reader, which makes them of the newest version.
    read: fn(&Node, &mut Report) -> Option<Document>,
    /// Their writer, or what of a document it can't write.
    write: fn(&Document, Secrets) -> Result<Tree, Vec<Lost>>,
}

impl Kind {
    /// Its versions, the oldest first, each with its name.
    pub(crate) fn versions(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'static str, &'static Version)> + ExactSizeIterator {
        API_VERSIONS.into_iter().zip(self.versions)
    }
}

/// The newest version of a kind's documents; the first, of a kind that is not known.
#[must_use]
pub fn newest_version(kind: &str) -> &'static str {
    let [first, ..] = API_VERSIONS;
    let known = KINDS.iter().find(|known| known.name == kind);
    known.and_then(|kind| kind.versions().next_back()).map_or(first, |(name, _)| name)
}

/// How many documents of a kind there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Exactly one.
    One,
    /// One or none.
    AtMostOne,
    /// Any number, each with another `name`.
    Named,
    /// At most so many, each with another `name`.
    NamedUpTo(usize),
}

/// Lists the kinds: the name, the types of its documents' versions, how many there may be, and what they are about. Of each
/// version there is an example in `examples/`, of an older one in `examples-v1/`.
macro_rules! kinds {
    ($($name:ident: $type:ty $([$older:ty])?, $count:expr, $about:literal;)+) => {
        /// A document that is good in itself, in its newest version.
        #[derive(Clone, Debug)]
        #[expect(clippy::upper_case_acronyms, reason = "kinds are spelled as in a document")]
        pub(crate) enum Document {
            $(#[doc = $about] $name($type),)+
        }

        /// All kinds, in the order of the canonical form and of the manual.
        pub(crate) const KINDS: [Kind; [$($about),+].len()] = [$(Kind {
            name: stringify!($name),
            count: $count,
            versions: &[
                $(Version {
                    shape: <$older>::shape,
                    #[cfg(feature = "schema")]
                    example: include_str!(concat!("../examples-v1/", stringify!($name), ".yaml")),
                    read: |node, report| {
                        <$older>::read(node, report).map(|older| Document::$name(older.forth()))
                    },
                    write: |document, secrets| match document {
                        Document::$name(newer) => <$older>::back(newer).map(|older| older.write(secrets).unwrap_or(Tree::Null)),
                        _ => Ok(Tree::Null),
                    },
                },)?
                Version {
                    shape: <$type>::shape,
                    #[cfg(feature = "schema")]
                    example: include_str!(concat!("../examples/", stringify!($name), ".yaml")),
                    read: |node, report| <$type>::read(node, report).map(Document::$name),
                    write: |document, secrets| Ok(document.body(secrets)),
                },
            ],
        }),+];

        impl Document {
            /// Its kind.
            pub(crate) fn kind(&self) -> &'static str {
                match self { $(Document::$name(_) => stringify!($name),)+ }
            }

            fn body(&self, secrets: Secrets) -> Tree {
                let body = match self { $(Document::$name(document) => document.write(secrets),)+ };
                body.unwrap_or(Tree::Null)
            }
        }
    };
}

kinds! {
    Identity: Identity, Count::One, "Who the node is.";
    ClientAccess: ClientAccess, Count::AtMostOne, "Which clients may do what.";
    Hostname: HostnameDocument, Count::AtMostOne, "What it is called.";
    Link: Link [LinkV1], Count::Named, "How one interface is set up.";
    Dummy: Dummy, Count::Named, "A link that leads nowhere.";
    Veth: Veth, Count::Named, "Two links with a cable between them.";
    VLAN: Vlan, Count::Named, "One of the networks that share a link.";
    Bridge: Bridge, Count::Named, "A switch.";
    Bond: Bond, Count::Named, "Several links that act as one.";
    VRF: Vrf, Count::Named, "A routing table of its own for some links.";
    WireGuard: WireGuard, Count::Named, "Tunnels to other machines.";
    RoutingRule: RoutingRule, Count::NamedUpTo(MAX_RULES), "Which packets are routed by which table.";
    Firewall: Firewall, Count::AtMostOne, "Which packets the machine takes and sends.";
    Hosts: Hosts, Count::NamedUpTo(MAX_HOSTS), "Names of machines that no name server is asked for.";
    Resolver: Resolver, Count::AtMostOne, "How names are resolved.";
    Time: Time, Count::AtMostOne, "Where it gets the time from.";
    Probe: ProbeDocument, Count::NamedUpTo(MAX_PROBES), "What is watched over the network.";
    HealthCheck: HealthCheckDocument, Count::NamedUpTo(MAX_CHECKS), "What must work.";
    MetadataService: MetadataService, Count::AtMostOne, "Who reaches the platform's metadata service.";
    Metrics: Metrics, Count::AtMostOne, "Where the machine's figures can be had.";
    LogSink: LogSink, Count::NamedUpTo(MAX_SINKS), "Where logs are sent to.";
    Watchdog: Watchdog, Count::AtMostOne, "When a machine that hangs is reset.";
    UpgradePolicy: UpgradePolicy, Count::AtMostOne, "Which images it takes.";
    KernelArgs: KernelArgs, Count::AtMostOne, "What the kernel is told when it starts.";
    KernelModule: KernelModule, Count::NamedUpTo(MAX_MODULES), "A module that no device asks for.";
    Sysctl: Sysctl, Count::NamedUpTo(MAX_SYSCTLS), "A setting of the kernel.";
    TrustedRoots: TrustedRoots, Count::NamedUpTo(MAX_ROOTS), "Whom it believes besides.";
    RegistryMirror: RegistryMirror, Count::NamedUpTo(MAX_REGISTRIES), "Where else a registry's things are.";
    RegistryAuth: RegistryAuth, Count::NamedUpTo(MAX_REGISTRIES), "With which password it is asked.";
    Environment: Environment, Count::NamedUpTo(MAX_ENVIRONMENTS), "Variables of services.";
    Files: Files, Count::NamedUpTo(MAX_FILES), "Files below a few folders of /etc.";
}

/// Reads one document, whose place in the stream the report knows.
pub(crate) fn read(node: &Node, report: &mut Report) -> Option<Document> {
    match node.tree {
        Tree::Map(_) => {}
        Tree::Refused => return None,
        _ => {
            report.find(
                node.line,
                node.tree.describe(),
                "a document: apiVersion: stele/v1, kind: …",
            );
            return None;
        }
    }
    let kind = read_kind(node, report);
    if let Some(kind) = kind {
        report.kind(kind.name);
    }
    let version = read_version(node, kind, report);
    // Of which version it is meant to be decides what is right in it.
    let read = version.or_else(|| kind?.versions().next_back().map(|(_, newest)| newest));
    let document = (read?.read)(node, report)?;
    version.map(|_| document)
}

fn read_kind(node: &Node, report: &mut Report) -> Option<&'static Kind> {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    let expected = format!("one of {}", names.join(", "));
    report.at("kind", |report| {
        let Some(entry) = node.entry("kind") else {
            report.find(node.line, "is missing", expected);
            return None;
        };
        let Tree::Text(name) = &entry.value.tree else {
            report.find(entry.line, entry.value.tree.describe(), expected);
            return None;
        };
        let kind = KINDS.iter().find(|kind| kind.name == name);
        if kind.is_none() {
            let message = format!("there is no kind {}{}", quote(name), did_you_mean(name, &names));
            report.find(entry.line, message, expected);
        }
        kind
    })
}

/// The version that a document is of. One of an unknown kind has none, and is told of what is no version at all.
fn read_version(
    node: &Node,
    kind: Option<&'static Kind>,
    report: &mut Report,
) -> Option<&'static Version> {
    let names: Vec<_> = match kind {
        Some(kind) => kind.versions().rev().map(|(name, _)| name).collect(),
        None => API_VERSIONS.to_vec(),
    };
    let expected = names.join(" or ");
    report.at("apiVersion", |report| {
        let Some(entry) = node.entry("apiVersion") else {
            report.find(node.line, "is missing", expected);
            return None;
        };
        match &entry.value.tree {
            Tree::Text(version) if names.contains(&version.as_str()) => {
                let found = kind?.versions().find(|(name, _)| name == version);
                found.map(|(_, version)| version)
            }
            tree => {
                report.find(entry.line, tree.describe(), expected);
                None
            }
        }
    })
}

impl Document {
    /// Writes it with its header.
    pub(crate) fn write(&self, secrets: Secrets) -> Node {
        headed(newest_version(self.kind()), self.kind(), self.body(secrets))
    }

    /// Writes it for those who know no version above this one.
    ///
    /// # Errors
    /// What can't be said in a version that they know.
    pub(crate) fn write_as(&self, most: &str, secrets: Secrets) -> Result<Node, Vec<Lost>> {
        let kind = KINDS.iter().find(|kind| kind.name == self.kind());
        let mut versions = kind.into_iter().flat_map(Kind::versions);
        // Versions are in order, as their names are.
        let version = versions.rfind(|(name, _)| *name <= most);
        match version {
            Some((name, version)) => Ok(headed(name, self.kind(), (version.write)(self, secrets)?)),
            None => Ok(self.write(secrets)),
        }
    }
}

fn headed(version: &str, kind: &str, body: Tree) -> Node {
    let text = |key: &str, text: &str| Entry {
        key: key.to_owned(),
        line: 0,
        value: Node::new(Tree::Text(text.to_owned())),
    };
    let mut entries = vec![text("apiVersion", version), text("kind", kind)];
    if let Tree::Map(body) = body {
        entries.extend(body);
    }
    Node::new(Tree::Map(entries))
}
