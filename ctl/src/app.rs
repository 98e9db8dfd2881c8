// SPDX-License-Identifier: Apache-2.0
//! What every command has: the global options, the nodes that are meant, and many of them at once.

use crate::{
    client::{Deadlines, Session},
    context::{self, Context, Contexts, Credentials},
    failure::{Approach, Failure},
    findings,
    node::Node,
    output::{self, Format, Paint},
    pki, span, tls,
};
use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use std::{
    fmt,
    future::Future,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;
use tokio::task::{JoinSet, LocalSet};

/// Options that every command takes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The client configuration [default: $XDG_CONFIG_HOME/stele/config.yaml]
    #[arg(long, global = true, value_name = "FILE", env = "STELE_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// The context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME", env = "STELE_CONTEXT", hide_env_values = true)]
    pub(crate) context: Option<String>,
    /// The nodes to talk to: HOST, HOST:PORT, [IPv6]:PORT, NAME=ADDRESS, or "all" of the context; several with commas
    #[arg(short, long, global = true, value_name = "NODE,…", value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
    /// How long to wait for a connection and for an answer [default: 10s, 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = span::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// No colours; so does a non-empty NO_COLOR
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// In which form to print.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FormatArg {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All was done.
    Done,
    /// Some or all of it failed; what, has been said.
    Failed,
    /// What was given is not valid; what, has been said.
    Invalid,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Invalid => 2,
        })
    }
}

/// A mistake in how ctl was called, rather than in what it met.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Whether a command changes nodes, and so wants them named when there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All nodes of the context will do.
    Look,
    /// Several nodes only if they were named.
    Change,
}

/// What one node answered.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// Which node.
    pub(crate) node: Node,
    /// What it answered.
    pub(crate) result: Result<T>,
}

/// What every command has.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// The global options.
    pub(crate) global: Global,
    /// Colours on standard output.
    pub(crate) paint: Paint,
    /// Colours on standard error.
    pub(crate) paint_error: Paint,
}

/// The nodes that are meant, and how to approach them.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// TLS to them.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// With what they are approached.
    pub(crate) approach: Approach,
    /// How long to wait for them.
    pub(crate) deadlines: Deadlines,
}

impl Targets {
    /// Connects to one node.
    pub(crate) async fn connect(&self, node: &Node) -> Result<Session, Failure> {
        Session::connect(node, Arc::clone(&self.tls), self.approach, self.deadlines).await
    }

    /// True if output has to say which node it is from.
    pub(crate) fn are_many(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Does the same with every node at once. Answers come in the order of the nodes.
    pub(crate) async fn each<T, F, Fut>(&self, work: F) -> Vec<Answer<T>>
    where
        T: 'static,
        F: Fn(Session) -> Fut + Clone + 'static,
        Fut: Future<Output = Result<T>>,
    {
        self.each_node(move |targets, node| {
            let work = work.clone();
            async move { work(targets.connect(&node).await?).await }
        })
        .await
    }

    /// The same, for work that connects by itself.
    pub(crate) async fn each_node<T, F, Fut>(&self, work: F) -> Vec<Answer<T>>
    where
        T: 'static,
        F: Fn(Targets, Node) -> Fut,
        Fut: Future<Output = Result<T>> + 'static,
    {
        // The work of all nodes shares this thread; their connections are on others.
        let local = LocalSet::new();
        let mut tasks = JoinSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let work = work(self.clone(), node.clone());
            tasks.spawn_local_on(async move { (index, work.await) }, &local);
        }
        let mut results: Vec<Option<Result<T>>> = self.nodes.iter().map(|_| None).collect();
        let all = async {
            while let Some(done) = tasks.join_next().await {
                if let Ok((index, result)) = done {
                    results[index] = Some(result);
                }
            }
        };
        local.run_until(all).await;
        let lost = || Err(anyhow::anyhow!("the work for this node ended early"));
        self.nodes
            .iter()
            .cloned()
            .zip(results)
            .map(|(node, result)| Answer { node, result: result.unwrap_or_else(lost) })
            .collect()
    }
}

/// Whether a reader has seen enough and gone, as in `ctl logs | head`, which is nobody's failure.
pub(crate) fn is_gone(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl App {
    /// From the global options and the surroundings.
    pub(crate) fn new(global: Global) -> App {
        let wanted =
            !global.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let paint = Paint::new(wanted && io::stdout().is_terminal());
        let paint_error = Paint::new(wanted && io::stderr().is_terminal());
        App { global, paint, paint_error }
    }

    /// How long to wait for nodes.
    pub(crate) fn deadlines(&self) -> Deadlines {
        let given = self.global.timeout;
        Deadlines {
            connect: given.unwrap_or(Duration::from_secs(10)),
            answer: given.unwrap_or(Duration::from_secs(30)),
        }
    }

    /// The nodes that a command is for, with the credentials of the context.
    pub(crate) fn targets(&self, reach: Reach) -> Result<Targets> {
        let path = Contexts::path(self.global.config.as_deref())?;
        let contexts = Contexts::load(&path)?;
        let (name, context) = contexts
            .select(self.global.context.as_deref(), &path)
            .map_err(|error| Misuse(error.to_string()))?;
        context::warn_if_open(&path);
        let credentials = context.credentials();
        check_lifetime(name, &credentials, OffsetDateTime::now_utc())?;
        let nodes = choose(&self.global.nodes, Some((name, context)), reach)?;
        let tls = tls::mutual(&credentials)
            .with_context(|| format!("In context \"{name}\" of {}", path.display()))?;
        Ok(Targets { nodes, tls, approach: Approach::Mutual, deadlines: self.deadlines() })
    }

    /// Says on standard error what went wrong, for people.
    pub(crate) fn complain(&self, node: Option<&Node>, error: &anyhow::Error) {
        let name = node.map(|node| format!("{}: ", node.name())).unwrap_or_default();
        if let Some(failure) =
            error.downcast_ref::<Failure>().filter(|failure| !failure.findings.is_empty())
        {
            let paint = self.paint_error;
            eprint!(
                "{}",
                findings::render(&failure.findings, &format!("{name}the configuration"), "", paint)
            );
        }
        eprintln!(
            "{}: {name}{}",
            self.paint_error.red("error"),
            output::plain_lines(&format!("{error:#}"))
        );
    }

    /// Complains of the nodes that failed, and hands over the answers of the others.
    pub(crate) fn sort<T>(&self, answers: Vec<Answer<T>>) -> (Vec<(Node, T)>, Outcome) {
        let mut outcome = Outcome::Done;
        let mut good = Vec::new();
        for Answer { node, result } in answers {
            match result {
                Ok(value) => good.push((node, value)),
                Err(error) => {
                    self.complain(Some(&node), &error);
                    outcome = Outcome::Failed;
                }
            }
        }
        (good, outcome)
    }

    /// How streams that were printed as they came have ended.
    pub(crate) fn sort_streams(&self, answers: Vec<Answer<()>>) -> Outcome {
        if answers.iter().any(|answer| answer.result.as_ref().is_err_and(is_gone)) {
            return Outcome::Done;
        }
        self.sort(answers).1
    }

    /// Prints answers as JSON or YAML: one as it is, several as an object by node, with the failed ones' errors in it.
    pub(crate) fn print_values(
        &self,
        format: Format,
        answers: Vec<Answer<Value>>,
    ) -> Result<Outcome> {
        let many = answers.len() > 1;
        let mut values = Map::new();
        let mut outcome = Outcome::Done;
        for Answer { node, result } in answers {
            let value = result.unwrap_or_else(|error| {
                self.complain(Some(&node), &error);
                outcome = Outcome::Failed;
                serde_json::json!({ "error": format!("{error:#}") })
            });
            values.insert(node.name(), value);
        }
        match (many, values) {
            (true, values) => output::print_value(format, &Value::Object(values))?,
            (false, values) if outcome == Outcome::Done => {
                for value in values.values() {
                    output::print_value(format, value)?;
                }
            }
            (false, _) => {}
        }
        Ok(outcome)
    }
}

/// An expired certificate is refused by the node without a word about which; here it can be told.
fn check_lifetime(context: &str, credentials: &Credentials, now: OffsetDateTime) -> Result<()> {
    let summary = pki::read_certificate(&credentials.certificate)
        .with_context(|| format!("In context \"{context}\""))?;
    let renew = "A new one: ctl gen client --secrets secrets.yaml, then ctl config merge";
    if summary.not_after <= now {
        let ago = (now - summary.not_after).unsigned_abs();
        return Err(Misuse(format!(
            "The client certificate of context \"{context}\" ({}, {}) expired {} ago, on {}\n  {renew}",
            summary.name,
            summary.role,
            span::format_duration(ago),
            span::format_moment(summary.not_after),
        ))
        .into());
    }
    if summary.not_before > now {
        return Err(Misuse(format!(
            "The client certificate of context \"{context}\" is not valid before {}\n  Is the clock here right? It says {}",
            span::format_moment(summary.not_before),
            span::format_moment(now),
        ))
        .into());
    }
    Ok(())
}

/// The nodes that are meant: those that were named, or the context's.
pub(crate) fn choose(
    named: &[String],
    context: Option<(&str, &Context)>,
    reach: Reach,
) -> Result<Vec<Node>> {
    let known = context.map(|(_, context)| context.nodes.as_slice()).unwrap_or_default();
    let mut nodes: Vec<Node> = Vec::new();
    for text in named.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let mut meant: Vec<Node> = if text == "all" && !known.is_empty() {
            known.to_vec()
        } else {
            known.iter().filter(|node| node.is_meant_by(text)).cloned().collect()
        };
        if meant.is_empty() {
            meant.push(Node::parse(text).map_err(|error| Misuse(error.to_string()))?);
        }
        for node in meant {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    if !nodes.is_empty() {
        return Ok(nodes);
    }
    let name = context.map(|(name, _)| name).unwrap_or_default();
    if known.is_empty() {
        let place = if name.is_empty() {
            String::new()
        } else {
            format!(", and context \"{name}\" names none")
        };
        return Err(Misuse(format!(
            "Which node? None was given{place}. Say it with -n, such as -n 10.0.0.5"
        ))
        .into());
    }
    if reach == Reach::Change && known.len() > 1 {
        let names = known.iter().map(Node::name).collect::<Vec<_>>().join(",");
        return Err(Misuse(format!(
            "Context \"{name}\" has {} nodes, and this changes them. Say which are meant: -n {names}, or -n all",
            known.len()
        ))
        .into());
    }
    Ok(known.to_vec())
}

#[cfg(test)]
mod tests;
