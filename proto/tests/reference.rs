// SPDX-License-Identifier: Apache-2.0
//! docs/api.md, from the comments in the .proto files and the method→role table. `UPDATE=1` renews it.
//!
//! The files are compiled once more here, with their comments: the descriptors in the library go without.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MethodDescriptorProto, ServiceDescriptorProto,
};
use std::fmt::Write as _;
use std::path::Path;
use stele_proto::method::{Answerer, Method};

/// The files of the public API, in the order of the manual.
const FILES: [&str; 7] = ["machine", "config", "upgrade", "event", "log", "resource", "diagnose"];

const INTRODUCTION: &str = "# API

<!-- Generated from proto/stele/v1/*.proto; `UPDATE=1 cargo test -p stele-proto` renews it. -->

A node speaks gRPC over mutual TLS 1.3. A client's certificate carries its role as organization (`O=`): `os:reader`,
`os:operator` or `os:admin`, each of which includes those before it, or a role of `ClientAccess` in the node's configuration.
Every call is audited. Failures are gRPC statuses
whose message says what was tried, why it failed, and what to do.

A node without a configuration is in maintenance mode: it answers anyone, and only what is marked so below.
";

#[test]
fn api_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == text,
        "UPDATE=1 renews docs/api.md"
    );
}

#[test]
fn every_service_and_method_is_documented() {
    for file in files() {
        let comments = Comments(&file);
        for (s, service) in (0..).zip(&file.service) {
            assert!(!comments.of(&[6, s]).is_empty(), "{} has no comment", service.name());
            for (m, method) in (0..).zip(&service.method) {
                assert!(!comments.of(&[6, s, 2, m]).is_empty(), "{} has no comment", method.name());
            }
        }
    }
}

fn files() -> Vec<FileDescriptorProto> {
    let mut compiler = protox::Compiler::new([env!("CARGO_MANIFEST_DIR")]).unwrap();
    compiler.include_source_info(true);
    compiler.open_files(FILES.map(|file| format!("stele/v1/{file}.proto"))).unwrap();
    compiler.file_descriptor_set().file
}

fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| service | |\n|---|---|\n");
    for file in files() {
        let comments = Comments(&file);
        for (index, service) in (0..).zip(&file.service) {
            let name = service.name();
            writeln!(text, "| [{name}](#{}) | {} |", anchor(name), cell(&comments.of(&[6, index])))
                .unwrap();
        }
    }
    for file in files() {
        let comments = Comments(&file);
        for (index, service) in (0..).zip(&file.service) {
            add_service(&mut text, &file, index, service);
        }
        for (index, message) in (0..).zip(&file.message_type) {
            add_message(&mut text, &comments, index, message);
        }
        for (index, enumeration) in (0..).zip(&file.enum_type) {
            add_enumeration(&mut text, &comments, index, enumeration);
        }
    }
    add_standard(&mut text);
    text
}

fn add_service(
    text: &mut String,
    file: &FileDescriptorProto,
    index: i32,
    service: &ServiceDescriptorProto,
) {
    let comments = Comments(file);
    let full_name = format!("{}.{}", file.package(), service.name());
    write!(text, "\n## {}\n\n`{full_name}`\n\n{}\n", service.name(), comments.of(&[6, index]))
        .unwrap();
    for (number, method) in (0..).zip(&service.method) {
        let entry = Method::parse(&format!("/{full_name}/{}", method.name())).unwrap();
        let maintenance = if entry.in_maintenance() { "; anyone in maintenance mode" } else { "" };
        write!(
            text,
            "\n### {}.{}\n\n{} · role `{}`{maintenance}\n\n{}\n",
            service.name(),
            method.name(),
            signature(method),
            entry.role(),
            comments.of(&[6, index, 2, number])
        )
        .unwrap();
    }
}

fn signature(method: &MethodDescriptorProto) -> String {
    let side = |streams: bool, name: &str| {
        format!("{}{}", if streams { "stream of " } else { "" }, reference(name))
    };
    format!(
        "{} → {}",
        side(method.client_streaming(), method.input_type()),
        side(method.server_streaming(), method.output_type())
    )
}

fn add_message(text: &mut String, comments: &Comments<'_>, index: i32, message: &DescriptorProto) {
    write!(text, "\n#### {}\n", message.name()).unwrap();
    let comment = comments.of(&[4, index]);
    if !comment.is_empty() {
        write!(text, "\n{comment}\n").unwrap();
    }
    if message.field.is_empty() {
        text.push_str("\nEmpty.\n");
        return;
    }
    text.push_str("\n| field | type | |\n|---|---|---|\n");
    for (number, field) in (0..).zip(&message.field) {
        let one_of = field
            .oneof_index
            .and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
        let choice = one_of.map(|one_of| format!(", one `{}`", one_of.name())).unwrap_or_default();
        let comment = cell(&comments.of(&[4, index, 2, number]));
        writeln!(
            text,
            "| `{}` = {} | {}{choice} | {comment} |",
            field.name(),
            field.number(),
            kind(field)
        )
        .unwrap();
    }
}

fn add_enumeration(
    text: &mut String,
    comments: &Comments<'_>,
    index: i32,
    enumeration: &EnumDescriptorProto,
) {
    write!(text, "\n#### {}\n", enumeration.name()).unwrap();
    let comment = comments.of(&[5, index]);
    if !comment.is_empty() {
        write!(text, "\n{comment}\n").unwrap();
    }
    text.push_str("\n| value | |\n|---|---|\n");
    for (number, value) in (0..).zip(&enumeration.value) {
        let comment = cell(&comments.of(&[5, index, 2, number]));
        writeln!(text, "| `{}` = {} | {comment} |", value.name(), value.number()).unwrap();
    }
}

/// The methods that are not ours.
fn add_standard(text: &mut String) {
    text.push_str("\n## Standard services\n\nDefined by gRPC; but for `/metrics`, which is a plain GET and answers in OpenMetrics to those who accept it, and\nin the older text format of Prometheus to others.\n\n| method | role |\n|---|---|\n");
    for method in Method::ALL.iter().filter(|method| method.answerer() == Answerer::Apid) {
        writeln!(text, "| `{}` | `{}` |", method.path(), method.role()).unwrap();
    }
}

fn kind(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => reference(field.type_name()),
        scalar => format!("`{}`", scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase()),
    };
    if field.label() == Label::Repeated { format!("list of {name}") } else { name }
}

/// A type's name: a link if it is ours.
fn reference(full_name: &str) -> String {
    match full_name.strip_prefix(".stele.v1.") {
        Some(name) => format!("[{name}](#{})", anchor(name)),
        None => format!("`{}`", full_name.trim_start_matches('.')),
    }
}

fn anchor(name: &str) -> String {
    name.to_lowercase()
}

fn cell(comment: &str) -> String {
    comment.replace('\n', " ").replace('|', "\\|")
}

/// The comments of a file, by the path of what they are about (`descriptor.proto`, `SourceCodeInfo.Location.path`).
struct Comments<'a>(&'a FileDescriptorProto);

impl Comments<'_> {
    fn of(&self, path: &[i32]) -> String {
        let locations = self.0.source_code_info.iter().flat_map(|info| &info.location);
        let comment = locations
            .filter(|location| location.path == path)
            .find_map(|l| l.leading_comments.as_deref());
        let lines: Vec<_> = comment.unwrap_or_default().lines().map(str::trim).collect();
        lines.join("\n").trim().to_owned()
    }
}
