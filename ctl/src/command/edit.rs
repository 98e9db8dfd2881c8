// SPDX-License-Identifier: Apache-2.0
//! `ctl edit`: a node's configuration in an editor, checked before it leaves.
//!
//! The text holds no secret: marks stand in their places, and the secrets go back where the marks are found. It is
//! thrown away only once the node has taken it.

use super::{
    active::{self, Kept},
    submit::{self, Base, Options, Refused},
    validate::Source,
};
use crate::{
    app::{Answer, App, Misuse, Outcome, Reach},
    client::Session,
    failure::Failure,
    output::{self, plain},
};
use anyhow::{Context as _, Result};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use stele_config::Finding;
use tempfile::TempDir;
use tonic::Code;

/// Arguments of `ctl edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with a text that an earlier ctl edit has kept
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Refuse if another generation than this one is in force [default: the one that the file's heading names]
    #[arg(long, value_name = "N", requires = "file")]
    base: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// What a line of the text begins with that is of ctl, and goes before the text does.
const NOTE: &str = "## ";

/// A text that is being edited.
#[derive(Debug)]
struct Draft {
    folder: TempDir,
    path: PathBuf,
}

impl Draft {
    /// A text in a folder that is its owner's alone, with the JSON Schema beside it.
    fn new(text: &str) -> Result<Draft> {
        let folder = tempfile::Builder::new()
            .prefix("stele-edit-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .context("Making a folder for the editor")?;
        let schema = folder.path().join("machine.schema.json");
        fs::write(&schema, format!("{:#}\n", stele_config::schema::json()))
            .with_context(|| format!("Writing {}", schema.display()))?;
        let draft = Draft { path: folder.path().join("machine.yaml"), folder };
        draft.write(text)?;
        Ok(draft)
    }

    fn write(&self, text: &str) -> Result<()> {
        fs::write(&self.path, text).with_context(|| format!("Writing {}", self.path.display()))
    }

    /// Lets the user edit it, and returns it without the notes.
    fn edit(&self) -> Result<String> {
        let editor = ["VISUAL", "EDITOR"]
            .into_iter()
            .find_map(|name| env::var(name).ok().filter(|value| !value.trim().is_empty()))
            .unwrap_or_else(|| "vi".to_owned());
        // An editor is a command with options, as git and others have it.
        let status = Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&self.path)
            .status()
            .with_context(|| format!("Starting the editor {editor}"))?;
        if !status.success() {
            anyhow::bail!("The editor {editor} failed: {status}");
        }
        let text = fs::read_to_string(&self.path)
            .with_context(|| format!("Reading {}", self.path.display()))?;
        Ok(without_notes(&text))
    }

    /// Keeps it for another attempt.
    fn keep(self) -> String {
        let _ = self.folder.keep();
        format!("The text is kept. To go on with it: ctl edit -f {}", self.path.display())
    }
}

/// Edits the configuration of a node.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Change)?;
    let [node] = targets.nodes.as_slice() else {
        return Err(
            Misuse("One configuration is edited at a time. Say whose with -n".to_owned()).into()
        );
    };
    let session = targets.connect(node).await?;
    let active =
        Kept::active(&session).await?.context("The node has no configuration to be edited")?;
    active.refuse_redacted()?;
    let original = active.documents.print()?;
    let begin = match &args.file {
        Some(file) => {
            let text = Source::read_text(file)?;
            let base = args.base.or_else(|| active::made_from(text.as_bytes()));
            if let Some(conflict) = conflict(app, &session, file, base, &active).await {
                let answer = Answer { node: node.clone(), result: Err(conflict) };
                return submit::report(app, vec![answer], &args.options, true);
            }
            without_notes(&text)
        }
        None => original,
    };
    drop(session);
    let heading = heading(&node.name(), active.generation.number);
    let draft = Draft::new(&format!("{heading}{begin}"))?;
    let source = match edit(app, &draft, &active, (&heading, &begin)) {
        Ok(Edited::Ready(source)) => source,
        Ok(Edited::Unchanged) if args.file.is_none() => {
            output::print("Nothing was changed.\n")?;
            return Ok(Outcome::Done);
        }
        Ok(Edited::Unchanged) => checked(&active, &begin)?,
        Err(error) => return fail(app, draft, error),
    };
    // Whoever edits takes time: the connection is made anew.
    let result = async {
        let session = targets.connect(node).await?;
        let base = Base { can_be_named: true, ..Base::begun_from(Some(&active)) };
        submit::submit(&session, source, (Some(&active), base), &args.options, app).await
    };
    let result = result.await;
    let kept = (result.is_err() || args.options.dry_run).then(|| draft.keep());
    let outcome =
        submit::report(app, vec![Answer { node: node.clone(), result }], &args.options, true)?;
    if let Some(kept) = kept {
        eprintln!("{kept}");
    }
    Ok(outcome)
}

/// Why a text that was kept would undo what came after the generation that it was made from.
async fn conflict(
    app: &App,
    session: &Session,
    file: &Path,
    base: Option<u64>,
    active: &Kept,
) -> Option<anyhow::Error> {
    let number = base.filter(|base| *base != active.generation.number)?;
    let author = plain(&active.generation.author);
    let why = format!(
        "it was made from generation {number}, and {} by {author} is in force now",
        active.name()
    );
    let failure = Failure {
        code: Some(Code::Aborted),
        ..Failure::new(format!("Going on with {}", file.display()), why, None)
    };
    let base = Base { number, can_be_named: true };
    Some(submit::conflict(session, base, failure, app.paint_error).await)
}

/// What came of editing.
enum Edited {
    Unchanged,
    Ready(Source),
}

/// Lets the user edit until the text is valid, or stays as it was.
fn edit(app: &App, draft: &Draft, active: &Kept, (heading, begin): (&str, &str)) -> Result<Edited> {
    let mut last = begin.to_owned();
    let mut refused = None;
    loop {
        let text = draft.edit()?;
        if text == last {
            return match refused {
                Some(error) => Err(error),
                None => Ok(Edited::Unchanged),
            };
        }
        match checked(active, &text) {
            Ok(source) => return Ok(Edited::Ready(source)),
            Err(error) => {
                if let Some(Refused::Invalid { findings, .. }) = error.downcast_ref() {
                    draft.write(&format!("{heading}{}{text}", notes(findings, heading)))?;
                }
                if let Some(refused) = error.downcast_ref::<Refused>() {
                    refused.render(app);
                }
                refused = Some(error);
            }
        }
        last = text;
    }
}

/// The configuration that a text stands for.
fn checked(active: &Kept, text: &str) -> Result<Source> {
    let bytes = active.documents.restore(text)?.into_bytes();
    let source =
        Source { name: "the edited configuration".to_owned(), bytes, shown: Some(text.to_owned()) };
    let findings = source.findings();
    if findings.is_empty() { Ok(source) } else { Err(Refused::Invalid { source, findings }.into()) }
}

fn fail(app: &App, draft: Draft, error: anyhow::Error) -> Result<Outcome> {
    app.complain(None, &error);
    eprintln!("{}", draft.keep());
    let invalid = error.downcast_ref::<Refused>().is_some();
    Ok(if invalid { Outcome::Invalid } else { Outcome::Failed })
}

fn heading(node: &str, generation: u64) -> String {
    let mark = active::mark(generation);
    format!(
        "# yaml-language-server: $schema=machine.schema.json\n\
         {NOTE}{mark} of {node}. It is sent when the editor ends; unchanged, nothing is.\n\
         {NOTE}(secret …) leaves a secret as it is. Another value in its place is a new secret.\n"
    )
}

/// What is wrong with the text that follows, for its top, below the heading.
fn notes(findings: &[Finding], heading: &str) -> String {
    // The findings count the lines of the text alone.
    let above = u32::try_from(findings.len() + heading.lines().count()).unwrap_or(0) + 1;
    let mut text =
        format!("{NOTE}It is not valid, and was not sent. Unchanged, it is given up, and kept.\n");
    for Finding { line, message, expected, path, .. } in findings {
        let place =
            if *line > 0 { format!("line {}", line + above) } else { "as a whole".to_owned() };
        let path = if path.is_empty() { String::new() } else { format!(", {path}") };
        let note =
            format!("{NOTE}{place}{path}: {message}; expected {expected}").replace('\n', " ");
        text.push_str(&note);
        text.push('\n');
    }
    text
}

fn without_notes(text: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.starts_with(NOTE) && !line.starts_with("# yaml-language-server:"))
        .collect()
}

impl Source {
    /// Reads a file as text.
    fn read_text(path: &Path) -> Result<String> {
        let source = Source::read(&path.to_string_lossy())?;
        String::from_utf8(source.bytes).with_context(|| format!("{} is not UTF-8", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_go_before_the_text_does_and_count_themselves() {
        let finding = Finding {
            document: 1,
            kind: "Link".to_owned(),
            path: "mtu".to_owned(),
            line: 2,
            message: "is text".to_owned(),
            expected: "a number".to_owned(),
            warning: false,
        };
        let body = "kind: Link\nmtu: big\n# a comment of the user\n";
        let heading = heading("web1", 6);
        let text = format!("{heading}{}{body}", notes(&[finding], &heading));
        assert!(text.contains("## line 7, mtu: is text; expected a number\n"), "{text}");
        assert_eq!(text.lines().nth(6), Some("mtu: big"));
        assert_eq!(without_notes(&text), body);
        assert_eq!(active::made_from(text.as_bytes()), Some(6));
    }
}
