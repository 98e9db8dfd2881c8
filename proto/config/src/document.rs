// SPDX-License-Identifier: Apache-2.0
//! The closed set of kinds, and the one walk that makes documents of trees.

use crate::environment::{Environment, MAX_ENVIRONMENTS};
use crate::files::{Files, MAX_FILES};
use crate::health::{HealthCheckDocument, MAX_CHECKS};
use crate::kernel_module::{KernelModule, MAX_MODULES};
use crate::log_sink::{LogSink, MAX_SINKS};
use crate::node::{Entry, Node, Tree};
use crate::record::{Check, did_you_mean, record};
use crate::registry::{MAX_REGISTRIES, RegistryAuth, RegistryMirror};
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::sysctl::{MAX_SYSCTLS, Sysctl};
use crate::trusted_roots::{MAX_ROOTS, TrustedRoots};
use crate::value::{Secrets, Value};
use crate::{
    API_VERSION, ClientAccess, Hostname, Identity, Link, Metrics, Resolver, UpgradePolicy, Watchdog,
};

record! {
    /// The name of the machine. Without it, the name that DHCP brings, or else `stele`.
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
    /// What its documents hold.
    #[cfg_attr(
        not(feature = "schema"),
        expect(dead_code, reason = "only the schema and the manual read it")
    )]
    pub(crate) shape: fn() -> Shape,
    /// One that is good, as people write it.
    #[cfg(feature = "schema")]
    pub(crate) example: &'static str,
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

/// Lists the kinds: the name, the type of its documents, how many there may be, and what they are about. Each has an example
/// in `examples/`.
macro_rules! kinds {
    ($($name:ident: $type:ty, $count:expr, $about:literal;)+) => {
        /// A document that is good in itself.
        #[derive(Clone, Debug)]
        pub(crate) enum Document {
            $(#[doc = $about] $name($type),)+
        }

        /// All kinds, in the order of the canonical form and of the manual.
        pub(crate) const KINDS: [Kind; [$($about),+].len()] = [$(Kind {
            name: stringify!($name),
            count: $count,
            shape: <$type>::shape,
            #[cfg(feature = "schema")]
            example: include_str!(concat!("../examples/", stringify!($name), ".yaml")),
            read: |node, report| <$type>::read(node, report).map(Document::$name),
        }),+];

        impl Document {
            /// Its kind.
            pub(crate) fn kind(&self) -> &'static str {
                match self { $(Document::$name(_) => stringify!($name),)+ }
            }

            fn body(&self, secrets: Secrets) -> Option<Tree> {
                match self { $(Document::$name(document) => document.write(secrets),)+ }
            }
        }
    };
}

kinds! {
    Identity: Identity, Count::One, "Who the node is.";
    ClientAccess: ClientAccess, Count::AtMostOne, "Which clients may do what.";
    Hostname: HostnameDocument, Count::AtMostOne, "What it is called.";
    Link: Link, Count::Named, "How one interface is set up.";
    Resolver: Resolver, Count::AtMostOne, "How names are resolved.";
    HealthCheck: HealthCheckDocument, Count::NamedUpTo(MAX_CHECKS), "What must work.";
    Metrics: Metrics, Count::AtMostOne, "Where the machine's figures can be had.";
    LogSink: LogSink, Count::NamedUpTo(MAX_SINKS), "Where logs are sent to.";
    Watchdog: Watchdog, Count::AtMostOne, "When a machine that hangs is reset.";
    UpgradePolicy: UpgradePolicy, Count::AtMostOne, "Which images it takes.";
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
    /// Writes it with its header.
    pub(crate) fn write(&self, secrets: Secrets) -> Node {
        let text = |key: &str, text: &str| Entry {
            key: key.to_owned(),
            line: 0,
            value: Node::new(Tree::Text(text.to_owned())),
        };
        let mut entries = vec![text("apiVersion", API_VERSION), text("kind", self.kind())];
        if let Some(Tree::Map(body)) = self.body(secrets) {
            entries.extend(body);
        }
        Node::new(Tree::Map(entries))
    }
}
