// SPDX-License-Identifier: Apache-2.0
//! The closed set of kinds, and the one walk that makes documents of trees.

use crate::health::{HealthCheckDocument, MAX_CHECKS};
use crate::node::{Entry, Node, Tree};
use crate::record::{Check, did_you_mean, record};
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::{Secrets, Value};
use crate::{API_VERSION, Hostname, Identity, Link, Resolver, UpgradePolicy, Watchdog};

record! {
    /// The name of the machine. Without it, the name that DHCP brings, or else `stele`.
    pub(crate) struct HostnameDocument as "Hostname" {
        /// The name: one label, or several with dots between them. It is kept in lower case.
        pub(crate) hostname: Hostname,
    }
}

impl Check for HostnameDocument {}

/// A document that is good in itself.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// Who the node is.
    Identity(Identity),
    /// What it is called.
    Hostname(HostnameDocument),
    /// How one interface is set up.
    Link(Link),
    /// How names are resolved.
    Resolver(Resolver),
    /// What must work.
    HealthCheck(HealthCheckDocument),
    /// When a machine that hangs is reset.
    Watchdog(Watchdog),
    /// Which images it takes.
    UpgradePolicy(UpgradePolicy),
}

/// A kind of document.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The name.
    pub(crate) name: &'static str,
    /// How many there may be.
    #[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "only the manual reads it"))]
    pub(crate) count: Count,
    /// What its documents hold.
    #[cfg_attr(
        not(feature = "schema"),
        expect(dead_code, reason = "only the schema and the manual read it")
    )]
    pub(crate) shape: fn() -> Shape,
    /// Its documents' reader.
    read: fn(&Node, &mut Report) -> Option<Document>,
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

/// All kinds, in the order of the canonical form and of the manual.
pub(crate) const KINDS: [Kind; 7] = [
    Kind {
        name: "Identity",
        count: Count::One,
        shape: Identity::shape,
        read: |node, report| Identity::read(node, report).map(Document::Identity),
    },
    Kind {
        name: "Hostname",
        count: Count::AtMostOne,
        shape: HostnameDocument::shape,
        read: |node, report| HostnameDocument::read(node, report).map(Document::Hostname),
    },
    Kind {
        name: "Link",
        count: Count::Named,
        shape: Link::shape,
        read: |node, report| Link::read(node, report).map(Document::Link),
    },
    Kind {
        name: "Resolver",
        count: Count::AtMostOne,
        shape: Resolver::shape,
        read: |node, report| Resolver::read(node, report).map(Document::Resolver),
    },
    Kind {
        name: "HealthCheck",
        count: Count::NamedUpTo(MAX_CHECKS),
        shape: HealthCheckDocument::shape,
        read: |node, report| HealthCheckDocument::read(node, report).map(Document::HealthCheck),
    },
    Kind {
        name: "Watchdog",
        count: Count::AtMostOne,
        shape: Watchdog::shape,
        read: |node, report| Watchdog::read(node, report).map(Document::Watchdog),
    },
    Kind {
        name: "UpgradePolicy",
        count: Count::AtMostOne,
        shape: UpgradePolicy::shape,
        read: |node, report| UpgradePolicy::read(node, report).map(Document::UpgradePolicy),
    },
];

/// Reads one document, whose place in the stream the report knows.
pub(crate) fn read(node: &Node, report: &mut Report) -> Option<Document> {
    match node.tree {
        Tree::Map(_) => {}
        Tree::Refused => return None,
        _ => {
            report.find(
                node.line,
                node.tree.describe(),
                format!("a document: apiVersion: {API_VERSION}, kind: …"),
            );
            return None;
        }
    }
    let kind = read_kind(node, report);
    if let Some(kind) = kind {
        report.kind(kind.name);
    }
    let version = read_version(node, report);
    let document = (kind?.read)(node, report)?;
    version.then_some(document)
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

fn read_version(node: &Node, report: &mut Report) -> bool {
    report.at("apiVersion", |report| {
        match node.entry("apiVersion").map(|entry| (entry.line, &entry.value.tree)) {
            Some((_, Tree::Text(version))) if version == API_VERSION => true,
            Some((line, tree)) => {
                report.find(line, tree.describe(), API_VERSION);
                false
            }
            None => {
                report.find(node.line, "is missing", API_VERSION);
                false
            }
        }
    })
}

impl Document {
    /// Its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Document::Identity(_) => "Identity",
            Document::Hostname(_) => "Hostname",
            Document::Link(_) => "Link",
            Document::Resolver(_) => "Resolver",
            Document::HealthCheck(_) => "HealthCheck",
            Document::Watchdog(_) => "Watchdog",
            Document::UpgradePolicy(_) => "UpgradePolicy",
        }
    }

    /// Writes it with its header.
    pub(crate) fn write(&self, secrets: Secrets) -> Node {
        let body = match self {
            Document::Identity(document) => document.write(secrets),
            Document::Hostname(document) => document.write(secrets),
            Document::Link(document) => document.write(secrets),
            Document::Resolver(document) => document.write(secrets),
            Document::HealthCheck(document) => document.write(secrets),
            Document::Watchdog(document) => document.write(secrets),
            Document::UpgradePolicy(document) => document.write(secrets),
        };
        let text = |key: &str, text: &str| Entry {
            key: key.to_owned(),
            line: 0,
            value: Node::new(Tree::Text(text.to_owned())),
        };
        let mut entries = vec![text("apiVersion", API_VERSION), text("kind", self.kind())];
        if let Some(Tree::Map(body)) = body {
            entries.extend(body);
        }
        Node::new(Tree::Map(entries))
    }
}
