// SPDX-License-Identifier: Apache-2.0
//! How much depends on something.

use crate::choice::choice;

choice! {
    /// How much depends on something.
    pub enum Need {
        /// An image under which it fails is not kept.
        Required = "required",
        /// It is watched and told, and nothing more.
        Wanted = "wanted",
    }
}
