// SPDX-License-Identifier: Apache-2.0
//! What differs between two configurations, document by document, as a unified diff.

use crate::{
    documents::{Documents, Title},
    output::{Paint, plain},
};
use anyhow::Result;
use serde_yaml::Value;
use similar::{ChangeTag, TextDiff};
use std::fmt::Write as _;

/// Unchanged lines around each change.
const CONTEXT: usize = 3;

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    /// What it is called.
    pub(crate) name: &'a str,
    /// What it says.
    pub(crate) documents: &'a Documents,
}

/// Renders the difference; nothing where there is none.
pub(crate) fn render(old: Side<'_>, new: Side<'_>, paint: Paint) -> Result<String> {
    let mut text = String::new();
    let changed = changed_marks(old.documents, new.documents);
    for title in titles(old.documents, new.documents) {
        let before = find(old.documents, &title);
        let after = find(new.documents, &title);
        let before_text = before.map(serde_yaml::to_string).transpose()?.unwrap_or_default();
        let mut after_text = after.map(serde_yaml::to_string).transpose()?.unwrap_or_default();
        for mark in &changed {
            after_text =
                after_text.replace(*mark, &format!("{}, another one)", mark.trim_end_matches(')')));
        }
        if before_text == after_text {
            continue;
        }
        let side = |there: Option<&Value>, name: &str| match there {
            Some(_) => format!("{} ({})", plain(&title.to_string()), plain(name)),
            None => "(none)".to_owned(),
        };
        let _ = writeln!(text, "{}", paint.bold(&format!("--- {}", side(before, old.name))));
        let _ = writeln!(text, "{}", paint.bold(&format!("+++ {}", side(after, new.name))));
        hunks(&before_text, &after_text, paint, &mut text);
    }
    Ok(text)
}

/// The titles of both, in the order of the new one; those that have gone come first.
fn titles(old: &Documents, new: &Documents) -> Vec<Title> {
    let new: Vec<Title> = new.list.iter().map(Title::of).collect();
    let gone = old.list.iter().map(Title::of).filter(|title| !new.contains(title));
    gone.chain(new.iter().cloned()).collect()
}

fn find<'a>(documents: &'a Documents, title: &Title) -> Option<&'a Value> {
    documents.list.iter().find(|document| Title::of(document) == *title)
}

/// The marks of secrets that both have and that are not the same.
fn changed_marks<'a>(old: &Documents, new: &'a Documents) -> Vec<&'a str> {
    let changed = |mark: &str, value: &Option<String>| {
        old.secrets.iter().any(|old| {
            old.mark == mark && old.value.is_some() && value.is_some() && old.value != *value
        })
    };
    let secrets = new.secrets.iter().filter(|secret| changed(&secret.mark, &secret.value));
    secrets.map(|secret| secret.mark.as_str()).collect()
}

fn hunks(before: &str, after: &str, paint: Paint, text: &mut String) {
    let diff = TextDiff::from_lines(before, after);
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        let _ = writeln!(text, "{}", paint.blue(&hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let line = change.value();
            let line = plain(line.strip_suffix('\n').unwrap_or(line));
            let line = match change.tag() {
                ChangeTag::Delete => paint.red(&format!("-{line}")),
                ChangeTag::Insert => paint.green(&format!("+{line}")),
                ChangeTag::Equal => format!(" {line}"),
            };
            let _ = writeln!(text, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::tests::config;
    use expect_test::expect;
    use stele_config::canonical;

    const OLD: &str = "---\napiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: true\n\
        ---\napiVersion: stele/v1\nkind: Link\nname: eth1\ndhcp4: true\n";
    const NEW: &str = "---\napiVersion: stele/v1\nkind: Hostname\nhostname: web1\n\
        ---\napiVersion: stele/v1\nkind: Link\nname: eth1\ndhcp4: true\nmtu: 9000\n";

    fn shown(old: &Documents, new: &Documents, paint: Paint) -> String {
        let old = Side { name: "generation 6", documents: old };
        render(old, Side { name: "machine.yaml", documents: new }, paint).unwrap()
    }

    fn list(text: &str) -> Documents {
        Documents {
            list: Documents::read(&canonical::write(&config(text))).unwrap().list,
            ..Documents::default()
        }
    }

    #[test]
    fn each_document_has_its_own_diff() {
        let without_identity = |text: &str| {
            let mut documents = list(text);
            documents.list.remove(0);
            documents
        };
        let (old, new) = (without_identity(OLD), without_identity(NEW));
        expect![[r#"
            --- Link eth0 (generation 6)
            +++ (none)
            @@ -1,7 +0,0 @@
            -apiVersion: stele/v2
            -kind: Link
            -name: eth0
            -dhcp4:
            -  routes: true
            -  dns: true
            -  time: true
            --- (none)
            +++ Hostname (machine.yaml)
            @@ -0,0 +1,3 @@
            +apiVersion: stele/v1
            +kind: Hostname
            +hostname: web1
            --- Link eth1 (generation 6)
            +++ Link eth1 (machine.yaml)
            @@ -1,6 +1,7 @@
             apiVersion: stele/v2
             kind: Link
             name: eth1
            +mtu: 9000
             dhcp4:
               routes: true
               dns: true
        "#]]
        .assert_eq(&shown(&old, &new, Paint::new(false)));
        assert!(shown(&old, &new, Paint::new(true)).contains("\x1b[1;32m+mtu: 9000\x1b[0m\n"));
        assert_eq!(shown(&new, &new, Paint::new(true)), "");
    }

    #[test]
    fn another_key_is_told_and_not_shown() {
        let one = Documents::read(&canonical::write(&config(""))).unwrap();
        let two = Documents::read(&canonical::write(&config(""))).unwrap();
        let text = shown(&one, &two, Paint::new(false));
        assert!(
            text.contains(
                "-key: (secret Identity key)\n+key: (secret Identity key, another one)\n"
            ),
            "{text}"
        );
        assert!(!text.contains("PRIVATE KEY"), "{text}");
        let untold = Documents::read(&canonical::redact(&config(""))).unwrap();
        assert!(!shown(&untold, &untold, Paint::new(false)).contains("another"));
    }
}
