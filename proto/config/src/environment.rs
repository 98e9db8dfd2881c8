// SPDX-License-Identifier: Apache-2.0
//! Variables in the environment of services.

use crate::Name;
use crate::list::List;
use crate::node::{Node, Tree};
use crate::pem::REDACTED;
use crate::record::{Check, record};
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;

/// Most documents.
pub(crate) const MAX_ENVIRONMENTS: usize = 64;

record! {
    /// Variables in the environment of services of this machine (`ctl get service`). A service whose variables change starts
    /// again.
    pub struct Environment as "Environment" {
        /// What they are called together.
        name: Name,
        /// The services.
        services: List<Name, 1, 32>,
        /// The variables, each as `NAME=value`. Values are redacted wherever the configuration is shown to anyone below
        /// `os:admin`.
        variables: List<Variable, 1, 64>,
    }
}

impl Environment {
    /// What they are called together.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The services.
    #[must_use]
    pub fn services(&self) -> &[Name] {
        &self.services
    }

    /// The variables.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Says which of its variables another document gives to the same service.
    pub(crate) fn check_beside(&self, other: &Environment, node: &Node, report: &mut Report) {
        let Some(service) = self.services.iter().find(|name| other.services.contains(name)) else {
            return;
        };
        for (index, variable) in self.variables.iter().enumerate() {
            if other.variables.iter().any(|theirs| theirs.name == variable.name) {
                let message = format!(
                    "{} is also given to {service} by Environment {}",
                    variable.name, other.name
                );
                report.find_item(
                    node,
                    ("variables", index),
                    message,
                    "each variable of a service once",
                );
            }
        }
    }
}

impl Check for Environment {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, service) in self.services.iter().enumerate() {
            if service.as_str() == "apid" {
                let message = "apid takes its environment from PID 1 alone";
                report.find_item(node, ("services", index), message, "another service");
            }
        }
        for (index, variable) in self.variables.iter().enumerate() {
            let why = match variable.name.as_str() {
                "NOTIFY_SOCKET" => "is what PID 1 sets",
                "SSL_CERT_FILE" | "SSL_CERT_DIR" => "is what the kind TrustedRoots is for",
                name if self.variables.iter().take(index).any(|other| other.name == name) => {
                    "is there twice"
                }
                _ => continue,
            };
            let message = format!("{} {why}", variable.name);
            report.find_item(node, ("variables", index), message, "another variable");
        }
    }
}

/// The longest variable.
const MAX: usize = 4096;

/// A variable: its name and its value. Debug output does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    name: String,
    value: String,
}

impl Variable {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={REDACTED}", self.name)
    }
}

/// What is wrong with it, without a word of its value.
fn parse(text: &str) -> Result<Variable, &'static str> {
    if text.len() > MAX {
        return Err("is longer than 4096 bytes");
    }
    let (name, value) = text.split_once('=').ok_or("has no =")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(allowed)
    {
        return Err("has a name that is not of letters, digits and _");
    }
    if value.trim() == REDACTED {
        return Err("is redacted: this configuration was shown without its secrets");
    }
    if value.contains(char::is_control) {
        return Err("has a value of more than one line");
    }
    Ok(Variable { name: name.to_owned(), value: value.to_owned() })
}

impl Value for Variable {
    fn shape() -> Shape {
        Shape::Text {
            what: "a variable",
            example: "NAME=value",
            pattern: "^[A-Za-z_][0-9A-Za-z_]*=[^\\r\\n]*$",
        }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Variable> {
        let Tree::Text(text) = &node.tree else {
            refuse_type(node, &Self::shape(), report);
            return None;
        };
        match parse(text) {
            Ok(variable) => Some(variable),
            Err(message) => {
                report.find(node.line, message, Self::shape().expected());
                None
            }
        }
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        let value = match secrets {
            Secrets::Keep => &self.value,
            Secrets::Redact => REDACTED,
        };
        Some(Tree::Text(format!("{}={value}", self.name)))
    }
}
