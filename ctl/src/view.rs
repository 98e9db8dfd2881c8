// SPDX-License-Identifier: Apache-2.0
//! How resources are printed: as any answer, and in the two ways that only resources have.

use crate::{
    app::{Answer, App, Outcome},
    output::{self, Format},
    template::Template,
};
use anyhow::Result;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use serde_json::Value;
use std::ffi::OsStr;

/// How to print resources.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// As any answer.
    Plain(Format),
    /// A table with all there is.
    Wide,
    /// A template, filled in with what would be printed as JSON.
    Template(Template),
}

/// In which form to print resources.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ViewArg {
    /// How to print: table, wide, json, yaml or jsonpath=TEMPLATE
    #[arg(short, long, default_value = "table", value_parser = Formats, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) output: View,
}

/// Reads a format, and knows them all for those who complete it.
#[derive(Clone, Copy, Debug)]
struct Formats;

impl TypedValueParser for Formats {
    type Value = View;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<View, clap::Error> {
        let parser = StringValueParser::new().try_map(|text| View::parse(&text));
        parser.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            ["table", "wide", "json", "yaml", "jsonpath="].into_iter().map(PossibleValue::new),
        ))
    }
}

impl View {
    fn parse(text: &str) -> Result<View, String> {
        match text.split_once('=') {
            Some(("jsonpath", template)) => {
                Template::parse(template).map(View::Template).map_err(|error| error.to_string())
            }
            None if text == "wide" => Ok(View::Wide),
            Some(_) | None => {
                <Format as clap::ValueEnum>::from_str(text, false).map(View::Plain).map_err(|_| {
                    "the formats are table, wide, json, yaml and jsonpath=TEMPLATE".to_owned()
                })
            }
        }
    }

    /// True for tables.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, View::Plain(Format::Table) | View::Wide)
    }

    /// True for tables with all there is.
    pub(crate) fn is_wide(&self) -> bool {
        matches!(self, View::Wide)
    }

    /// Prints answers: one as it is, several by node.
    pub(crate) fn print_values(&self, app: &App, answers: Vec<Answer<Value>>) -> Result<Outcome> {
        let template = match self {
            View::Template(template) => template,
            View::Plain(format) => return app.print_values(*format, answers),
            View::Wide => return app.print_values(Format::Json, answers),
        };
        let many = answers.len() > 1;
        let (good, outcome) = app.sort(answers);
        for (node, value) in good {
            let text = output::plain_lines(&template.fill(&value));
            for line in text.lines() {
                let name = if many { format!("{}  ", node.name()) } else { String::new() };
                output::print(&format!("{name}{line}\n"))?;
            }
        }
        Ok(outcome)
    }

    /// Prints one of a stream of values.
    pub(crate) fn print_event(&self, value: &Value) -> Result<()> {
        match self {
            View::Plain(format) => output::print_event(*format, value),
            View::Wide => output::print_event(Format::Json, value),
            View::Template(template) => {
                let text = output::plain_lines(&template.fill(value));
                output::print(&format!("{}\n", text.trim_end_matches('\n')))
            }
        }
    }
}
