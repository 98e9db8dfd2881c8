// SPDX-License-Identifier: Apache-2.0
//! Resources as the commands read them: a name, and a status with fields.

use crate::{client::Session, failure::Failure, output};
use serde_json::Value;
use stele_proto::v1::{ListRequest, Resource};
use tonic::Code;

/// A resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thing {
    /// Its name.
    pub(crate) name: String,
    /// Its fields.
    pub(crate) status: Value,
}

impl From<Resource> for Thing {
    fn from(resource: Resource) -> Thing {
        let status = resource.status.as_ref().map(output::json_object).unwrap_or_default();
        Thing { name: resource.name, status: Value::Object(status) }
    }
}

impl Thing {
    /// The text of a field; empty if it has none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.status.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number of a field.
    pub(crate) fn number(&self, field: &str) -> Option<f64> {
        self.status.get(field).and_then(Value::as_f64)
    }

    /// The name as a number, for what is counted; 0 if it is none.
    pub(crate) fn count(&self) -> u64 {
        self.name.parse().unwrap_or(0)
    }

    /// Its fields and its name, for programs.
    pub(crate) fn value(&self, key: &str, name: Value) -> Value {
        let mut fields = self.status.as_object().cloned().unwrap_or_default();
        fields.insert(key.to_owned(), name);
        Value::Object(fields)
    }
}

/// All resources of a kind.
pub(crate) async fn list(session: &Session, kind: &str) -> Result<Vec<Thing>, Failure> {
    let request = ListRequest { kind: kind.to_owned(), name: String::new() };
    let tried = format!("Listing {kind}");
    let response = session.answer(&tried, session.resources().list(request)).await?;
    Ok(response.resources.into_iter().map(Thing::from).collect())
}

/// The same; none of a kind that the node does not know, as nodes of older versions do not.
pub(crate) async fn list_known(session: &Session, kind: &str) -> Result<Vec<Thing>, Failure> {
    match list(session, kind).await {
        Err(Failure { code: Some(Code::NotFound | Code::Unimplemented), .. }) => Ok(Vec::new()),
        listed => listed,
    }
}

/// A moment of the node's clock, given its start and seconds after that; what is known of it, if that is not all.
pub(crate) fn moment(start: i64, after: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are shown")]
    let seconds = after as i64;
    match start.checked_add(seconds).filter(|_| start > 0) {
        Some(seconds) => {
            crate::span::format_timestamp(&prost_types::Timestamp { seconds, nanos: 0 })
        }
        None => format!("{seconds}s after its start"),
    }
}
