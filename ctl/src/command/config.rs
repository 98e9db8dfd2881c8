// SPDX-License-Identifier: Apache-2.0
//! `ctl config`: contexts, and the configurations of nodes.

use super::generations;
use crate::{
    app::{App, FormatArg, Misuse, Outcome},
    context::{self, Context, Contexts},
    node::Node,
    output::{self, Format, Table},
    pki, span,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Commands about contexts, and about the configurations of nodes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the contexts
    #[command(after_help = "Example:\n  ctl config contexts")]
    Contexts(FormatArg),
    /// Make a context the current one
    #[command(after_help = "Example:\n  ctl config use lab")]
    Use {
        /// Its name
        name: String,
    },
    /// Take in the contexts of another file, such as the client.yaml of ctl gen config
    #[command(after_help = "Examples:
  ctl config merge web1/client.yaml
  ctl config merge web1/client.yaml --force

A context that is there already, of the same CA, gets the file's nodes added and its credentials. One of another CA is \
another fleet of the same name: it is replaced only with --force. The file's current context becomes the current one.")]
    Merge {
        /// The file
        file: PathBuf,
        /// Replace contexts of the same name that have another CA
        #[arg(long)]
        force: bool,
    },
    /// Remove a context, and with it its credentials
    #[command(after_help = "Example:\n  ctl config remove lab")]
    Remove {
        /// Its name
        name: String,
    },
    /// Print where the client configuration is
    #[command(after_help = "Example:\n  ctl config path")]
    Path,
    /// List the configurations that a node has had
    #[command(after_help = "Example:\n  ctl config history -n web1")]
    History(generations::HistoryArgs),
    /// Show a configuration that a node has had
    #[command(after_help = "Examples:
  ctl config show 7
  ctl config show 7 | ctl apply-config -f -

Only the heading of the one in force makes apply-config refuse when another has come between: what is older is meant to \
replace what there is.")]
    Show(generations::ShowArgs),
    /// Show what differs between two configurations of a node
    #[command(after_help = "Examples:
  ctl config diff 6 7
  ctl config diff 6               with the one in force")]
    Diff(generations::DiffArgs),
    /// Go back to a configuration that a node has had
    #[command(after_help = "Examples:
  ctl config rollback --dry-run   what the one before the present one would change
  ctl config rollback 6
  ctl config rollback 6 --confirm-within 5m

It becomes a new generation; the history stays as it is. ctl rollback is another thing: it goes back to another image.")]
    Rollback(generations::RollbackArgs),
}

/// Does it.
pub(crate) async fn run(app: &App, command: Command) -> Result<Outcome> {
    let path = Contexts::path(app.global.config.as_deref())?;
    match command {
        Command::History(args) => generations::history(app, &args).await,
        Command::Show(args) => generations::show(app, &args).await,
        Command::Diff(args) => generations::diff(app, &args).await,
        Command::Rollback(args) => generations::rollback(app, args).await,
        Command::Contexts(format) => list(app, &path, format.output),
        Command::Use { name } => {
            let mut contexts = Contexts::load(&path)?;
            contexts.select(Some(&name), &path).map_err(|error| Misuse(error.to_string()))?;
            contexts.current = Some(name);
            contexts.save(&path)?;
            Ok(Outcome::Done)
        }
        Command::Merge { file, force } => merge_file(&path, &file, force),
        Command::Remove { name } => {
            let mut contexts = Contexts::load(&path)?;
            contexts.select(Some(&name), &path).map_err(|error| Misuse(error.to_string()))?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.save(&path)?;
            Ok(Outcome::Done)
        }
        Command::Path => {
            output::print(&format!("{}\n", path.display()))?;
            Ok(Outcome::Done)
        }
    }
}

fn list(app: &App, path: &Path, format: Format) -> Result<Outcome> {
    let contexts = Contexts::load(path)?;
    let now = OffsetDateTime::now_utc();
    let mut table = Table::new(["CURRENT", "NAME", "NODES", "CLIENT", "ROLE", "EXPIRES"]);
    let mut values = Vec::new();
    for (name, context) in &contexts.contexts {
        let current = contexts.current.as_ref() == Some(name);
        let nodes: Vec<String> = context.nodes.iter().map(shown).collect();
        let summary = pki::read_certificate(&context.credentials().certificate).ok();
        let expires = summary
            .as_ref()
            .map(|summary| expiry(summary.not_after, now))
            .unwrap_or("unreadable".to_owned());
        let client = summary.as_ref().map(|summary| summary.name.clone()).unwrap_or_default();
        let role = summary.as_ref().map(|summary| summary.role.clone()).unwrap_or_default();
        values.push(json!({
            "name": name, "current": current, "nodes": context.nodes, "client": client, "role": role,
            "expires": summary.as_ref().map(|summary| span::format_moment(summary.not_after)),
        }));
        table.row([
            if current { "*" } else { " " }.to_owned(),
            name.clone(),
            nodes.join(","),
            client,
            role,
            expires,
        ]);
    }
    match format {
        Format::Table if values.is_empty() => {
            output::print(&format!("There is no context in {}.\n", path.display()))?;
        }
        Format::Table => output::print(&table.render(app.paint))?,
        Format::Json | Format::Yaml => output::print_value(format, &Value::Array(values))?,
    }
    Ok(Outcome::Done)
}

fn shown(node: &Node) -> String {
    match &node.server_name {
        Some(name) => format!("{name}={}", node.address()),
        None => node.name(),
    }
}

fn expiry(moment: OffsetDateTime, now: OffsetDateTime) -> String {
    let distance = span::format_duration((moment - now).unsigned_abs());
    if moment > now { format!("in {distance}") } else { format!("{distance} ago") }
}

fn merge_file(path: &Path, file: &Path, force: bool) -> Result<Outcome> {
    let incoming: Contexts = context::load(file)?;
    if incoming.contexts.is_empty() {
        return Err(Misuse(format!("{} holds no context", file.display())).into());
    }
    let mut contexts = Contexts::load(path)?;
    let names = incoming.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
    merge(&mut contexts, incoming, force).map_err(Misuse)?;
    contexts.save(path)?;
    let current = contexts.current.as_deref().unwrap_or_default();
    output::print(&format!(
        "Merged {names} into {}. The current context is {current}.\n",
        path.display()
    ))?;
    Ok(Outcome::Done)
}

/// Takes contexts in; says why not when one would be lost.
fn merge(contexts: &mut Contexts, incoming: Contexts, force: bool) -> Result<(), String> {
    let current = incoming.current.or_else(|| incoming.contexts.keys().next().cloned());
    for (name, new) in incoming.contexts {
        let merged = match contexts.contexts.get(&name) {
            Some(old) if old.credentials().ca == new.credentials().ca => join(old, &new),
            Some(_) if !force => {
                return Err(format!(
                    "There is a context \"{name}\" with another CA already: another fleet. --force replaces it, and its credentials are lost"
                ));
            }
            Some(_) | None => new,
        };
        contexts.contexts.insert(name, merged);
    }
    contexts.current = current;
    Ok(())
}

/// The nodes of both, and the credentials of the new one.
fn join(old: &Context, new: &Context) -> Context {
    // A node that has moved is known by its name: the new address holds.
    let moved = |node: &Node| new.nodes.iter().any(|other| other.name() == node.name());
    let mut nodes: Vec<Node> = old.nodes.iter().filter(|node| !moved(node)).cloned().collect();
    nodes.extend(new.nodes.iter().cloned());
    Context::new(nodes, new.credentials())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Credentials;

    fn contexts(name: &str, ca: &str, key: &str, nodes: &[&str]) -> Contexts {
        let credentials =
            Credentials { ca: ca.to_owned(), certificate: String::new(), key: key.to_owned() };
        let nodes = nodes.iter().map(|text| Node::parse(text).unwrap()).collect();
        Contexts {
            current: Some(name.to_owned()),
            contexts: [(name.to_owned(), Context::new(nodes, credentials))].into(),
        }
    }

    #[test]
    fn the_same_fleet_grows_and_takes_the_new_credentials() {
        let mut have = contexts("lab", "ca", "old", &["web1=10.0.0.1", "web2=10.0.0.2"]);
        merge(&mut have, contexts("lab", "ca", "new", &["web2=10.0.0.9", "web3=10.0.0.3"]), false)
            .unwrap();
        let lab = &have.contexts["lab"];
        assert_eq!(
            lab.nodes.iter().map(shown).collect::<Vec<_>>(),
            ["web1=10.0.0.1:50000", "web2=10.0.0.9:50000", "web3=10.0.0.3:50000"]
        );
        assert_eq!(lab.credentials().key, "new");
    }

    #[test]
    fn another_fleet_of_the_same_name_is_not_lost_by_accident() {
        let mut have = contexts("lab", "ca", "k", &["a"]);
        let before = have.clone();
        assert!(
            merge(&mut have, contexts("lab", "other", "k", &["b"]), false)
                .unwrap_err()
                .contains("--force")
        );
        assert_eq!(have, before);
        merge(&mut have, contexts("lab", "other", "k", &["b"]), true).unwrap();
        assert_eq!(have.contexts["lab"].credentials().ca, "other");
    }

    #[test]
    fn what_is_merged_becomes_current() {
        let mut have = contexts("lab", "ca", "k", &["a"]);
        merge(&mut have, contexts("prod", "ca2", "k", &["b"]), false).unwrap();
        assert_eq!(have.current.as_deref(), Some("prod"));
        assert_eq!(have.contexts.len(), 2);
    }
}
