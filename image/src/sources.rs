// SPDX-License-Identifier: Apache-2.0
//! Where this machine gets Debian from: its apt sources, in both of their forms (sources.list(5)).

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of Debian's archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// The main one.
    Main,
    /// The security team's.
    Security,
}

/// An archive at its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which archive.
    pub archive: Archive,
    /// Its address, as the machine has it.
    pub uri: String,
    /// The value of `Signed-By`, with its leading space: a keyring, or a whole key over several lines.
    pub signed_by: String,
}

/// Every suite name by which a machine may know Debian.
const RELEASES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The keyring of Debian itself, for sources that name none.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian archives of this machine, at most one of each kind.
pub fn of_machine() -> Result<Vec<Source>> {
    let output = Command::new("apt-config")
        .args(["shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"])
        .output()
        .context("Running apt-config: the image is made of Debian packages, so the build machine needs apt")?;
    let text = String::from_utf8(output.stdout)?;
    let value = |name: &str| {
        text.lines().find_map(|line| {
            Some(PathBuf::from(line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\'')?))
        })
    };
    let mut files: Vec<PathBuf> = value("LIST").into_iter().collect();
    if let Some(parts) = value("PARTS") {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(parts)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        inside.sort();
        files.extend(inside);
    }
    let mut found: Vec<Source> = Vec::new();
    for source in files.iter().flat_map(|file| read(file)) {
        if !found.iter().any(|known| known.archive == source.archive) {
            found.push(source);
        }
    }
    ensure!(
        found.iter().any(|source| source.archive == Archive::Main),
        "Looking for Debian in this machine's apt sources: none of {} names a Debian archive. Build on Debian, or add a source.",
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    );
    Ok(found)
}

fn read(file: &Path) -> Vec<Source> {
    let Ok(text) = std::fs::read_to_string(file) else { return Vec::new() };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("sources") => stanzas(&text),
        Some("list") => text.lines().filter_map(one_line).flatten().collect(),
        _ => Vec::new(),
    }
}

/// The deb822 form.
fn stanzas(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for stanza in text.split("\n\n") {
        let field = |name: &str| field(stanza, name);
        let words = |name: &str| field(name).unwrap_or_default();
        if field("Enabled").is_some_and(|value| value.trim() == "no")
            || !words("Types").split_whitespace().any(|t| t == "deb")
        {
            continue;
        }
        let signed_by = field("Signed-By").unwrap_or_else(|| format!(" {KEYRING}"));
        for uri in words("URIs").split_whitespace() {
            found.extend(source(uri, words("Suites").split_whitespace(), &signed_by));
        }
    }
    found
}

/// A field of a stanza, with its continuation lines and its leading space.
fn field(stanza: &str, name: &str) -> Option<String> {
    let mut lines = stanza.lines().skip_while(|line| {
        !line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
    });
    let mut value = lines.next()?.split_once(':')?.1.to_owned();
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        value.push('\n');
        value.push_str(line);
    }
    Some(value)
}

/// The form `deb [options] uri suite component…`.
fn one_line(line: &str) -> Option<Vec<Source>> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .unwrap_or(KEYRING);
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    Some(source(uri, std::iter::once(suite), &format!(" {signed_by}")))
}

fn source<'a>(uri: &str, suites: impl Iterator<Item = &'a str>, signed_by: &str) -> Vec<Source> {
    suites
        .filter_map(|suite| {
            let (release, rest) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
            let archive = match rest {
                "" => Archive::Main,
                "security" | "updates" if suite.contains('/') || rest == "security" => {
                    Archive::Security
                }
                _ => return None,
            };
            RELEASES.contains(&release).then(|| Source {
                archive,
                uri: uri.to_owned(),
                signed_by: signed_by.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let main = Source {
            archive: Archive::Main,
            uri: "http://mirror.example/debian".to_owned(),
            signed_by: format!(" {KEYRING}"),
        };
        let stanza = "# mine\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(stanzas(stanza), std::slice::from_ref(&main));
        let line = format!(
            "deb [arch=amd64 signed-by={KEYRING}] http://mirror.example/debian stable main"
        );
        assert_eq!(one_line(&line), Some(vec![main]));
    }

    #[test]
    fn security_is_told_apart() {
        let stanza = "Types: deb\nURIs: http://a.example/debian-security\nSuites: trixie-security\nSigned-By: /k\n";
        assert_eq!(stanzas(stanza)[0].archive, Archive::Security);
        assert_eq!(stanzas(stanza)[0].signed_by, " /k");
    }

    #[test]
    fn disabled_and_foreign_sources_are_passed_over() {
        assert!(
            stanzas("Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: sid\n").is_empty()
        );
        assert!(stanzas("Types: deb\nURIs: http://a.example\nSuites: nodistro\n").is_empty());
        assert!(stanzas("Types: deb-src\nURIs: http://a.example\nSuites: sid\n").is_empty());
    }

    #[test]
    fn a_key_over_several_lines_stays_whole() {
        let stanza = "Types: deb\nURIs: http://a.example\nSuites: sid\nSigned-By:\n -----BEGIN\n .\n -----END\nComponents: main\n";
        assert_eq!(stanzas(stanza)[0].signed_by, "\n -----BEGIN\n .\n -----END");
    }
}
