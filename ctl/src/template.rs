// SPDX-License-Identifier: Apache-2.0
//! Templates of `-o jsonpath=…`, as kubectl has them: text, and in braces what is to be filled in.
//!
//! * `{.status.state}`: a path, as RFC 9535 has it without its first `$`; what it finds, with spaces between.
//! * `{range .status.addresses[*]}{.}{"\n"}{end}`: the same once for each.
//! * `{"\n"}`: text with escapes.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use serde_json_path::JsonPath;

/// A template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Path(JsonPath),
    Range(JsonPath, Vec<Part>),
}

impl Template {
    /// Reads a template; one without braces is a single path.
    pub(crate) fn parse(text: &str) -> Result<Template> {
        if !text.contains('{') {
            return Ok(Template { parts: vec![Part::Path(path(text)?)] });
        }
        let mut open: Vec<(JsonPath, Vec<Part>)> = Vec::new();
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let (before, tail) = rest.split_at(start);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let end = closing(tail).with_context(|| format!("\"{tail}\" has no closing brace"))?;
            let inside = tail[1..end].trim();
            rest = &tail[end + 1..];
            if inside == "end" {
                let (path, outer) = open.pop().context("{end} without a {range …} before it")?;
                let inner = std::mem::replace(&mut parts, outer);
                parts.push(Part::Range(path, inner));
            } else if let Some(list) = inside.strip_prefix("range ") {
                open.push((path(list)?, std::mem::take(&mut parts)));
            } else if inside.starts_with(['"', '\'']) {
                parts.push(Part::Text(literal(inside)?));
            } else {
                parts.push(Part::Path(path(inside)?));
            }
        }
        if !open.is_empty() {
            bail!("a {{range …}} has no {{end}}");
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// Fills it in. What a path does not find leaves nothing.
    pub(crate) fn fill(&self, value: &Value) -> String {
        let mut text = String::new();
        fill(&self.parts, value, &mut text);
        text
    }
}

fn fill(parts: &[Part], value: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Path(path) => {
                let found: Vec<String> =
                    path.query(value).iter().map(|found| word(found)).collect();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, parts) => {
                for found in path.query(value).iter() {
                    fill(parts, found, text);
                }
            }
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The place of the brace that closes the first one, which is not within quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

fn path(text: &str) -> Result<JsonPath> {
    let text = text.trim();
    let rest = text.strip_prefix(['$', '@']).unwrap_or(text);
    let full = match rest {
        "" | "." => "$".to_owned(),
        _ if rest.starts_with(['.', '[']) => format!("${rest}"),
        _ => format!("$.{rest}"),
    };
    let wrong = |error| anyhow::anyhow!("\"{text}\" is not a JSON path: {error}");
    // kubectl takes .[0] and .[*], the RFC does not.
    JsonPath::parse(&full.replacen("$.[", "$[", 1)).map_err(wrong)
}

fn literal(text: &str) -> Result<String> {
    let inner = text
        .strip_prefix(['"', '\''])
        .and_then(|rest| rest.strip_suffix(['"', '\'']))
        .with_context(|| format!("{text} has no closing quote"))?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some(other)) => out.push(other),
            (other, _) => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn filled(template: &str) -> String {
        let value = json!([
            {"name": "apid", "status": {"state": "running", "pid": 160, "waits": []}},
            {"name": "dhcp-eth0", "status": {"state": "waiting", "waits": ["the link", "time"]}},
        ]);
        Template::parse(template).unwrap().fill(&value)
    }

    #[test]
    fn kubectls_templates_are_understood() {
        for (template, text) in [
            ("{[0].status.state}", "running"),
            ("{.[0].status.state}", "running"),
            (".[*].name", "apid dhcp-eth0"),
            ("[-1:].name", "dhcp-eth0"),
            ("{$[*].status.pid}", "160"),
            ("{[1].status.waits}", "[\"the link\",\"time\"]"),
            ("{..state}", "running waiting"),
            ("{[?(@.status.state == 'waiting')].name}", "dhcp-eth0"),
            ("pid {[0].status['pid']}!", "pid 160!"),
            ("{[*].nothing}", ""),
            (
                "{range [*]}{.name}{\"\\t\"}{.status.state}{'\\n'}{end}",
                "apid\trunning\ndhcp-eth0\twaiting\n",
            ),
            (
                "{range [*]}{.name}:{range .status.waits[*]} {@}{end};{end}",
                "apid:;dhcp-eth0: the link time;",
            ),
            ("{\"}\"}{\"a\\\"b\"}", "}a\"b"),
        ] {
            assert_eq!(filled(template), text, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (template, why) in [
            ("{.a", "closing brace"),
            ("{end}", "without a {range"),
            ("{range .a}", "no {end}"),
            ("{.a[}", "not a JSON path"),
            ("{'a}", "closing brace"),
            ("{'}", "closing brace"),
        ] {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
