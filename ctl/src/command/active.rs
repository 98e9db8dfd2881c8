// SPDX-License-Identifier: Apache-2.0
//! Configurations that a node has: the one in force, and those before it.

use crate::{
    client::Session,
    diff::{self, Side},
    documents::Documents,
    failure::Failure,
    output::Paint,
};
use anyhow::{Context as _, Result};
use stele_config::{MachineConfig, canonical};
use stele_proto::v1::{Generation, GetRequest};
use tonic::Code;

/// A configuration of a node.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its generation.
    pub(crate) generation: Generation,
    /// Its documents.
    pub(crate) documents: Documents,
}

impl Kept {
    /// The configuration of a generation; 0 is the one in force.
    pub(crate) async fn read(session: &Session, number: u64) -> Result<Kept> {
        let request = GetRequest { generation: number };
        let response =
            session.answer("Getting the configuration", session.config().get(request)).await?;
        let generation =
            response.generation.context("The node did not say which generation it sent")?;
        Ok(Kept { generation, documents: Documents::read(&response.documents)? })
    }

    /// The configuration in force; none if the node has none yet.
    pub(crate) async fn active(session: &Session) -> Result<Option<Kept>> {
        match Kept::read(session, 0).await {
            Err(error) if has_code(&error, Code::NotFound) => Ok(None),
            read => read.map(Some),
        }
    }

    /// The same; none also for a client that may apply and not look.
    pub(crate) async fn readable(session: &Session) -> Result<Option<Kept>> {
        match Kept::active(session).await {
            Err(error) if has_code(&error, Code::PermissionDenied) => Ok(None),
            read => read,
        }
    }

    /// Fails if it has secrets that the node did not tell: what is made of it could not be sent.
    pub(crate) fn refuse_redacted(&self) -> Result<()> {
        if self.documents.is_redacted() {
            anyhow::bail!("The node keeps its secrets from a client whose role is below os:admin");
        }
        Ok(())
    }

    /// True if a configuration says the same, as far as the node has told.
    pub(crate) fn is(&self, config: &MachineConfig) -> Result<bool> {
        let difference = difference(Some(self), config, "", Paint::new(false))?;
        Ok(difference.is_empty() && !self.documents.is_redacted())
    }

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        format!("generation {}", self.generation.number)
    }
}

/// What stands at the top of a text that is made from the generation in force, for [`made_from`] to find.
pub(crate) fn mark(number: u64) -> String {
    format!("Generation {number}")
}

/// The generation that a text says it was made from, in the comments at its top.
pub(crate) fn made_from(text: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(text);
    find(&text).map(|(_, number)| number)
}

/// The same text, made from this generation: it is in force now. None if it does not say from which it was made, or says so.
pub(crate) fn made_anew(text: &[u8], number: u64) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (line, _) = find(text).filter(|(_, before)| *before != number)?;
    let comment = line.trim_end_matches(['\r', '\n']);
    Some(text.replacen(comment, &format!("# {}", mark(number)), 1))
}

/// The comment at the top of a text that says from which generation it was made, and that generation.
fn find(text: &str) -> Option<(&str, u64)> {
    let mut comments = text.lines().take_while(|line| line.is_empty() || line.starts_with('#'));
    comments.find_map(|line| Some((line, marked(line.trim_start_matches('#').trim())?)))
}

fn marked(comment: &str) -> Option<u64> {
    let rest = comment.strip_prefix("Generation ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let rest = rest.strip_prefix(digits.as_str())?;
    // Someone else's comment goes on in another way.
    let is_mark = rest.is_empty() || rest.starts_with(',') || rest.starts_with(" of ");
    digits.parse().ok().filter(|number| is_mark && *number > 0)
}

fn has_code(error: &anyhow::Error, code: Code) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.code == Some(code))
}

/// What differs between what a node has and what it is to get.
pub(crate) fn difference(
    active: Option<&Kept>,
    wanted: &MachineConfig,
    name: &str,
    paint: Paint,
) -> Result<String> {
    let wanted = Documents::read(&canonical::write(wanted))?;
    let none = Documents::default();
    let old_name = active.map_or("none".to_owned(), Kept::name);
    let old = Side { name: &old_name, documents: active.map_or(&none, |active| &active.documents) };
    diff::render(old, Side { name, documents: &wanted }, paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_which_generation_it_was_made_from() {
        for (text, number) in [
            (
                format!("# {}, accepted 2026-01-01T00:00:00Z, from bob\nkind: Link\n", mark(6)),
                Some(6),
            ),
            (format!("# {} of web1, from bob\r\nkind: Link\r\n", mark(6)), Some(6)),
            (
                format!("# yaml-language-server: $schema=a\n\n## {}\nkind: Link\n", mark(12)),
                Some(12),
            ),
            (format!("kind: Link\n# {}\n", mark(6)), None),
            ("# Generation 3 hardware\n".to_owned(), None),
            ("# Generation 0\n# Generation\n# Generation x\n".to_owned(), None),
            ("# Not in force: generation 6, from bob\n".to_owned(), None),
        ] {
            assert_eq!(made_from(text.as_bytes()), number, "{text}");
        }
    }

    #[test]
    fn a_text_that_was_applied_is_of_the_generation_that_it_became() {
        let text = "# $schema=a\n# Generation 6 of web1, from bob\r\nkind: Link # Generation 6\n";
        let anew = "# $schema=a\n# Generation 7\r\nkind: Link # Generation 6\n";
        assert_eq!(made_anew(text.as_bytes(), 7).as_deref(), Some(anew));
        assert_eq!(made_anew(text.as_bytes(), 6), None, "it says so");
        assert_eq!(made_anew(b"kind: Link\n", 7), None, "nobody has said from which");
    }
}
