// SPDX-License-Identifier: Apache-2.0
//! The version of an image, which is what may stand in the name of its file.

use crate::value::Text;
use stele_layout::version::Version;

impl Text for Version {
    const WHAT: &'static str = "a version";
    const EXAMPLE: &'static str = "1.2.0";
    const PATTERN: &'static str = "^[0-9a-z.~^-]{1,64}$";
}
