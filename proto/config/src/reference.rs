// SPDX-License-Identifier: Apache-2.0
//! The reference manual.

/// The reference manual as Markdown.
#[must_use]
pub fn markdown() -> String {
    String::new()
}
