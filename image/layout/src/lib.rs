// SPDX-License-Identifier: Apache-2.0
//! What the image builder and the running system must agree on.
//!
//! * [`gpt`]: partition types, labels and sizes.
//! * [`slot`]: the names of images on the ESP, with their boot counters.
//! * [`version`]: the UAPI Group's version comparison, by which the boot loader sorts images.
//!
//! No input or output lives here.

#![forbid(unsafe_code)]

pub mod gpt;
pub mod slot;
pub mod version;
