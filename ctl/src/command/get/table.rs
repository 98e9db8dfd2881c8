// SPDX-License-Identifier: Apache-2.0
//! Resources of one kind as a table.

use crate::{
    output::{self, cell},
    span,
};
use serde_json::Value;
use stele_proto::v1::{Kind, Resource};

/// Which columns a table has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    /// The kind, which names its own.
    pub(crate) kind: &'a Kind,
    /// With the node.
    pub(crate) many: bool,
    /// With what the kind's own leave out.
    pub(crate) wide: bool,
}

/// The columns that count bytes: people read those in larger units.
const BYTES: [&str; 5] = ["MEMORY", "SIZE", "FREE", "TOTAL", "AVAILABLE"];

impl Columns<'_> {
    /// The headings.
    pub(crate) fn header(&self) -> Vec<String> {
        let wide: &[&str] = if self.wide { &["VERSION", "UPDATED", "MORE"] } else { &[] };
        let node = self.many.then(|| "NODE".to_owned());
        node.into_iter()
            .chain(["NAME".to_owned()])
            .chain(self.kind.columns.iter().map(|column| column.heading.clone()))
            .chain(wide.iter().map(ToString::to_string))
            .collect()
    }

    /// A resource's row.
    pub(crate) fn row(&self, resource: &Resource, node: &str) -> Vec<String> {
        let status = resource
            .status
            .as_ref()
            .map(|status| Value::Object(output::json_object(status)))
            .unwrap_or_default();
        let cells = self.kind.columns.iter().map(|column| {
            let text = cell(&status, &column.field);
            match text.parse() {
                Ok(bytes) if BYTES.contains(&column.heading.as_str()) => span::format_bytes(bytes),
                Ok(_) | Err(_) => text,
            }
        });
        let mut row: Vec<String> = self
            .many
            .then(|| node.to_owned())
            .into_iter()
            .chain([resource.name.clone()])
            .chain(cells)
            .collect();
        if self.wide {
            row.push(resource.version.to_string());
            row.push(resource.updated.as_ref().map(span::format_timestamp).unwrap_or_default());
            row.push(self.more(&status));
        }
        row
    }

    /// The fields that have no column.
    fn more(&self, status: &Value) -> String {
        let shown = |key: &str| {
            self.kind.columns.iter().any(|column| column.field.split('.').next() == Some(key))
        };
        let fields = status.as_object().into_iter().flatten();
        let more: Vec<String> = fields
            .filter(|(key, value)| !shown(key) && !value.is_null())
            .map(|(key, _)| format!("{key}={}", cell(status, key)))
            .collect();
        more.join(" ")
    }
}
