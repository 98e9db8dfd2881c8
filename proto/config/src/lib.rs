// SPDX-License-Identifier: Apache-2.0
//! The machine configuration: bytes → documents → validated [`MachineConfig`].
//!
//! A configuration is a stream of small, flat documents, each with an `apiVersion` and a `kind`. People write it as
//! YAML ([`yaml`], with the feature of that name); machines keep it in one canonical form, a JSON array of the same
//! documents ([`canonical`]), which is all that PID 1 ever reads. Both end in the same tree of values, and one walk
//! over that tree decides: there is no second opinion on what is valid.
//!
//! Whatever is wrong is told in one answer, as [`Finding`]s. What is right becomes types that cannot hold anything
//! else: [`MachineConfig`] has no other way in.
//!
//! Each kind is declared once, with the macro `record!` in its own file ([`Link`] in `link.rs`). The reading, the
//! findings, the canonical form, the JSON Schema ([`schema`]) and the reference manual ([`reference`]) all come from
//! that declaration. To add a kind: write its file, and list it in `document.rs`.
//!
//! No input or output, clock or environment lives here.

#![forbid(unsafe_code)]

// What people see.
mod finding;
mod machine;
mod network;
mod remark;
pub mod services;

// The kinds, and what they hold.
mod access;
mod environment;
mod files;
mod firewall;
mod firewall_protocol;
mod health;
mod hosts;
mod identity;
mod kernel_args;
mod kernel_module;
mod link;
mod log_sink;
mod metadata_service;
mod metrics;
mod probe;
mod registry;
mod resolver;
mod route;
mod routing_rule;
mod sysctl;
mod time;
mod trusted_roots;
mod upgrade;
mod virtual_link;
mod watchdog;

// The single values.
mod cidr;
mod client_id;
mod device;
mod domain;
mod endpoint;
mod hostname;
mod icmp_type;
mod interface;
mod mac;
mod methods;
mod name;
mod name_server;
mod need;
mod packets;
mod pem;
mod secret;
mod serial;
mod setting;
mod span;
mod table;
mod target;
mod tunnel_endpoint;
mod url;
mod version;
mod wireguard_key;

// From bytes to documents and back.
pub mod canonical;
#[cfg(feature = "schema")]
pub mod reference;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "yaml")]
pub mod yaml;

// How a value of any type is read, written and described.
mod choice;
mod document;
mod integer;
mod list;
mod node;
mod range;
mod record;
mod report;
#[cfg_attr(
    not(feature = "schema"),
    expect(dead_code, reason = "only the schema and the manual read all of it")
)]
mod shape;
mod step;
mod value;

pub use access::{ClientAccess, ClientRole};
pub use cidr::{Cidr, CidrError};
pub use client_id::{ClientId, ClientIdError};
pub use device::{Device, DevicePath, DevicePathError};
pub use document::newest_version;
pub use domain::{Domain, DomainError, LabelError};
pub use endpoint::{Endpoint, EndpointError, Host};
pub use environment::{Environment, Variable};
pub use files::{File, FilePath, FilePathError, Files};
pub use finding::Finding;
pub use firewall::{Direction, Firewall, FirewallAction, FirewallDefault, FirewallRule};
pub use firewall_protocol::FirewallProtocol;
pub use health::{HealthCheck, ServiceProbe, Subject};
pub use hostname::{Hostname, HostnameError};
pub use hosts::{Hosts, HostsEntry};
pub use icmp_type::IcmpType;
pub use identity::Identity;
pub use interface::{InterfaceName, InterfaceNameError};
pub use kernel_args::{KernelArg, KernelArgError, KernelArgs};
pub use kernel_module::{
    KernelModule, ModuleName, ModuleNameError, ModuleParameter, ModuleParameterError,
};
pub use link::{Delegated, Dhcp4, Dhcp6, Dhcp6Start, Link, LinkMatch, RouterAdvertisements};
pub use log_sink::{LogSink, SinkFormat, SinkProtocol};
pub use mac::{Mac, MacError};
pub use machine::MachineConfig;
pub use metadata_service::MetadataService;
pub use methods::{Methods, MethodsError};
pub use metrics::Metrics;
pub use name::{Name, NameError};
pub use name_server::NameServer;
pub use need::Need;
pub use network::{NetworkDocuments, NetworkDraft};
pub use packets::{Ports, Rate, RateError};
pub use probe::Probe;
pub use record::did_you_mean;
pub use registry::{RegistryAuth, RegistryMirror, RegistryName};
pub use remark::{Places, Remark};
pub use resolver::Resolver;
pub use route::{Route, RouteType};
pub use routing_rule::RoutingRule;
pub use serial::{Serial, SerialError};
pub use setting::{Setting, SettingError};
pub use step::API_VERSIONS;
pub use sysctl::{Sysctl, SysctlName, SysctlNameError};
pub use table::Table;
pub use target::{DnsProbe, HttpProbe, IcmpProbe, PingHost, Target, TcpProbe};
pub use time::{Time, TimeHost, TimeServer};
pub use trusted_roots::TrustedRoots;
pub use tunnel_endpoint::TunnelEndpoint;
pub use upgrade::UpgradePolicy;
pub use url::{Url, UrlError};
pub use virtual_link::{
    ArpValidate, Bond, BondMode, Bridge, BridgePort, Dummy, HashPolicy, LacpRate, Veth,
    VirtualLink, Vlan, VlanProtocol, VlanRange, Vrf, WireGuard, WireGuardPeer,
};
pub use watchdog::Watchdog;
pub use wireguard_key::{WireGuardKey, WireGuardKeyError, WireGuardSecret};

/// Most bytes of a configuration as people write it.
pub const MAX_BYTES: usize = 1024 * 1024;
