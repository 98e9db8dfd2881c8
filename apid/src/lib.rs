// SPDX-License-Identifier: Apache-2.0
//! apid: the gate between the network and PID 1.
//!
//! The only program of the OS that listens on an IP address. It authenticates clients, decides whether they may, records that
//! they did, and passes their calls on to PID 1 without looking into them. It runs without privilege, keeps no state, writes no
//! file, and can be restarted at any time.
//!
//! It refuses: to read a configuration, to know what a message means, and to answer anything that is not in
//! [`stele_proto::method`].
//!
//! In reading order:
//!
//! * [`identity`], [`certificate`], [`tls`]: who this node is, and what it shows of that;
//! * [`server`], [`listener`], [`connections`]: who may connect, and how many;
//! * [`gate`], [`authz`], [`access`], [`refusal`], [`audit`]: who may call what, what they are told, and what is written down;
//! * [`relay`], [`wire`], [`reader`], [`upstream`], [`body`]: a call on its way to PID 1 and back;
//! * [`health`], [`descriptors`], [`figures`]: what apid answers itself;
//! * [`limits`], [`notify`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod access;
pub mod audit;
pub mod authz;
pub mod body;
pub mod certificate;
pub mod connections;
pub mod descriptors;
pub mod figures;
pub mod gate;
pub mod health;
pub mod identity;
pub mod limits;
pub mod listener;
pub mod notify;
pub mod reader;
pub mod refusal;
pub mod relay;
pub mod server;
pub mod tls;
pub mod upstream;
pub mod wire;
