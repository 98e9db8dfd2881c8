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

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        format!("generation {}", self.generation.number)
    }
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
