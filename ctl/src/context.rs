// SPDX-License-Identifier: Apache-2.0
//! The client configuration: contexts, each a fleet with the credentials for it.
//!
//! One YAML file, for its owner alone, replaced as a whole by rename.

use crate::node::Node;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    env, fmt, fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Who one is to a fleet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The operator's CA, PEM.
    pub(crate) ca: String,
    /// The client certificate, PEM.
    pub(crate) certificate: String,
    /// Its key, PEM.
    pub(crate) key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A fleet and the credentials for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its nodes.
    #[serde(default)]
    pub(crate) nodes: Vec<Node>,
    /// The operator's CA, PEM.
    ca: String,
    /// The client certificate, PEM.
    certificate: String,
    /// Its key, PEM.
    key: Secret,
}

/// Text that stays out of debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Context {
    /// A context from its parts.
    pub(crate) fn new(nodes: Vec<Node>, credentials: Credentials) -> Context {
        Context {
            nodes,
            ca: credentials.ca,
            certificate: credentials.certificate,
            key: Secret(credentials.key),
        }
    }

    /// The credentials.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.0.clone(),
        }
    }
}

/// The client configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them by name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Where the client configuration is: `given`, or else under XDG's configuration home.
    pub(crate) fn path(given: Option<&Path>) -> Result<PathBuf> {
        if let Some(path) = given {
            return Ok(path.to_owned());
        }
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG base directory specification has relative paths ignored.
        let home = set("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| set("HOME").map(|home| home.join(".config")));
        Ok(home.context("Neither HOME nor XDG_CONFIG_HOME is set. Say where the client configuration is with --config")?.join("stele/config.yaml"))
    }

    /// Reads the file; one that is not there is empty.
    pub(crate) fn load(path: &Path) -> Result<Contexts> {
        match path.try_exists() {
            Ok(false) => Ok(Contexts::default()),
            Ok(true) | Err(_) => load(path),
        }
    }

    /// Writes the file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        write_secret(
            path,
            "# Contexts of ctl: fleets, and the credentials for them. Keep it to yourself.\n",
            self,
        )
    }

    /// The context with this name, or the current one, or the only one.
    pub(crate) fn select(&self, name: Option<&str>, path: &Path) -> Result<(&str, &Context)> {
        let names = || self.contexts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let name = match (name.or(self.current.as_deref()), self.contexts.keys().next()) {
            (_, None) => bail!(
                "There is no context in {}\n  ctl gen config writes one beside the machine configuration, and ctl config merge takes it in",
                path.display()
            ),
            (Some(name), _) => name,
            (None, Some(only)) if self.contexts.len() == 1 => only,
            (None, _) => bail!(
                "No context is in use. Choose one of {} with ctl config use, or --context",
                names()
            ),
        };
        let Some((name, context)) = self.contexts.get_key_value(name) else {
            bail!("There is no context \"{name}\" in {}. There is {}", path.display(), names());
        };
        Ok((name, context))
    }
}

/// Reads a YAML file.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("Reading {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("Reading {}", path.display()))
}

/// Says so when others may read a file of secrets.
pub(crate) fn warn_if_open(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        eprintln!(
            "warning: {} holds private keys and has mode {mode:04o}. chmod 600 keeps others out",
            path.display()
        );
    }
}

/// Writes a YAML file that only its owner can read, all of it or nothing.
pub(crate) fn write_secret(path: &Path, head: &str, value: &impl Serialize) -> Result<()> {
    let text = format!("{head}{}", serde_yaml::to_string(value)?);
    write_file(path, text.as_bytes(), 0o600)
}

/// Writes a file, all of it or nothing.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        // A link, such as into a folder of dotfiles, stays one: its target is replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.exists() {
            fs::DirBuilder::new().recursive(true).create(parent)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = parent.join(name);
        let _ = fs::remove_file(&temporary);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    };
    write().with_context(|| format!("Writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(node: &str) -> Context {
        let credentials = Credentials {
            ca: "CA\n".to_owned(),
            certificate: "CERT\n".to_owned(),
            key: "KEY\n".to_owned(),
        };
        Context::new(vec![Node::parse(node).unwrap()], credentials)
    }

    #[test]
    fn saved_contexts_come_back_and_belong_to_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stele/config.yaml");
        let contexts = Contexts {
            current: Some("lab".to_owned()),
            contexts: [("lab".to_owned(), context("web1=127.0.0.1:5001"))].into(),
        };
        contexts.save(&path).unwrap();
        contexts.save(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn a_missing_file_is_empty_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        fs::write(&path, "contexts: {lab: {nodse: []}}").unwrap();
        let error = format!("{:#}", Contexts::load(&path).unwrap_err());
        assert!(error.contains("config.yaml") && error.contains("nodse"), "{error}");
    }

    #[test]
    fn the_named_the_current_or_the_only_context() {
        let path = Path::new("c");
        let mut contexts = Contexts::default();
        assert!(contexts.select(None, path).unwrap_err().to_string().contains("gen config"));
        contexts.contexts.insert("a".to_owned(), context("a"));
        assert_eq!(contexts.select(None, path).unwrap().0, "a");
        contexts.contexts.insert("b".to_owned(), context("b"));
        assert!(contexts.select(None, path).unwrap_err().to_string().contains("a, b"));
        contexts.current = Some("b".to_owned());
        assert_eq!(contexts.select(None, path).unwrap().0, "b");
        assert_eq!(contexts.select(Some("a"), path).unwrap().0, "a");
        assert!(contexts.select(Some("c"), path).unwrap_err().to_string().contains("\"c\""));
    }

    #[test]
    fn keys_stay_out_of_debug_output() {
        assert!(!format!("{:?}", context("a")).contains("KEY"));
    }
}
