// SPDX-License-Identifier: Apache-2.0
//! Waiting for a descriptor that the runtime has no type for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};
use tokio::io::unix::AsyncFd;

/// Lets the runtime wait for this descriptor. What is given owns it ([`AsFd`]), so it stays open and the same.
#[expect(
    deprecated,
    reason = "its successor is unsafe for what AsFd already promises, and agents have no unsafe code"
)]
pub(super) fn watch<T: AsFd + AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}
