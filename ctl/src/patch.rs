// SPDX-License-Identifier: Apache-2.0
//! Patches of a configuration: merged by kind and name, or RFC 6902.

use crate::documents::{Documents, Title};
use anyhow::{Context as _, Result, anyhow, bail};
use json_patch::PatchError;
use serde::Deserialize as _;
use serde_json::{Map, Value as Json};
use serde_yaml::{Mapping, Value};
use stele_config::{canonical, newest_version};

/// The key by which a document of a patch says what to do with the one it is for.
const DIRECTIVE: &str = "$patch";

/// Merges documents into a configuration. Each goes into the one of its kind and name: mappings are merged, `null`
/// removes a key, and lists and all else are replaced. One that finds none is added.
pub fn merge(documents: &mut Documents, patch: &str) -> Result<()> {
    let mut found = false;
    for document in serde_yaml::Deserializer::from_str(patch) {
        let value = Value::deserialize(document).context("The patch is not YAML")?;
        if !value.is_null() {
            one(documents, value)?;
            found = true;
        }
    }
    if !found {
        bail!("The patch is empty");
    }
    Ok(())
}

fn one(documents: &mut Documents, mut patch: Value) -> Result<()> {
    let title = Title::of(&patch);
    let Value::Mapping(map) = &mut patch else {
        bail!("A patch is made of documents, each with the kind it is for");
    };
    if title.kind.is_empty() {
        bail!("A document of the patch has no kind");
    }
    let directive = map.shift_remove(DIRECTIVE);
    let index = documents.list.iter().position(|document| Title::of(document) == title);
    match (directive.as_ref().map(|value| value.as_str().unwrap_or_default()), index) {
        (Some("delete"), Some(index)) => {
            documents.list.remove(index);
        }
        (Some("delete"), None) => {
            bail!("There is no {title} to delete{}", there_is(documents, &title))
        }
        (None, Some(index)) => {
            let document = &mut documents.list[index];
            if let Some(version) = patch.get("apiVersion").and_then(Value::as_str) {
                *document = of_version(document, version)
                    .with_context(|| format!("{title} can't be patched as one of {version}"))?;
            }
            join(document, patch);
        }
        (Some("replace"), Some(index)) => documents.list[index] = headed(patch),
        (None | Some("replace"), None) => {
            let needs_name = documents.list.iter().map(Title::of).any(|other| {
                other.kind == title.kind && other.name.is_empty() != title.name.is_empty()
            });
            if needs_name {
                bail!("Which {} is meant{}", title.kind, there_is(documents, &title));
            }
            documents.list.push(headed(patch));
        }
        (Some(other), _) => bail!("{DIRECTIVE}: {other} means nothing: it is delete or replace"),
    }
    Ok(())
}

/// What there is of the same kind.
fn there_is(documents: &Documents, title: &Title) -> String {
    let titles = documents.list.iter().map(Title::of).filter(|other| other.kind == title.kind);
    let titles: Vec<String> = titles.map(|title| title.to_string()).collect();
    if titles.is_empty() { String::new() } else { format!(": there is {}", titles.join(", ")) }
}

/// A document in the version that a patch is written in.
fn of_version(document: &Value, version: &str) -> Result<Value> {
    if document.get("apiVersion").and_then(Value::as_str) == Some(version) {
        return Ok(document.clone());
    }
    match canonical::convert(&serde_json::to_string(document)?, version) {
        Ok(document) => Ok(serde_yaml::from_str(&document)?),
        Err(findings) => {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            bail!("{}", lines.join("; "))
        }
    }
}

/// A document with its version before all else.
fn headed(document: Value) -> Value {
    let version = newest_version(&Title::of(&document).kind);
    let mut map = Mapping::from_iter([("apiVersion".into(), version.into())]);
    if let Value::Mapping(document) = document {
        map.extend(document.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Value::Mapping(map)
}

/// RFC 7386.
fn join(target: &mut Value, patch: Value) {
    let Value::Mapping(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_mapping() {
        *target = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(&key);
        } else {
            join(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Applies a patch of RFC 6902. To it the configuration is one object: `/Hostname/hostname`, `/Link/eth0/mtu`.
pub fn operations(documents: &mut Documents, text: &str) -> Result<()> {
    let operations: json_patch::Patch =
        serde_json::from_str(text).context("The patch is not one of RFC 6902, such as [{\"op\": \"remove\", \"path\": \"/Link/eth0/mtu\"}]")?;
    let mut tree = Map::new();
    for document in &documents.list {
        let (title, value) = (Title::of(document), serde_json::to_value(document)?);
        if title.name.is_empty() {
            tree.insert(title.kind, value);
        } else if let Json::Object(kind) =
            tree.entry(title.kind).or_insert_with(|| Map::new().into())
        {
            kind.insert(title.name, value);
        }
    }
    // The first document with a name needs a kind to stand in.
    for path in operations
        .iter()
        .filter(|operation| matches!(operation, json_patch::PatchOperation::Add(_)))
    {
        let mut tokens = path.path().tokens();
        if let (Some(kind), Some(_)) = (tokens.next(), tokens.next()) {
            tree.entry(kind.decoded().into_owned()).or_insert_with(|| Map::new().into());
        }
    }
    let mut tree = Json::Object(tree);
    json_patch::patch(&mut tree, &operations).map_err(|error| misfit(text, &error))?;
    let Json::Object(tree) = tree else { bail!("The patch leaves no configuration") };
    let mut list = Vec::new();
    for (kind, value) in tree {
        match value {
            Json::Object(named)
                if !named.contains_key("kind") && named.values().all(Json::is_object) =>
            {
                for (name, document) in named {
                    list.push(titled(document, &kind, Some(&name))?);
                }
            }
            document => list.push(titled(document, &kind, None)?),
        }
    }
    // A tree has its keys in an order of its own.
    let before = std::mem::take(&mut documents.list);
    let place = |one: &Value| before.iter().position(|other| Title::of(other) == Title::of(one));
    list.sort_by_key(|one| place(one).unwrap_or(before.len()));
    documents.list = list
        .into_iter()
        .map(|one| match place(&one).and_then(|place| before.get(place)) {
            Some(like) => in_order(one, like),
            None => one,
        })
        .collect();
    Ok(())
}

/// A value with its keys in the order of another one, and those that are new after them.
fn in_order(value: Value, like: &Value) -> Value {
    match (value, like) {
        (Value::Mapping(mut value), Value::Mapping(like)) => {
            let known = like.iter().filter_map(|(key, like)| {
                Some((key.clone(), in_order(value.shift_remove(key)?, like)))
            });
            let mut ordered: Mapping = known.collect();
            ordered.extend(value);
            Value::Mapping(ordered)
        }
        (value, _) => value,
    }
}

/// Says which operation does not fit, where it stands, and why.
fn misfit(text: &str, error: &PatchError) -> anyhow::Error {
    let PatchError { operation, path, kind, .. } = error;
    let line = line_of(text, *operation).map(|line| format!(" on line {line}")).unwrap_or_default();
    let number = operation + 1;
    anyhow!("The patch does not fit the configuration: operation {number}{line}, {path}: {kind}")
}

/// The line on which an item of a JSON list begins.
fn line_of(text: &str, item: usize) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped, mut line, mut items) = (0, false, false, 1, 0);
    for c in text.chars() {
        line += usize::from(c == '\n');
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => {
                if depth == 1 && items == item {
                    return Some(line);
                }
                items += usize::from(depth == 1);
                depth += 1;
            }
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A document as its place in the tree has it, where it does not say so itself.
fn titled(mut document: Json, kind: &str, name: Option<&str>) -> Result<Value> {
    if let Json::Object(map) = &mut document {
        map.entry("apiVersion").or_insert_with(|| newest_version(kind).into());
        map.entry("kind").or_insert_with(|| kind.into());
        if let Some(name) = name
            .filter(|_| Title::of(&serde_yaml::to_value(&*map).unwrap_or_default()).name.is_empty())
        {
            map.insert("name".to_owned(), name.into());
        }
    }
    Ok(serde_yaml::to_value(document)?)
}

#[cfg(test)]
mod tests;
