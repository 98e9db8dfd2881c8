// SPDX-License-Identifier: Apache-2.0
//! The documents of a configuration as a client handles them: one by one, and with their secrets put aside.
//!
//! A secret is taken out of the text before it is shown or handed to an editor, and a mark stands in its place. The
//! marks differ, so that each finds its secret again, and a secret that has changed can be told without being shown.

use anyhow::{Context as _, Result};
use serde_yaml::Value;
use std::fmt;
use stele_config::canonical;

/// What a node writes in the place of a secret that its reader may not have.
const REDACTED: &str = "[redacted]";

/// The keys that hold secrets in kinds that only the node knows.
const SECRETS: [&str; 4] = ["key", "password", "secret", "token"];

/// Which document of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Title {
    /// Its kind.
    pub kind: String,
    /// Its name; empty where there can be but one.
    pub name: String,
}

impl Title {
    /// The title of a document.
    pub fn of(document: &Value) -> Title {
        let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
        Title { kind: text("kind").unwrap_or_default(), name: text("name").unwrap_or_default() }
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        Ok(())
    }
}

/// A secret that was put aside.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// What stands in its place.
    pub mark: String,
    /// The secret; none if the node did not tell.
    pub value: Option<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mark)
    }
}

/// The documents of a configuration, without its secrets.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// The documents in the order of the canonical form.
    pub list: Vec<Value>,
    /// What was put aside.
    pub secrets: Vec<Secret>,
}

impl Documents {
    /// Reads the canonical form, redacted by the node or not.
    pub fn read(bytes: &[u8]) -> Result<Documents> {
        let mut documents = Documents {
            list: parse(bytes).context("Reading the configuration of the node")?,
            secrets: Vec::new(),
        };
        let redacted = match canonical::read(bytes) {
            Ok(config) => parse(&canonical::redact(&config))?,
            Err(_) => Vec::new(), // redacted already, or of a newer version than this ctl
        };
        for (index, document) in documents.list.iter_mut().enumerate() {
            let mut place = Title::of(document).to_string();
            put_aside(document, redacted.get(index), "", &mut place, &mut documents.secrets);
        }
        Ok(documents)
    }

    /// As a YAML stream.
    pub fn print(&self) -> Result<String> {
        print(&self.list)
    }

    /// A text, made of what [`Documents::print`] returned, with the secrets in their places again. Each line stays
    /// what it is.
    pub fn restore(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for Secret { mark, value } in &self.secrets {
            if let Some(value) = value {
                let value = serde_json::to_string(value)?;
                for mark in [format!("'{mark}'"), format!("\"{mark}\""), mark.clone()] {
                    text = text.replace(&mark, &value);
                }
            }
        }
        Ok(text)
    }

    /// True if the node did not tell all of it.
    pub fn is_redacted(&self) -> bool {
        self.secrets.iter().any(|secret| secret.value.is_none())
    }
}

/// Documents as a YAML stream.
pub(crate) fn print(documents: &[Value]) -> Result<String> {
    let texts: Vec<String> =
        documents.iter().map(serde_yaml::to_string).collect::<Result<_, _>>()?;
    Ok(texts.join("---\n"))
}

/// The documents of a JSON array, with their keys in order.
fn parse(bytes: &[u8]) -> Result<Vec<Value>> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Puts the secrets of a value aside: what is missing in its redacted form, or else what looks like one.
fn put_aside(
    value: &mut Value,
    redacted: Option<&Value>,
    key: &str,
    place: &mut String,
    secrets: &mut Vec<Secret>,
) {
    let length = place.len();
    match value {
        Value::Mapping(map) => {
            for (key, value) in map.iter_mut() {
                let key = key.as_str().unwrap_or_default();
                place.push_str(&format!(" {key}"));
                put_aside(value, redacted.and_then(|of| of.get(key)), key, place, secrets);
                place.truncate(length);
            }
        }
        Value::Sequence(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                place.push_str(&format!(" {index}"));
                put_aside(value, redacted.and_then(|of| of.get(index)), key, place, secrets);
                place.truncate(length);
            }
        }
        Value::String(text) => {
            let told = text != REDACTED;
            let secret = match redacted {
                Some(redacted) => redacted.as_str() == Some(REDACTED),
                None => !told || SECRETS.contains(&key) || text.contains("PRIVATE KEY-----"),
            };
            if secret {
                let mark = format!("(secret {place})");
                let value = std::mem::replace(text, mark.clone());
                secrets.push(Secret { mark, value: told.then_some(value) });
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Tagged(_) => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::pki;
    use stele_config::{MachineConfig, yaml};
    use time::OffsetDateTime;

    /// A configuration with a key that was made for it, and these further documents.
    pub(crate) fn config(more: &str) -> MachineConfig {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ca = pki::make_ca(now).unwrap();
        let node = pki::make_node(&ca, "web1", now).unwrap();
        let text = |text: &str| serde_json::to_string(text).unwrap();
        let identity = format!(
            "apiVersion: stele/v1\nkind: Identity\nca: {}\ncertificate: {}\nkey: {}\n",
            text(&ca.certificate),
            text(&node.certificate),
            text(&node.key)
        );
        yaml::parse(format!("{identity}{more}").as_bytes()).unwrap()
    }

    const LINK: &str = "---\napiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: true\n";

    #[test]
    fn secrets_are_put_aside_and_find_back_on_the_same_line() {
        let config = config(LINK);
        let documents = Documents::read(&canonical::write(&config)).unwrap();
        let text = documents.print().unwrap();
        assert!(text.contains("key: (secret Identity key)\n"), "{text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
        let restored = documents.restore(&text).unwrap();
        assert_eq!(restored.lines().count(), text.lines().count());
        assert!(yaml::parse(restored.as_bytes()).unwrap() == config);
        let quoted = text.replace("(secret Identity key)", "\"(secret Identity key)\"");
        assert!(yaml::parse(documents.restore(&quoted).unwrap().as_bytes()).unwrap() == config);
        assert!(!format!("{documents:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn what_the_node_did_not_tell_is_marked_too() {
        let documents = Documents::read(&canonical::redact(&config(LINK))).unwrap();
        assert!(documents.is_redacted());
        assert!(documents.print().unwrap().contains("key: (secret Identity key)\n"));
    }

    #[test]
    fn kinds_of_a_later_version_keep_their_secrets() {
        let bytes =
            br#"[{"kind":"Later","name":"a","token":"t0p","list":[{"password":"b"}],"open":"c"}]"#;
        let documents = Documents::read(bytes).unwrap();
        let text = documents.print().unwrap();
        assert!(!text.contains("t0p") && text.contains("open: c"), "{text}");
        assert!(text.contains("(secret Later a list 0 password)"), "{text}");
        assert_eq!(Title::of(&documents.list[0]).to_string(), "Later a");
    }
}
