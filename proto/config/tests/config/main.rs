// SPDX-License-Identifier: Apache-2.0
//! The configuration from outside: bytes in, answers out.

mod access;
mod canonical;
mod findings;
mod health;
mod hostile;
mod identity;
mod kinds;
mod log_sink;
mod metrics;
mod pki;
mod probe;
mod properties;
mod remarks;
mod schema;
mod time;
mod upgrade;
mod versions;
mod virtual_links;
