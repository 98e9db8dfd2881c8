// SPDX-License-Identifier: Apache-2.0
//! Every system call of PID 1, as safe functions that know nothing of Stele's own types.
//!
//! * [`net`]: links, addresses and routes over rtnetlink.
//!
//! This is the only crate that may hold `unsafe`; each site says why it is sound.

pub mod net;
