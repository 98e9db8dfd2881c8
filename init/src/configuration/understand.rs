// SPDX-License-Identifier: Apache-2.0
//! From bytes to a valid configuration, or the reasons why not.

use super::{Refused, spare};
use crate::{
    api::{Code, Refusal},
    node::Node,
    one_shot::{self, Input, OneShotError, Output},
    platform, report,
};
use prost::Message as _;
use serde::Deserialize;
use std::{collections::BTreeMap, rc::Rc, time::Duration};
use stele_config::{Finding, MachineConfig, Places, canonical};
use stele_kernel::process::Exit;
use stele_proto::v1;

/// The largest configuration.
pub(crate) const LARGEST: usize = 1024 * 1024;
/// The largest answer of the configure agent: canonical documents, or findings.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// The longest word of the agent on what it left alone.
const LONGEST_NOTE: usize = 400;
/// How long understanding a configuration may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error("the configuration has {0} bytes; at most {LARGEST} are read")]
    TooLarge(usize),
    #[error("the configuration is not valid:\n{}", lines(.0))]
    Invalid(Vec<Finding>),
    #[error("understanding the configuration")]
    Agent(#[source] OneShotError),
    #[error("the configure agent {exit}: {complaint}")]
    AgentFailed { exit: Exit, complaint: String },
    #[error("the configure agent's answer makes no sense")]
    Answer(#[source] serde_json::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Findings, one a line.
pub(super) fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Refusal {
        let code = match &error {
            AcceptError::TooLarge(_) | AcceptError::Invalid(_) => Code::InvalidArgument,
            AcceptError::Agent(OneShotError::Deadline { .. }) => Code::DeadlineExceeded,
            AcceptError::Agent(_) | AcceptError::AgentFailed { .. } | AcceptError::Answer(_) => {
                Code::Internal
            }
            AcceptError::Refused(refused) => refused.code(),
        };
        let mut refusal = Refusal::new(code, report::chain(&error));
        if let AcceptError::Invalid(findings) = error {
            let findings =
                v1::Findings { findings: findings.into_iter().map(to_finding).collect() };
            refusal.details.push(prost_types::Any {
                type_url: "type.googleapis.com/stele.v1.Findings".to_owned(),
                value: findings.encode_to_vec(),
            });
        }
        refusal
    }
}

/// A finding as the API tells it.
pub(super) fn to_finding(finding: Finding) -> v1::Finding {
    let Finding { document, kind, path, line, message, expected, warning } = finding;
    v1::Finding { document, kind, path, line, message, expected, warning }
}

/// A configuration that is valid and not in force.
#[derive(Clone, Debug)]
pub(crate) struct Understood {
    pub(super) canonical: Vec<u8>,
    pub(super) config: MachineConfig,
    /// Where its documents stood, if that is known.
    pub(super) places: Places,
}

impl Understood {
    /// What a generation holds, if this image can read it.
    pub(crate) fn of_generation(documents: &str) -> Result<Understood, AcceptError> {
        let config = canonical::read(documents.as_bytes()).map_err(AcceptError::Invalid)?;
        Ok(Understood { canonical: canonical::write(&config), config, places: Places::default() })
    }

    /// What the configure agent answers: the documents, and on the next line their places.
    fn of_answer(answer: &str) -> Result<Understood, AcceptError> {
        let (documents, places) = answer.split_once('\n').unwrap_or((answer, ""));
        let places = serde_json::from_str(places).map_err(AcceptError::Answer)?;
        Ok(Understood { places, ..Understood::of_generation(documents)? })
    }
}

/// What a platform hands over.
#[derive(Debug)]
pub(crate) enum UserData {
    /// A configuration.
    Here(Box<Unwrapped>),
    /// It is somewhere else.
    Elsewhere(Include),
    /// It is for others; why nothing is taken from it.
    Foreign(AcceptError),
    /// It is empty.
    Nothing,
}

/// A configuration, and what was left alone beside it: a line, or nothing.
#[derive(Debug)]
pub(crate) struct Unwrapped {
    pub(crate) understood: Understood,
    pub(crate) left: String,
}

/// Where a configuration is, and the SHA-256 that it has to have, in hex.
#[derive(Debug, Deserialize)]
pub(crate) struct Include {
    pub(crate) url: String,
    pub(crate) sha256: String,
}

/// Has the agent read a configuration, and takes nothing from it but the canonical form.
pub(crate) async fn understand(
    node: &Rc<Node>,
    documents: &[u8],
) -> Result<Understood, AcceptError> {
    within_limit(documents)?;
    let piped = match node.configuration.spare.take() {
        Some(piped) => Ok(piped),
        None => one_shot::start(node, spare::UNIT, &[], Input::Pipe),
    };
    let output = match piped {
        Ok(piped) => {
            one_shot::finish(node, spare::UNIT, piped, documents, LARGEST_ANSWER, DEADLINE).await
        }
        Err(error) => Err(error),
    };
    spare::provide(node);
    let output = output.map_err(AcceptError::Agent)?;
    match output.exit {
        Exit::Code(0) => Understood::of_answer(&String::from_utf8_lossy(&output.stdout)),
        _ => Err(unsuccessful(output)),
    }
}

/// The same of what a platform hands over, in whatever it is wrapped.
pub(crate) async fn understand_user_data(
    node: &Node,
    bytes: &[u8],
) -> Result<UserData, AcceptError> {
    let output = configure(node, &["--user-data".to_owned()], bytes).await?;
    match output.exit {
        Exit::Code(3) => serde_json::from_slice(&output.stdout)
            .map(UserData::Elsewhere)
            .map_err(AcceptError::Answer),
        Exit::Code(4) => Ok(UserData::Nothing),
        Exit::Code(5) => Ok(UserData::Foreign(unsuccessful(output))),
        _ => unwrapped(output).map(|found| UserData::Here(Box::new(found))),
    }
}

/// The same of what was included, if it is what was meant.
pub(crate) async fn understand_included(
    node: &Node,
    bytes: &[u8],
    sha256: &str,
) -> Result<Unwrapped, AcceptError> {
    unwrapped(configure(node, &["--included".to_owned(), sha256.to_owned()], bytes).await?)
}

/// What a platform knows of the machine, of a file in this form.
pub(crate) async fn understand_attributes(
    node: &Node,
    form: &str,
    bytes: &[u8],
) -> Result<BTreeMap<String, String>, AcceptError> {
    let arguments = ["--attributes".to_owned(), form.to_owned()];
    let output = configure(node, &arguments, bytes).await?;
    match output.exit {
        Exit::Code(0) => serde_json::from_slice(&output.stdout)
            .map(platform::fit_to_show)
            .map_err(AcceptError::Answer),
        _ => Err(unsuccessful(output)),
    }
}

/// What a platform says of the network, of a file in this form: documents, as JSON.
pub(crate) async fn understand_network(
    node: &Node,
    form: &str,
    bytes: &[u8],
) -> Result<Vec<u8>, AcceptError> {
    let arguments = ["--network".to_owned(), form.to_owned()];
    let output = configure(node, &arguments, bytes).await?;
    if output.exit == Exit::Code(0) { Ok(output.stdout) } else { Err(unsuccessful(output)) }
}

fn unwrapped(output: Output) -> Result<Unwrapped, AcceptError> {
    if output.exit != Exit::Code(0) {
        return Err(unsuccessful(output));
    }
    let understood = Understood::of_answer(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Unwrapped { understood, left: report::plain(&output.complaint, LONGEST_NOTE) })
}

async fn configure(node: &Node, arguments: &[String], bytes: &[u8]) -> Result<Output, AcceptError> {
    within_limit(bytes)?;
    one_shot::run(node, spare::UNIT, arguments, bytes, LARGEST_ANSWER, DEADLINE)
        .await
        .map_err(AcceptError::Agent)
}

fn within_limit(bytes: &[u8]) -> Result<(), AcceptError> {
    if bytes.len() > LARGEST {
        return Err(AcceptError::TooLarge(bytes.len()));
    }
    Ok(())
}

fn unsuccessful(output: Output) -> AcceptError {
    match output.exit {
        Exit::Code(2 | 5) => match serde_json::from_slice(&output.stdout) {
            Ok(findings) => AcceptError::Invalid(findings),
            Err(error) => AcceptError::Answer(error),
        },
        exit => AcceptError::AgentFailed { exit, complaint: output.complaint },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use stele_config::Remark;

    #[test]
    fn an_answer_has_documents_and_their_places() {
        let documents = canonical::write(&fixture::config::<&str>(&[]));
        let documents = String::from_utf8(documents).unwrap();
        let place = r#"{"kind":"Metrics","name":"","document":2,"line":7,"keys":{"address":[9]}}"#;
        let understood = Understood::of_answer(&format!("{documents}\n[{place}]")).unwrap();
        assert_eq!(understood.canonical, documents.as_bytes());
        let remark = Remark {
            kind: "Metrics",
            name: String::new(),
            path: "address".to_owned(),
            warning: true,
            message: String::new(),
            expected: String::new(),
        };
        let finding = understood.places.find(vec![remark]).remove(0);
        assert_eq!((finding.document, finding.line), (2, 9));
        for wrong in [documents.clone(), format!("{documents}\n"), format!("{documents}\n[[]]")] {
            assert!(
                matches!(Understood::of_answer(&wrong), Err(AcceptError::Answer(_))),
                "{wrong}"
            );
        }
    }
}
