// SPDX-License-Identifier: Apache-2.0
//! Documents of the network alone: what a platform or the kernel command line says of it, beneath the configuration.

mod draft;

use crate::document::Document;
use crate::link::delegated;
use crate::machine::{Parts, sorted};
use crate::node::Node;
use crate::report::Report;
use crate::virtual_link;
use crate::{Link, LinkMatch, Resolver, VirtualLink};
pub use draft::NetworkDraft;

/// Documents of the network alone, which hold as far as a configuration has none of its own. The only way in is
/// [`crate::canonical::read_network`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkDocuments {
    links: Vec<Link>,
    virtual_links: Vec<VirtualLink>,
    resolver: Option<Resolver>,
}

impl NetworkDocuments {
    /// How interfaces are set up, in the order of their names.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Links that the kernel makes.
    #[must_use]
    pub fn virtual_links(&self) -> &[VirtualLink] {
        &self.virtual_links
    }

    /// How names are resolved.
    #[must_use]
    pub fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// The same, asking for names whom another names, if it names anybody.
    #[must_use]
    pub fn resolving_by(mut self, other: &NetworkDocuments) -> NetworkDocuments {
        if other.resolver.is_some() {
            self.resolver.clone_from(&other.resolver);
        }
        self
    }

    /// The same, with interfaces found by what this says of documents that only name them.
    #[must_use]
    pub fn finding(mut self, mut find: impl FnMut(&Link) -> Option<LinkMatch>) -> NetworkDocuments {
        for link in &mut self.links {
            if let Some(found) = find(link) {
                link.find_by(found);
            }
        }
        self
    }

    pub(crate) fn read(nodes: &[(u32, Node)], report: &mut Report) -> Option<NetworkDocuments> {
        let mut parts = Parts::default();
        for (number, node) in nodes {
            report.enter(*number);
            let Some(document) = crate::document::read(node, report) else { continue };
            match document {
                Document::Link(_)
                | Document::VLAN(_)
                | Document::Bond(_)
                | Document::Bridge(_)
                | Document::Resolver(_) => parts.add(document, node, report),
                other => {
                    let message = format!("{} is nothing of the network's", other.kind());
                    report.find(node.line, message, "Link, VLAN, Bond, Bridge or Resolver");
                }
            }
        }
        virtual_link::check_together(&parts.virtual_links, &parts.links, report);
        delegated::check_together(&parts.links, report);
        report.is_empty().then(|| NetworkDocuments {
            links: sorted(parts.links, Link::name),
            virtual_links: virtual_link::sorted(parts.virtual_links),
            resolver: parts.resolver.map(|(resolver, _)| resolver),
        })
    }
}
