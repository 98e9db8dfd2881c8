// SPDX-License-Identifier: Apache-2.0
//! What crosses a machine's boundary.
//!
//! * [`v1`]: the public API, generated from `stele/v1/*.proto`; client stubs with the feature `client`.
//! * [`internal`]: what apid and the agents say to PID 1, generated from `stele/internal/v1/*.proto`.
//! * [`method`]: every method there is, with the role that it needs.
//!
//! No logic and no input or output lives here.

#![forbid(unsafe_code)]

pub mod method;

/// The public API.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from the .proto files, which hold the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/stele.v1.rs"));
}

/// What apid and the agents say to PID 1.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from the .proto files, which hold the documentation"
)]
pub mod internal {
    include!(concat!(env!("OUT_DIR"), "/stele.internal.v1.rs"));
}

/// The compiled descriptors of all .proto files, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
