// SPDX-License-Identifier: Apache-2.0
//! The form that people write: a YAML stream.

use crate::{Finding, MachineConfig};

/// Reads a YAML stream.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<MachineConfig, Vec<Finding>> {
    crate::canonical::read(bytes)
}

/// Prints a canonical configuration as a YAML stream.
#[must_use]
pub fn print(canonical: &[u8]) -> String {
    String::from_utf8_lossy(canonical).into_owned()
}
