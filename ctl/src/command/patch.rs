// SPDX-License-Identifier: Apache-2.0
//! `ctl patch`: changes some documents of a node's configuration, and leaves the rest as it is.

use super::{
    active::Kept,
    submit::{self, Base, Options},
    validate::Source,
};
use crate::{
    app::{App, Misuse, Outcome, Reach},
    patch,
};
use anyhow::{Context as _, Result};

/// Arguments of `ctl patch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The patch
    #[arg(short, long, value_name = "PATCH", required_unless_present = "file")]
    patch: Option<String>,
    /// The file with the patch; - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "patch")]
    file: Option<String>,
    /// How the patch is meant
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    kind: Kind,
    #[command(flatten)]
    options: Options,
}

/// How a patch is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Documents, merged into those of the same kind and name.
    #[default]
    Strategic,
    /// Operations of RFC 6902.
    Json,
}

/// Patches the configuration of each node.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let text = match (args.patch, args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => {
            String::from_utf8(Source::read(&file)?.bytes).context("The patch is not UTF-8")?
        }
        (None, None) => return Err(Misuse("Which patch?".to_owned()).into()),
    };
    let targets = app.targets(Reach::Change)?;
    let (kind, here, how) = (args.kind, app.clone(), args.options.clone());
    let answers = targets
        .each(move |session| {
            let (text, app, options) = (text.clone(), here.clone(), how.clone());
            async move {
                let active = Kept::active(&session)
                    .await?
                    .context("The node has no configuration to be patched")?;
                active.refuse_redacted()?;
                let mut documents = active.documents.clone();
                match kind {
                    Kind::Strategic => patch::merge(&mut documents, &text),
                    Kind::Json => patch::operations(&mut documents, &text),
                }
                .map_err(|error| Misuse(format!("{error:#}")))?;
                let shown = documents.print()?;
                let source = Source {
                    name: "the patched configuration".to_owned(),
                    bytes: documents.restore(&shown)?.into(),
                    shown: Some(shown),
                };
                let base = Base::begun_from(Some(&active));
                submit::submit(&session, source, (Some(&active), base), &options, &app).await
            }
        })
        .await;
    submit::report(app, answers, &args.options, true)
}
