// SPDX-License-Identifier: Apache-2.0
//! YAML events to trees.

use crate::node::{Entry, Node, Tree};
use crate::report::{Report, Step, quote};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

/// Most levels of lists and mappings within each other. Documents are flat.
const MAX_DEPTH: usize = 16;

/// Most values of a stream.
pub(super) const MAX_VALUES: usize = 100_000;

/// The rest of the part cannot be read; a finding says why.
struct Stop;

/// Reads the documents of a part of a stream, which `before` lines precede.
pub(super) fn read(
    part: &str,
    before: u32,
    number: &mut u32,
    budget: &mut usize,
    report: &mut Report,
    documents: &mut Vec<(u32, Node)>,
) {
    let lines = u32::try_from(part.lines().count()).unwrap_or(u32::MAX);
    let mut reader = Reader { parser: Parser::new_from_str(part), before, lines, depth: 0, budget };
    loop {
        report.enter(*number);
        match reader.document(report) {
            Ok(None) => return,
            Ok(Some(Node { tree: Tree::Null, .. })) => {}
            // The canonical form is YAML as well: one list of all documents.
            Ok(Some(Node { tree: Tree::List(nodes), .. })) => {
                for node in nodes {
                    documents.push((*number, node));
                    *number += 1;
                }
            }
            Ok(Some(node)) => {
                documents.push((*number, node));
                *number += 1;
            }
            Err(Stop) => {
                documents.push((*number, Node { line: before + 1, tree: Tree::Refused }));
                *number += 1;
                return;
            }
        }
    }
}

struct Reader<'i, 'b> {
    parser: Parser<'i, StrInput<'i>>,
    before: u32,
    lines: u32,
    depth: usize,
    budget: &'b mut usize,
}

impl<'i> Reader<'i, '_> {
    /// The next document; none at the end.
    fn document(&mut self, report: &mut Report) -> Result<Option<Node>, Stop> {
        loop {
            match self.next(report)? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(_), _)) => break,
                Some(_) => {}
            }
        }
        let Some((event, span)) = self.next(report)? else { return Ok(None) };
        self.value(event, span, report).map(Some)
    }

    fn next(&mut self, report: &mut Report) -> Result<Option<(Event<'i>, Span)>, Stop> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let line = self.place(error.marker().line());
                report.find(line, format!("is not YAML: {}", error.info()), "");
                Err(Stop)
            }
        }
    }

    /// The next event within a document, which always has one more.
    fn within(&mut self, report: &mut Report) -> Result<(Event<'i>, Span), Stop> {
        match self.next(report)? {
            Some(event) => Ok(event),
            None => {
                report.find(self.before + 1, "ends in the middle", "a whole document");
                Err(Stop)
            }
        }
    }

    fn line(&self, span: Span) -> u32 {
        self.place(span.start.line())
    }

    /// A line of the part, as one of the stream. What is missing at the end, the parser misses on the line behind it.
    fn place(&self, line: usize) -> u32 {
        self.before.saturating_add(u32::try_from(line).unwrap_or(0).min(self.lines))
    }

    /// The value that begins with this event.
    fn value(&mut self, event: Event<'i>, span: Span, report: &mut Report) -> Result<Node, Stop> {
        let line = self.line(span);
        match self.budget.checked_sub(1) {
            Some(left) => *self.budget = left,
            None => {
                report.find(line, format!("the stream has more than {MAX_VALUES} values"), "fewer");
                return Err(Stop);
            }
        }
        let (anchor, tagged) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (*anchor, tag.is_some())
            }
            _ => (0, false),
        };
        let mut refused = false;
        if anchor != 0 {
            report.find(
                line,
                "has an anchor (&); anchors and aliases are not read",
                "the value itself",
            );
            refused = true;
        }
        if tagged {
            report.find(
                line,
                "has a tag (!); tags are not read",
                "the value alone, in quotes if it is text",
            );
            refused = true;
        }
        let tree = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
            Event::Scalar(text, ..) => Tree::Text(text.into_owned()),
            Event::SequenceStart(..) => self.deeper(line, report, Self::list)?,
            Event::MappingStart(..) => self.deeper(line, report, Self::map)?,
            Event::Alias(_) => {
                report.find(
                    line,
                    "is an alias (*); anchors and aliases are not read",
                    "the value itself",
                );
                Tree::Refused
            }
            _ => {
                report.find(line, "is not YAML: a value is missing", "");
                return Err(Stop);
            }
        };
        Ok(Node { line, tree: if refused { Tree::Refused } else { tree } })
    }

    fn deeper(
        &mut self,
        line: u32,
        report: &mut Report,
        read: impl FnOnce(&mut Self, &mut Report) -> Result<Tree, Stop>,
    ) -> Result<Tree, Stop> {
        if self.depth == MAX_DEPTH {
            report.find(
                line,
                format!("is nested more than {MAX_DEPTH} levels deep"),
                "a flat document",
            );
            return Err(Stop);
        }
        self.depth += 1;
        let tree = read(self, report);
        self.depth -= 1;
        tree
    }

    fn list(&mut self, report: &mut Report) -> Result<Tree, Stop> {
        let mut items = Vec::new();
        loop {
            match self.within(report)? {
                (Event::SequenceEnd, _) => return Ok(Tree::List(items)),
                (event, span) => {
                    let item = report.within(Step::Item(items.len()), |report| {
                        self.value(event, span, report)
                    })?;
                    items.push(item);
                }
            }
        }
    }

    fn map(&mut self, report: &mut Report) -> Result<Tree, Stop> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.within(report)?;
            if event == Event::MappingEnd {
                return Ok(Tree::Map(entries));
            }
            let line = self.line(span);
            let plain_key = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.value(event, span, report)?;
            let name = match &key.tree {
                Tree::Text(name) => name.clone(),
                Tree::Refused => String::new(),
                other => {
                    report.find(line, format!("a key {}", other.describe()), "text as a key");
                    String::new()
                }
            };
            let (event, span) = self.within(report)?;
            let mut value = report.at(&name, |report| self.value(event, span, report))?;
            if matches!(value.tree, Tree::Text(_)) {
                // Of a block of text, the parser knows where its first line is; people look for its key.
                value.line = line;
            }
            if plain_key && name == "<<" {
                report.find(
                    line,
                    "has a merge key (<<), which is not read",
                    "each key in its place",
                );
            } else if !name.is_empty() {
                entries.push(Entry { key: name, line, value });
            } else if matches!(key.tree, Tree::Text(_)) {
                report.find(line, format!("a key is {}", quote("")), "text as a key");
            }
        }
    }
}

/// What an unquoted scalar is (YAML 1.2.2, core schema). `on`, `yes` and `1_000` are text; numbers in any other form
/// than the plain decimal one are numbers that nothing here takes, so that whoever means text puts them in quotes.
fn plain(text: &str) -> Tree {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Tree::Null,
        "true" | "True" | "TRUE" => return Tree::Boolean(true),
        "false" | "False" | "FALSE" => return Tree::Boolean(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    match text.parse() {
        Ok(value) if decimal && !leading_zero => return Tree::Integer(value),
        Ok(_) | Err(_) => {}
    }
    if is_number(text) { Tree::Number(text.to_owned()) } else { Tree::Text(text.to_owned()) }
}

/// Any number of the core schema: `0644`, `0x1f`, `1e3`, `.5`, `-.inf`.
fn is_number(text: &str) -> bool {
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0o", 8) || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(rest, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
        }
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}
