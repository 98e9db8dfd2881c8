// SPDX-License-Identifier: Apache-2.0
//! `ctl validate` and `ctl schema`: all that can be said of a configuration without a node.

use crate::{
    app::{App, FormatArg, Misuse, Outcome},
    findings,
    output::{self, Format, Paint},
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};
use stele_config::{
    Finding, MAX_BYTES, services,
    yaml::{self, Located},
};

/// Arguments of `ctl validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    #[command(flatten)]
    format: FormatArg,
}

/// A configuration and what it is called in messages.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file's name.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What to show of it, if its bytes hold secrets that the user has not put there.
    pub(crate) shown: Option<String>,
}

impl Source {
    /// Reads a file, or standard input for `-`.
    pub(crate) fn read(file: &str) -> Result<Source> {
        // A byte more than is allowed is enough to say that it is too much.
        let most = MAX_BYTES as u64 + 1;
        let mut bytes = Vec::new();
        let name = if file == "-" {
            io::stdin()
                .lock()
                .take(most)
                .read_to_end(&mut bytes)
                .context("Reading standard input")?;
            "(standard input)".to_owned()
        } else {
            let mut open = || fs::File::open(Path::new(file))?.take(most).read_to_end(&mut bytes);
            open().map_err(|error| Misuse(format!("Reading {file}: {error}")))?;
            file.to_owned()
        };
        Ok(Source { name, bytes, shown: None })
    }

    /// Everything that is wrong with it.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        yaml::parse(&self.bytes).err().unwrap_or_default()
    }

    /// The same, and what an image of this version could not do of it.
    fn findings_for_image(&self) -> Vec<Finding> {
        match yaml::locate(&self.bytes) {
            Ok(Located { config, places }) => places.find(services::unknown(&config)),
            Err(findings) => findings,
        }
    }

    /// Findings with the lines that they are about.
    pub(crate) fn render(&self, findings: &[Finding], paint: Paint) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = self.shown.as_deref().unwrap_or(&text);
        findings::render(findings, &self.name, text, paint)
    }
}

/// Checks a configuration.
pub(crate) fn run(app: &App, args: &Args) -> Result<Outcome> {
    let source = Source::read(&args.file)?;
    let findings = source.findings_for_image();
    let valid = !findings.iter().any(|finding| findings::is_error(&finding));
    if args.format.output != Format::Table {
        output::print_value(args.format.output, &serde_json::to_value(&findings)?)?;
    } else {
        output::print(&source.render(&findings, app.paint))?;
        let result = match valid {
            true => format!("{} is valid", source.name),
            false => findings::count(&findings, &source.name),
        };
        output::print(&format!("{result}.\n"))?;
    }
    Ok(if valid { Outcome::Done } else { Outcome::Invalid })
}

/// Prints the JSON Schema.
pub(crate) fn schema() -> Result<Outcome> {
    output::print_value(Format::Json, &stele_config::schema::json())?;
    Ok(Outcome::Done)
}
