// SPDX-License-Identifier: Apache-2.0
//! `ctl apply-config`.

use super::{
    active::{self, Kept},
    submit::{self, Base, Options, Refused, Submitted},
    validate::Source,
};
use crate::{
    app::{self, App, Misuse, Outcome, Reach, Targets},
    context::{self, Contexts},
    failure::Approach,
    tls::{self, Fingerprint},
};
use anyhow::Result;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use stele_config::yaml;

/// Arguments of `ctl apply-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// The node is in maintenance mode and knows no client yet; needs --fingerprint
    #[arg(long)]
    insecure: bool,
    /// The SHA-256 of the node's certificate, as on its console: SHA256:… or hexadecimal digits
    #[arg(long, requires = "insecure", value_name = "SHA256:…")]
    fingerprint: Option<Fingerprint>,
    /// Refuse if another generation than this one is in force [default: the one that the file's heading names, as ctl get
    /// config writes it, or else the one that is when ctl begins]
    #[arg(long, value_name = "N", conflicts_with = "insecure")]
    base: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// Checks a configuration here, then sends it.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let source = Source::read(&args.file)?;
    let findings = source.findings();
    if !findings.is_empty() {
        let refused = Refused::Invalid { source, findings };
        refused.render(app);
        return Err(Misuse(refused.to_string()).into());
    }
    let targets = if args.insecure {
        maintenance(app, args.fingerprint).await?
    } else {
        app.targets(Reach::Change)?
    };
    if targets.are_many() {
        return Err(Misuse(
            "A configuration is of one machine: its Identity is its own. Say which with -n"
                .to_owned(),
        )
        .into());
    }
    let (insecure, given, options) = (args.insecure, args.base, args.options);
    let (here, how) = (app.clone(), options.clone());
    let answers = targets
        .each(move |session| {
            let (source, app, options) = (source.clone(), here.clone(), how.clone());
            async move {
                // A node in maintenance mode has nothing to compare with.
                let active = if insecure { None } else { Kept::readable(&session).await? };
                let base = base(given, &source, active.as_ref())?;
                submit::submit(&session, source, (active.as_ref(), base), &options, &app).await
            }
        })
        .await;
    for submitted in answers.iter().filter_map(|answer| answer.result.as_ref().ok()) {
        if let Err(error) = keep_heading(submitted) {
            let name = &submitted.source.name;
            eprintln!("warning: {name} still says which generation it was made from: {error:#}");
        }
    }
    let with_difference = options.dry_run && !insecure;
    submit::report(app, answers, &options, with_difference)
}

/// A file whose heading names the generation that it was made from is of the one that it became: the next change of it is made from
/// that.
fn keep_heading(submitted: &Submitted) -> Result<()> {
    let Submitted { source, response, .. } = submitted;
    let path = Path::new(&source.name);
    let anew = (response.generation.as_ref())
        .and_then(|generation| active::made_anew(&source.bytes, generation.number));
    // Standard input is no file; and whoever writes to it at this moment has the word.
    let unchanged = || fs::read(path).is_ok_and(|bytes| bytes == source.bytes);
    match anew.filter(|_| unchanged()) {
        Some(text) => {
            let mode = fs::metadata(path)?.permissions().mode() & 0o777;
            context::write_file(path, text.as_bytes(), mode)
        }
        None => Ok(()),
    }
}

/// The generation that a configuration was made from.
fn base(given: Option<u64>, source: &Source, active: Option<&Kept>) -> Result<Base> {
    let begun = Base { can_be_named: true, ..Base::begun_from(active) };
    let heading = active::made_from(&source.bytes);
    let Some(number) = given.or(heading) else { return Ok(begun) };
    // What is in force already overwrites nothing: a file is applied twice, or another one has applied the same.
    let same = match (active, yaml::parse(&source.bytes)) {
        (Some(active), Ok(config)) if given.is_none() => active.is(&config)?,
        _ => false,
    };
    Ok(if same { begun } else { Base { number, ..begun } })
}

/// The one node in maintenance mode, by its fingerprint.
async fn maintenance(app: &App, fingerprint: Option<Fingerprint>) -> Result<Targets> {
    let path = Contexts::path(app.global.config.as_deref())?;
    let contexts = Contexts::load(&path)?;
    let selected = contexts.select(app.global.context.as_deref(), &path).ok();
    let nodes = app::choose(&app.global.nodes, selected, Reach::Look)?;
    let [node] = nodes.as_slice() else {
        return Err(
            Misuse("--insecure is for one node at a time: say which with -n".to_owned()).into()
        );
    };
    let (tls, pin) = tls::pinned(fingerprint)?;
    let targets = Targets {
        nodes: nodes.clone(),
        tls,
        approach: Approach::Pinned,
        deadlines: app.deadlines(),
    };
    // Whether it is the right node is known before anything is sent to it.
    let Err(failure) = targets.connect(node).await else { return Ok(targets) };
    let Some(presented) = pin.presented() else { return Err(failure.into()) };
    let (address, shown) = (node.address(), presented.fingerprint);
    match fingerprint {
        _ if presented.configured => Err(anyhow::anyhow!(
            "{address} is not in maintenance mode: it is configured already. Nothing was sent\n  \
             Leave --insecure and --fingerprint away, and use its context"
        )),
        None => Err(Misuse(format!(
            "--insecure needs --fingerprint: a configuration holds a private key, and goes to no one unknown\n  \
             {address} has the fingerprint {shown}\n  \
             If the node's own console shows the same, add: --fingerprint {shown}"
        ))
        .into()),
        Some(expected) if expected != shown => Err(anyhow::anyhow!(
            "{address} is not the node that was meant. Nothing was sent\n  expected  {expected}\n  presented {shown}\n  \
             Compare with the node's console. A node that has started again in maintenance mode has a new certificate"
        )),
        Some(_) => Err(failure.into()),
    }
}
