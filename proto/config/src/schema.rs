// SPDX-License-Identifier: Apache-2.0
//! The JSON Schema of a document: for editors, which complete and check by it.
//!
//! It comes from the same declarations as the reader, and never refuses what the reader takes. The reader knows more:
//! what lies between keys, between documents, and within a certificate.

use crate::document::KINDS;
use crate::shape::{Absence, Field, Record, Shape};
use serde_json::{Map, Value, json};

/// What every time span matches.
const SPAN: &str = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$";

/// The JSON Schema of one document of the stream. Of the drafts, it is the one that all editors know.
#[must_use]
pub fn json() -> Value {
    // The newest of each kind comes first, for the editor to complete by.
    let versions = KINDS.iter().flat_map(|kind| kind.versions().rev().map(|it| (kind.name, it)));
    let kinds: Vec<Value> =
        versions.map(|(kind, (name, version))| document(kind, name, &(version.shape)())).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Stele machine configuration",
        "description": "One document of the stream.",
        "type": "object",
        "required": crate::record::HEADER,
        "oneOf": kinds,
    })
}

fn document(kind: &str, version: &str, shape: &Shape) -> Value {
    let mut schema = value(shape);
    let version = json!({"const": version, "description": "The version of the document."});
    let name = json!({"const": kind, "description": "What the document is about."});
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("apiVersion".to_owned(), version);
        properties.insert("kind".to_owned(), name);
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.extend(crate::record::HEADER.map(Value::from));
    }
    schema
}

fn value(shape: &Shape) -> Value {
    match shape {
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Choice { words } => json!({"enum": words}),
        Shape::Span { .. } => {
            json!({"type": "string", "pattern": SPAN, "examples": ["1h30m", "90s"]})
        }
        Shape::Text { what: _, example, pattern } => {
            json!({"type": "string", "pattern": pattern, "examples": [example]})
        }
        Shape::Setting { what: _, example } => {
            json!({"type": ["string", "number"], "examples": [example]})
        }
        Shape::Pem { what: _, label } => {
            json!({"type": "string", "pattern": format!("-----BEGIN {label}-----")})
        }
        Shape::List { of, min, max } => {
            json!({"type": "array", "items": value(of), "minItems": min, "maxItems": max, "uniqueItems": true})
        }
        Shape::Record(record) => mapping(record),
    }
}

fn mapping(record: &Record) -> Value {
    let required: Vec<_> = record
        .fields
        .iter()
        .filter(|field| field.absence == Absence::Refused)
        .map(|field| field.key)
        .collect();
    let properties: Map<_, _> =
        record.fields.iter().map(|field| (field.key.to_owned(), property(field))).collect();
    json!({
        "type": "object",
        "title": record.name,
        "description": prose(record.doc),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(field: &Field) -> Value {
    let mut schema = value(&field.shape);
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), prose(field.doc).into());
        if let Absence::Default(default) = &field.absence {
            schema.insert("default".to_owned(), serde_json::from_str(default).unwrap_or_default());
        }
    }
    schema
}

/// The lines of a comment as paragraphs.
pub(crate) fn prose(doc: &[&str]) -> String {
    let paragraphs: Vec<String> = doc
        .split(|line| line.trim().is_empty())
        .map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}
