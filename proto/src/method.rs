// SPDX-License-Identifier: Apache-2.0
//! Every method there is: its gRPC path and the role that it needs.
//!
//! This is the only place where a method is given a role. A test walks the descriptors: no method without an entry
//! here, no entry without a method.

use std::fmt;

/// What a client certificate allows, in its organization (O=). Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything that is not secret.
    Reader,
    /// Operate the machine: reboot, upgrade.
    Operator,
    /// Everything, secrets and configuration included.
    Admin,
}

impl Role {
    /// All roles, lowest first.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Admin];

    /// The name in a certificate's organization.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "os:reader",
            Role::Operator => "os:operator",
            Role::Admin => "os:admin",
        }
    }

    /// The role of this name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who answers a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// PID 1, behind its socket.
    Init,
    /// apid itself: health and reflection.
    Apid,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $path:literal, $role:ident, $answerer:ident;)*) => {
        /// A method of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method { $($(#[$doc])* $name,)* }

        impl Method {
            /// All methods.
            pub const ALL: &'static [Method] = &[$(Method::$name,)*];

            /// The method with this gRPC path, if there is one.
            #[must_use]
            pub fn parse(path: &str) -> Option<Method> {
                match path { $($path => Some(Method::$name),)* _ => None }
            }

            /// The gRPC path: `/package.Service/Method`.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self { $(Method::$name => $path,)* }
            }

            /// The lowest role that may call it.
            #[must_use]
            pub const fn role(self) -> Role {
                match self { $(Method::$name => Role::$role,)* }
            }

            /// Who answers it.
            #[must_use]
            pub const fn answerer(self) -> Answerer {
                match self { $(Method::$name => Answerer::$answerer,)* }
            }
        }
    };
}

methods! {
    /// What the node runs.
    MachineVersion = "/stele.v1.MachineService/Version", Reader, Init;
    /// Restart.
    MachineReboot = "/stele.v1.MachineService/Reboot", Operator, Init;
    /// Power off.
    MachineShutdown = "/stele.v1.MachineService/Shutdown", Operator, Init;
    /// Take a configuration.
    ConfigApply = "/stele.v1.ConfigService/Apply", Admin, Init;
    /// Keep a configuration.
    ConfigConfirm = "/stele.v1.ConfigService/Confirm", Admin, Init;
    /// Go back to a configuration.
    ConfigRestore = "/stele.v1.ConfigService/Restore", Admin, Init;
    /// List the configurations.
    ConfigHistory = "/stele.v1.ConfigService/History", Reader, Init;
    /// Show a configuration.
    ConfigGet = "/stele.v1.ConfigService/Get", Reader, Init;
    /// Upload an image.
    UpgradePush = "/stele.v1.UpgradeService/Push", Operator, Init;
    /// Move to an image.
    UpgradeUpgrade = "/stele.v1.UpgradeService/Upgrade", Operator, Init;
    /// Go back to the other image.
    UpgradeRollback = "/stele.v1.UpgradeService/Rollback", Operator, Init;
    /// Forget a scheduled upgrade.
    UpgradeCancel = "/stele.v1.UpgradeService/Cancel", Operator, Init;
    /// Show the slots.
    UpgradeStatus = "/stele.v1.UpgradeService/Status", Reader, Init;
    /// Read the events.
    EventStream = "/stele.v1.EventService/Stream", Reader, Init;
    /// Name the logs.
    LogListLogs = "/stele.v1.LogService/ListLogs", Reader, Init;
    /// Read a log.
    LogStream = "/stele.v1.LogService/Stream", Reader, Init;
    /// Name the kinds.
    ResourceListKinds = "/stele.v1.ResourceService/ListKinds", Reader, Init;
    /// List resources.
    ResourceList = "/stele.v1.ResourceService/List", Reader, Init;
    /// Watch resources.
    ResourceWatch = "/stele.v1.ResourceService/Watch", Reader, Init;
    /// Send echo requests.
    DiagnosePing = "/stele.v1.DiagnoseService/Ping", Operator, Init;
    /// Find the way to a host.
    DiagnoseTraceroute = "/stele.v1.DiagnoseService/Traceroute", Operator, Init;
    /// Ask a name server.
    DiagnoseResolve = "/stele.v1.DiagnoseService/Resolve", Operator, Init;
    /// Try to reach a server.
    DiagnoseProbe = "/stele.v1.DiagnoseService/Probe", Operator, Init;
    /// Capture packets.
    DiagnoseCapture = "/stele.v1.DiagnoseService/Capture", Admin, Init;
    /// List the processes.
    DiagnoseProcesses = "/stele.v1.DiagnoseService/Processes", Reader, Init;
    /// List the sockets.
    DiagnoseSockets = "/stele.v1.DiagnoseService/Sockets", Reader, Init;
    /// List what is mounted.
    DiagnoseMounts = "/stele.v1.DiagnoseService/Mounts", Reader, Init;
    /// Show the memory.
    DiagnoseMemory = "/stele.v1.DiagnoseService/Memory", Reader, Init;
    /// List the control groups.
    DiagnoseCgroups = "/stele.v1.DiagnoseService/Cgroups", Reader, Init;
    /// Show what threads wait for.
    DiagnosePressure = "/stele.v1.DiagnoseService/Pressure", Reader, Init;
    /// List the disks.
    DiagnoseDisks = "/stele.v1.DiagnoseService/Disks", Reader, Init;
    /// gRPC health, once.
    HealthCheck = "/grpc.health.v1.Health/Check", Reader, Apid;
    /// gRPC health, all services.
    HealthList = "/grpc.health.v1.Health/List", Reader, Apid;
    /// gRPC health, followed.
    HealthWatch = "/grpc.health.v1.Health/Watch", Reader, Apid;
    /// gRPC reflection.
    Reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Reader, Apid;
    /// The machine's figures as OpenMetrics, by GET.
    Metrics = "/metrics", Reader, Apid;
}

impl Method {
    /// True if a node without a configuration answers it, to anyone: only the way to give it one.
    #[must_use]
    pub const fn in_maintenance(self) -> bool {
        matches!(self, Method::ConfigApply)
    }
}

/// The path on which apid reports its certificate to PID 1. Not a method of the API: no client can name it.
pub const REPORT_CERTIFICATE: &str = "/stele.internal.v1.Init/ReportCertificate";

/// The path on which apid and the metrics agent ask PID 1 for the machine's figures. Not a method of the API either.
pub const FIGURES: &str = "/stele.internal.v1.Init/Figures";

/// The path on which a log-sink agent asks PID 1 what to do. Not a method of the API either.
pub const SINK: &str = "/stele.internal.v1.Init/Sink";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn described() -> BTreeSet<String> {
        let pool = prost_reflect::DescriptorPool::decode(crate::DESCRIPTORS).unwrap();
        pool.services()
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                service
                    .methods()
                    .map(move |method| format!("/{name}/{}", method.name()))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn every_method_of_ours_has_a_role() {
        for path in described() {
            assert!(Method::parse(&path).is_some(), "{path} has no entry in the method table");
        }
    }

    #[test]
    fn every_role_belongs_to_a_method() {
        let described = described();
        for method in Method::ALL.iter().filter(|method| method.answerer() == Answerer::Init) {
            assert!(described.contains(method.path()), "{} is in no .proto file", method.path());
        }
    }

    #[test]
    fn paths_are_unique_and_parse_back() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.path()), Some(*method));
        }
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Reader < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("os:root"), None);
    }
}
