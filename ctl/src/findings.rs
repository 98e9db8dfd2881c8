// SPDX-License-Identifier: Apache-2.0
//! Findings about a configuration, shown as a compiler shows errors.

use crate::output::{Paint, plain};
use std::fmt::Write as _;
use stele_config::Finding;

/// A finding as the API carries it.
pub(crate) fn from_wire(finding: stele_proto::v1::Finding) -> Finding {
    let stele_proto::v1::Finding { document, kind, path, line, message, expected, warning } =
        finding;
    Finding { document, kind, path, line, message, expected, warning }
}

/// All findings, with the lines that they are about.
pub(crate) fn render(findings: &[Finding], name: &str, source: &str, paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        one(&mut text, finding, name, source, paint);
    }
    text
}

/// Whether it keeps the configuration from being taken.
pub(crate) fn is_error(finding: &&Finding) -> bool {
    !finding.warning
}

/// How many keep the configuration from being taken, in words.
pub(crate) fn count(findings: &[Finding], name: &str) -> String {
    match findings.iter().filter(is_error).count() {
        1 => format!("1 thing is wrong with {name}"),
        many => format!("{many} things are wrong with {name}"),
    }
}

fn one(text: &mut String, finding: &Finding, name: &str, source: &str, paint: Paint) {
    let bad = if finding.warning { paint.yellow("warning") } else { paint.red("error") };
    let _ = writeln!(text, "{bad}: {}", plain(&finding.message));
    let mut place = name.to_owned();
    if finding.line > 0 {
        let _ = write!(place, ":{}", finding.line);
    }
    match (finding.document, finding.kind.as_str()) {
        (0, "") => {}
        (0, kind) => place.push_str(&format!(", {}", plain(kind))),
        (document, "") => place.push_str(&format!(", document {document}")),
        (document, kind) => place.push_str(&format!(", document {document} ({})", plain(kind))),
    }
    if !finding.path.is_empty() {
        let _ = write!(place, ", {}", plain(&finding.path));
    }
    let number = if finding.line > 0 { finding.line.to_string() } else { String::new() };
    let indent = " ".repeat(number.len());
    let _ = writeln!(text, "{indent} {} {place}", paint.blue("-->"));
    let line = finding
        .line
        .checked_sub(1)
        .and_then(|index| source.lines().nth(index as usize))
        .filter(|line| !line.trim().is_empty());
    if let Some(line) = line {
        let _ = writeln!(text, "{indent} {}", paint.blue("|"));
        let _ = writeln!(text, "{} {} {}", paint.blue(&number), paint.blue("|"), cut(&plain(line)));
        let _ = writeln!(text, "{indent} {}", paint.blue("|"));
    }
    if !finding.expected.is_empty() {
        let _ =
            writeln!(text, "{indent} {} expected {}", paint.blue("="), plain(&finding.expected));
    }
    text.push('\n');
}

/// A line short enough to read.
fn cut(line: &str) -> String {
    const MOST: usize = 100;
    match line.char_indices().nth(MOST) {
        Some((index, _)) => format!("{}…", &line[..index]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_finding_reads_like_a_compiler_error() {
        let findings = [
            Finding {
                document: 2,
                kind: "Link".to_owned(),
                path: "addresses[1]".to_owned(),
                line: 3,
                message: "\"10.0.0.5/33\" is not an address".to_owned(),
                expected: "an address with a prefix length, such as 10.0.0.5/24".to_owned(),
                warning: false,
            },
            Finding {
                document: 0,
                kind: String::new(),
                path: String::new(),
                line: 0,
                message: "there is no Identity".to_owned(),
                expected: String::new(),
                warning: false,
            },
        ];
        let source = "kind: Link\naddresses:\n- 10.0.0.5/33\n";
        expect![[r#"
            error: "10.0.0.5/33" is not an address
              --> machine.yaml:3, document 2 (Link), addresses[1]
              |
            3 | - 10.0.0.5/33
              |
              = expected an address with a prefix length, such as 10.0.0.5/24

            error: there is no Identity
             --> machine.yaml

        "#]]
        .assert_eq(&render(&findings, "machine.yaml", source, Paint::new(false)));
    }

    #[test]
    fn a_line_beyond_the_source_and_a_very_long_one_do_no_harm() {
        let finding = Finding {
            document: 1,
            kind: String::new(),
            path: String::new(),
            line: 9,
            message: "x\x1b[2J".to_owned(),
            expected: String::new(),
            warning: false,
        };
        assert!(
            !render(std::slice::from_ref(&finding), "f", "a\n", Paint::new(false)).contains('\x1b')
        );
        let long = "é".repeat(5000);
        let shown = render(&[Finding { line: 1, ..finding }], "f", &long, Paint::new(false));
        assert!(shown.chars().count() < 300);
    }
}
