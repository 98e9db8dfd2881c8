// SPDX-License-Identifier: Apache-2.0
//! The agents: small processes, each with one job, that read the bytes of strangers for PID 1.
//!
//! * `dhcp`: one per link; a DHCPv4 client.
//! * `dhcp6`: one per link; a DHCPv6 client.
//! * `acd`: whether another machine has a fixed IPv4 address of ours.
//! * `routers`: name servers that routers advertise.
//! * `configure`: YAML to the canonical form, and what a platform's files say.
//! * `fetch`: an URL to its body.
//! * `stage`: an image to the ESP.
//! * `probe`: health checks over the network.
//! * `metadata`: what a cloud has for this machine.
//! * `guestinfo`: what VMware's hypervisor has for it.
//! * `kvp`: what Hyper-V's has.
//! * `log-sink`: logs to where they are collected.
//! * `metrics`: figures over plain HTTP.
//! * `time`: the clock, by NTP and NTS.
//! * `dns`: a caching stub resolver.
//! * `diagnose`: one question about the network or the machine.
//! * `disk`: partitions and file systems; the one agent that runs as root, once, at boot.
//!
//! Those that speak IP, or with the hypervisor, are one program, `agent JOB`, which each of their units runs with a sandbox of its own.
//!
//! [`pid1`] is how they ask PID 1 for something; `leasing` is what both DHCP clients share, and `acd` in part;
//! `attribute` is what `about` and `metadata` share.

#![forbid(unsafe_code)]

pub mod about;
pub mod acd;
mod attribute;
pub mod context;
pub mod dhcp;
pub mod dhcp6;
pub mod diagnose;
pub mod disk;
pub mod dns;
pub mod fetch;
pub mod guestinfo;
pub mod kvp;
mod leasing;
pub mod log_sink;
pub mod metadata;
pub mod metrics;
pub mod network;
pub mod ovf;
pub mod pid1;
pub mod probe;
pub mod routers;
pub mod stage;
pub mod time;
pub mod user_data;
