// SPDX-License-Identifier: Apache-2.0
//! The JSON Schema of a document.

/// The JSON Schema of one document.
#[must_use]
pub fn json() -> serde_json::Value {
    serde_json::Value::Null
}
