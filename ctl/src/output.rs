// SPDX-License-Identifier: Apache-2.0
//! What goes to standard output: tables for people, JSON and YAML for programs.
//!
//! Text that comes from a node is shown without its control characters: it may have come from a stranger, and a
//! terminal obeys what it is sent.

use anyhow::Result;
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write as _},
};

/// In which form to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; one value, or one a line where something is followed.
    Json,
    /// For both.
    Yaml,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours if `on`.
    pub(crate) fn new(on: bool) -> Paint {
        Paint { on }
    }

    /// True for colours.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For what is wrong.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// For what is well.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("1;32", text)
    }

    /// For what is odd.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    /// For scaffolding.
    pub(crate) fn blue(self, text: &str) -> String {
        self.wrap("1;34", text)
    }

    /// For headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
}

/// Text without what a terminal would obey.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The same for text of several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Writes to standard output; an error is the reader having gone.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints one value.
pub(crate) fn print_value(format: Format, value: &Value) -> Result<()> {
    print(&match format {
        Format::Yaml => serde_yaml::to_string(value)?,
        Format::Json | Format::Table => format!("{}\n", serde_json::to_string_pretty(value)?),
    })
}

/// Prints one of a stream of values: a line of JSON, or a YAML document.
pub(crate) fn print_event(format: Format, value: &Value) -> Result<()> {
    print(&match format {
        Format::Yaml => format!("---\n{}", serde_yaml::to_string(value)?),
        Format::Json | Format::Table => format!("{value}\n"),
    })
}

/// A table: columns as wide as they must be, two spaces between them, nothing around it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Table {
        Table { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cell = |cell: T| {
            let cell = cell.into();
            if cell.is_empty() { "-".to_owned() } else { plain(&cell).into_owned() }
        };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// The width of each column.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.header]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.header.len()).map(width).collect()
    }

    /// The table as text.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let widths = self.widths();
        let mut text = String::new();
        if self.header.iter().any(|heading| !heading.is_empty()) {
            text.push_str(&paint.bold(line(&self.header, &widths).trim_end()));
            text.push('\n');
        }
        text.push_str(&self.render_rows(&widths));
        text
    }

    /// The rows alone, in columns of these widths.
    pub(crate) fn render_rows(&self, widths: &[usize]) -> String {
        self.rows.iter().fold(String::new(), |text, row| text + line(row, widths).trim_end() + "\n")
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect()
}

/// A protobuf value as JSON; whole numbers without a fraction.
pub(crate) fn json(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::StringValue(value)) => Value::String(value.clone()),
        Some(Kind::NumberValue(value)) => number(*value),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(json).collect()),
        Some(Kind::StructValue(value)) => Value::Object(json_object(value)),
    }
}

/// A protobuf object as JSON.
pub(crate) fn json_object(value: &prost_types::Struct) -> Map<String, Value> {
    value.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: what a double counts without a gap
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Value::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// The field at a dotted path, as a cell of a table.
pub(crate) fn cell(value: &Value, path: &str) -> String {
    let field = path.split('.').try_fold(value, |value, part| match value {
        Value::Array(list) => part.parse::<usize>().ok().and_then(|index| list.get(index)),
        _ => value.get(part),
    });
    field.map(words).unwrap_or_default()
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| format!("{key}={}", words(value)))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_table_has_columns_and_no_trailing_space() {
        let mut table = Table::new(["NAME", "STATE", "ADDRESSES"]);
        table.row(["apid", "Running", "10.0.0.5/24"]);
        table.row(["dhcp-eth0", "", "é"]);
        expect![[r#"
            NAME       STATE    ADDRESSES
            apid       Running  10.0.0.5/24
            dhcp-eth0  -        é
        "#]]
        .assert_eq(&table.render(Paint::new(false)));
    }

    #[test]
    fn cells_come_from_dotted_paths() {
        let status = json!({"address": {"v4": ["10.0.0.5/24", "10.0.0.6/24"]}, "up": true, "mtu": 1500, "none": null});
        for (path, text) in [
            ("address.v4", "10.0.0.5/24, 10.0.0.6/24"),
            ("address.v4.1", "10.0.0.6/24"),
            ("up", "true"),
            ("mtu", "1500"),
            ("none", ""),
            ("no.such", ""),
            ("address", "v4=10.0.0.5/24, 10.0.0.6/24"),
        ] {
            assert_eq!(cell(&status, path), text, "{path}");
        }
    }

    #[test]
    fn whole_numbers_stay_whole() {
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(-7.0).to_string(), "-7");
        assert_eq!(number(0.5).to_string(), "0.5");
        assert_eq!(number(f64::NAN), Value::Null);
    }

    #[test]
    fn a_terminal_is_not_commanded_by_a_node() {
        assert_eq!(plain("a\x1b[31mb\nc\td"), "a\\u{1b}[31mb\\nc\td");
        assert!(matches!(plain("plain"), Cow::Borrowed(_)));
        let mut table = Table::new(["A"]);
        table.row(["\x1b]0;title\x07"]);
        assert!(!table.render(Paint::new(false)).contains('\x1b'));
    }
}
