// SPDX-License-Identifier: Apache-2.0
//! The whole configuration of a machine: documents that are good in themselves and together.

use crate::document::{Document, HostnameDocument};
use crate::environment::{Environment, MAX_ENVIRONMENTS};
use crate::files::{Files, MAX_FILES};
use crate::firewall::Firewall;
use crate::health::{HealthCheckDocument, MAX_CHECKS};
use crate::hosts::{Hosts, MAX_HOSTS};
use crate::kernel_args::{KernelArg, KernelArgs};
use crate::kernel_module::{KernelModule, MAX_MODULES};
use crate::link::delegated;
use crate::log_sink::{LogSink, MAX_SINKS};
use crate::node::Node;
use crate::probe::{MAX_PROBES, ProbeDocument};
use crate::registry::{MAX_REGISTRIES, RegistryAuth, RegistryMirror};
use crate::report::Report;
use crate::routing_rule::{MAX_RULES, RoutingRule};
use crate::sysctl::{MAX_SYSCTLS, Sysctl};
use crate::trusted_roots::{MAX_ROOTS, TrustedRoots};
use crate::virtual_link::{self, VirtualLink};
use crate::{
    ClientAccess, HealthCheck, Hostname, Identity, Link, MetadataService, Metrics, Probe, Resolver,
    Time, UpgradePolicy, Watchdog,
};
use std::fmt::Display;

/// The whole configuration of a machine. The only ways in are [`crate::canonical::read`] and `yaml::parse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    identity: Identity,
    client_access: Option<ClientAccess>,
    hostname: Option<Hostname>,
    links: Vec<Link>,
    virtual_links: Vec<VirtualLink>,
    routing_rules: Vec<RoutingRule>,
    firewall: Option<Firewall>,
    hosts: Vec<Hosts>,
    resolver: Option<Resolver>,
    time: Option<Time>,
    probes: Vec<Probe>,
    health_checks: Vec<HealthCheck>,
    metadata_service: Option<MetadataService>,
    metrics: Option<Metrics>,
    log_sinks: Vec<LogSink>,
    watchdog: Option<Watchdog>,
    upgrade_policy: Option<UpgradePolicy>,
    kernel_args: Option<KernelArgs>,
    kernel_modules: Vec<KernelModule>,
    sysctls: Vec<Sysctl>,
    trusted_roots: Vec<TrustedRoots>,
    registry_mirrors: Vec<RegistryMirror>,
    registry_auths: Vec<RegistryAuth>,
    environments: Vec<Environment>,
    files: Vec<Files>,
}

impl MachineConfig {
    /// Who the node is, and whom it obeys.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which clients may do what, where that is set.
    #[must_use]
    pub fn client_access(&self) -> Option<&ClientAccess> {
        self.client_access.as_ref()
    }

    /// What it is called, where that is set.
    #[must_use]
    pub fn hostname(&self) -> Option<&Hostname> {
        self.hostname.as_ref()
    }

    /// How its interfaces are set up, in the order of their names; none of them means DHCP on every physical Ethernet
    /// interface.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The links that the kernel makes, kind by kind and each in the order of their names.
    #[must_use]
    pub fn virtual_links(&self) -> &[VirtualLink] {
        &self.virtual_links
    }

    /// Which packets are routed by which table, in the order of their names.
    #[must_use]
    pub fn routing_rules(&self) -> &[RoutingRule] {
        &self.routing_rules
    }

    /// Which packets it takes and sends, where that is set.
    #[must_use]
    pub fn firewall(&self) -> Option<&Firewall> {
        self.firewall.as_ref()
    }

    /// Names of machines that no name server is asked for, in the order of their documents' names.
    #[must_use]
    pub fn hosts(&self) -> &[Hosts] {
        &self.hosts
    }

    /// How names are resolved, where that is set.
    #[must_use]
    pub fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// Where it gets the time from, where that is set.
    #[must_use]
    pub fn time(&self) -> Option<&Time> {
        self.time.as_ref()
    }

    /// What is watched over the network, in the order of their names.
    #[must_use]
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// What must work besides the system itself, in the order of their names.
    #[must_use]
    pub fn health_checks(&self) -> &[HealthCheck] {
        &self.health_checks
    }

    /// Who reaches the metadata service of the platform, where that is set.
    #[must_use]
    pub fn metadata_service(&self) -> Option<&MetadataService> {
        self.metadata_service.as_ref()
    }

    /// Where the machine's figures can be had without a certificate, where that is set.
    #[must_use]
    pub fn metrics(&self) -> Option<&Metrics> {
        self.metrics.as_ref()
    }

    /// Where logs are sent to, in the order of their names.
    #[must_use]
    pub fn log_sinks(&self) -> &[LogSink] {
        &self.log_sinks
    }

    /// When a machine that hangs is reset, where that is set.
    #[must_use]
    pub fn watchdog(&self) -> Option<&Watchdog> {
        self.watchdog.as_ref()
    }

    /// Which images it takes, where that is set.
    #[must_use]
    pub fn upgrade_policy(&self) -> Option<&UpgradePolicy> {
        self.upgrade_policy.as_ref()
    }

    /// What the kernel is told when it starts, in order.
    #[must_use]
    pub fn kernel_args(&self) -> &[KernelArg] {
        self.kernel_args.as_ref().map(KernelArgs::args).unwrap_or_default()
    }

    /// Modules that no device asks for, in the order of their names.
    #[must_use]
    pub fn kernel_modules(&self) -> &[KernelModule] {
        &self.kernel_modules
    }

    /// Settings of the kernel, in the order of their names.
    #[must_use]
    pub fn sysctls(&self) -> &[Sysctl] {
        &self.sysctls
    }

    /// Authorities that the machine believes besides those of the image, in the order of their names.
    #[must_use]
    pub fn trusted_roots(&self) -> &[TrustedRoots] {
        &self.trusted_roots
    }

    /// Where else to look for what registries have, in the order of their names.
    #[must_use]
    pub fn registry_mirrors(&self) -> &[RegistryMirror] {
        &self.registry_mirrors
    }

    /// With which passwords registries are asked, in the order of their names.
    #[must_use]
    pub fn registry_auths(&self) -> &[RegistryAuth] {
        &self.registry_auths
    }

    /// Variables of services, in the order of their names.
    #[must_use]
    pub fn environments(&self) -> &[Environment] {
        &self.environments
    }

    /// Files below a few folders of `/etc`, in the order of their names.
    #[must_use]
    pub fn files(&self) -> &[Files] {
        &self.files
    }

    /// Its documents, in canonical order.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let mut documents = vec![Document::Identity(self.identity.clone())];
        documents.extend(self.client_access.clone().map(Document::ClientAccess));
        let hostname = self.hostname.clone();
        documents
            .extend(hostname.map(|hostname| Document::Hostname(HostnameDocument { hostname })));
        documents.extend(self.links.iter().cloned().map(Document::Link));
        documents.extend(self.virtual_links.iter().map(VirtualLink::document));
        documents.extend(self.routing_rules.iter().cloned().map(Document::RoutingRule));
        documents.extend(self.firewall.clone().map(Document::Firewall));
        documents.extend(self.hosts.iter().cloned().map(Document::Hosts));
        documents.extend(self.resolver.clone().map(Document::Resolver));
        documents.extend(self.time.clone().map(Document::Time));
        documents.extend(self.probes.iter().map(|probe| Document::Probe(probe.document().clone())));
        let checks = self.health_checks.iter().map(|check| check.document().clone());
        documents.extend(checks.map(Document::HealthCheck));
        documents.extend(self.metadata_service.clone().map(Document::MetadataService));
        documents.extend(self.metrics.clone().map(Document::Metrics));
        documents.extend(self.log_sinks.iter().cloned().map(Document::LogSink));
        documents.extend(self.watchdog.clone().map(Document::Watchdog));
        documents.extend(self.upgrade_policy.clone().map(Document::UpgradePolicy));
        documents.extend(self.kernel_args.clone().map(Document::KernelArgs));
        documents.extend(self.kernel_modules.iter().cloned().map(Document::KernelModule));
        documents.extend(self.sysctls.iter().cloned().map(Document::Sysctl));
        documents.extend(self.trusted_roots.iter().cloned().map(Document::TrustedRoots));
        documents.extend(self.registry_mirrors.iter().cloned().map(Document::RegistryMirror));
        documents.extend(self.registry_auths.iter().cloned().map(Document::RegistryAuth));
        documents.extend(self.environments.iter().cloned().map(Document::Environment));
        documents.extend(self.files.iter().cloned().map(Document::Files));
        documents
    }

    /// Reads all documents of a stream. Every finding goes to the report; without any, there is a configuration.
    /// `inspect` may look closer at each document that is good in itself.
    pub(crate) fn read(
        nodes: &[(u32, Node)],
        mut inspect: impl FnMut(&Document, &Node, &mut Report),
        report: &mut Report,
    ) -> Option<MachineConfig> {
        let mut parts = Parts::default();
        for (number, node) in nodes {
            report.enter(*number);
            // What cannot be read may be one.
            parts.identity_seen |= node.text("kind").is_none_or(|kind| kind == "Identity");
            if let Some(document) = crate::document::read(node, report) {
                inspect(&document, node, report);
                parts.add(document, node, report);
            }
        }
        // An Identity that could not be read has its own findings.
        if !parts.identity_seen {
            report.enter(0);
            report.find(
                0,
                "there is no document of the kind Identity",
                "exactly one; ctl gen config makes it",
            );
        }
        parts.count(report);
        virtual_link::check_together(&parts.virtual_links, &parts.links, report);
        delegated::check_together(&parts.links, report);
        let identity = parts.identity.map(|(identity, _)| identity)?;
        report.is_empty().then(|| MachineConfig {
            identity,
            client_access: parts.client_access.map(|(access, _)| access),
            hostname: parts.hostname.map(|(document, _)| document.hostname),
            links: sorted(parts.links, Link::name),
            virtual_links: virtual_link::sorted(parts.virtual_links),
            routing_rules: sorted(parts.routing_rules, RoutingRule::name),
            firewall: parts.firewall.map(|(firewall, _)| firewall),
            hosts: sorted(parts.hosts, Hosts::name),
            resolver: parts.resolver.map(|(resolver, _)| resolver),
            time: parts.time.map(|(time, _)| time),
            probes: (sorted(parts.probes, ProbeDocument::name).into_iter())
                .filter_map(Probe::new)
                .collect(),
            health_checks: (sorted(parts.health_checks, HealthCheckDocument::name).into_iter())
                .filter_map(HealthCheck::new)
                .collect(),
            metadata_service: parts.metadata_service.map(|(service, _)| service),
            metrics: parts.metrics.map(|(metrics, _)| metrics),
            log_sinks: sorted(parts.log_sinks, LogSink::name),
            watchdog: parts.watchdog.map(|(watchdog, _)| watchdog),
            upgrade_policy: parts.upgrade_policy.map(|(policy, _)| policy),
            kernel_args: parts.kernel_args.map(|(args, _)| args),
            kernel_modules: sorted(parts.kernel_modules, KernelModule::name),
            sysctls: sorted(parts.sysctls, Sysctl::name),
            trusted_roots: sorted(parts.trusted_roots, TrustedRoots::name),
            registry_mirrors: sorted(parts.registry_mirrors, RegistryMirror::name),
            registry_auths: sorted(parts.registry_auths, RegistryAuth::name),
            environments: sorted(parts.environments, Environment::name),
            files: sorted(parts.files, Files::name),
        })
    }
}

/// What was read so far, each with its line.
#[derive(Default)]
pub(crate) struct Parts {
    identity_seen: bool,
    identity: Option<(Identity, u32)>,
    client_access: Option<(ClientAccess, u32)>,
    hostname: Option<(HostnameDocument, u32)>,
    pub(crate) links: Vec<(Link, u32)>,
    pub(crate) virtual_links: Vec<(VirtualLink, u32)>,
    routing_rules: Vec<(RoutingRule, u32)>,
    firewall: Option<(Firewall, u32)>,
    hosts: Vec<(Hosts, u32)>,
    pub(crate) resolver: Option<(Resolver, u32)>,
    time: Option<(Time, u32)>,
    probes: Vec<(ProbeDocument, u32)>,
    health_checks: Vec<(HealthCheckDocument, u32)>,
    metadata_service: Option<(MetadataService, u32)>,
    metrics: Option<(Metrics, u32)>,
    log_sinks: Vec<(LogSink, u32)>,
    watchdog: Option<(Watchdog, u32)>,
    upgrade_policy: Option<(UpgradePolicy, u32)>,
    kernel_args: Option<(KernelArgs, u32)>,
    kernel_modules: Vec<(KernelModule, u32)>,
    sysctls: Vec<(Sysctl, u32)>,
    trusted_roots: Vec<(TrustedRoots, u32)>,
    registry_mirrors: Vec<(RegistryMirror, u32)>,
    registry_auths: Vec<(RegistryAuth, u32)>,
    environments: Vec<(Environment, u32)>,
    files: Vec<(Files, u32)>,
}

impl Parts {
    pub(crate) fn add(&mut self, document: Document, node: &Node, report: &mut Report) {
        match document {
            Document::Identity(identity) => set(&mut self.identity, identity, node, report),
            Document::ClientAccess(access) => set(&mut self.client_access, access, node, report),
            Document::Hostname(hostname) => set(&mut self.hostname, hostname, node, report),
            Document::Resolver(resolver) => set(&mut self.resolver, resolver, node, report),
            Document::Time(time) => set(&mut self.time, time, node, report),
            Document::Firewall(firewall) => set(&mut self.firewall, firewall, node, report),
            Document::KernelArgs(args) => set(&mut self.kernel_args, args, node, report),
            Document::MetadataService(service) => {
                set(&mut self.metadata_service, service, node, report);
            }
            Document::Metrics(metrics) => set(&mut self.metrics, metrics, node, report),
            Document::Watchdog(watchdog) => set(&mut self.watchdog, watchdog, node, report),
            Document::UpgradePolicy(policy) => set(&mut self.upgrade_policy, policy, node, report),
            Document::Link(link) => {
                let each = "one Link for each interface";
                for (other, _) in &self.links {
                    link.check_beside(other, node, report);
                }
                push(&mut self.links, link, Link::name, ("Link", each), node, report);
            }
            Document::Dummy(dummy) => self.add_link(VirtualLink::Dummy(dummy), node, report),
            Document::Veth(veth) => self.add_link(VirtualLink::Veth(veth), node, report),
            Document::VLAN(vlan) => self.add_link(VirtualLink::Vlan(vlan), node, report),
            Document::Bridge(bridge) => self.add_link(VirtualLink::Bridge(bridge), node, report),
            Document::Bond(bond) => self.add_link(VirtualLink::Bond(bond), node, report),
            Document::VRF(vrf) => self.add_link(VirtualLink::Vrf(vrf), node, report),
            Document::WireGuard(tunnels) => {
                self.add_link(VirtualLink::WireGuard(tunnels), node, report);
            }
            Document::RoutingRule(rule) => {
                let each = "another name for each rule";
                for (other, _) in &self.routing_rules {
                    rule.check_beside(other, node, report);
                }
                let (rules, name) = (&mut self.routing_rules, RoutingRule::name);
                push(rules, rule, name, ("RoutingRule", each), node, report);
            }
            Document::Hosts(hosts) => {
                let each = "another name for each";
                push(&mut self.hosts, hosts, Hosts::name, ("Hosts", each), node, report);
            }
            Document::Probe(probe) => {
                let each = "another name for each probe";
                push(&mut self.probes, probe, ProbeDocument::name, ("Probe", each), node, report);
            }
            Document::HealthCheck(check) => {
                let each = "another name for each check";
                let (checks, name) = (&mut self.health_checks, HealthCheckDocument::name);
                push(checks, check, name, ("HealthCheck", each), node, report);
            }
            Document::KernelModule(module) => {
                let each = "one KernelModule for each module";
                let (modules, name) = (&mut self.kernel_modules, KernelModule::name);
                push(modules, module, name, ("KernelModule", each), node, report);
            }
            Document::LogSink(sink) => {
                let each = "another name for each sink";
                push(&mut self.log_sinks, sink, LogSink::name, ("LogSink", each), node, report);
            }
            Document::Sysctl(sysctl) => {
                let each = "one Sysctl for each setting";
                push(&mut self.sysctls, sysctl, Sysctl::name, ("Sysctl", each), node, report);
            }
            Document::TrustedRoots(roots) => {
                let each = "another name for each";
                push(
                    &mut self.trusted_roots,
                    roots,
                    TrustedRoots::name,
                    ("TrustedRoots", each),
                    node,
                    report,
                );
            }
            Document::RegistryMirror(mirror) => {
                let each = "one RegistryMirror for each registry";
                push(
                    &mut self.registry_mirrors,
                    mirror,
                    RegistryMirror::name,
                    ("RegistryMirror", each),
                    node,
                    report,
                );
            }
            Document::RegistryAuth(auth) => {
                let each = "one RegistryAuth for each registry";
                push(
                    &mut self.registry_auths,
                    auth,
                    RegistryAuth::name,
                    ("RegistryAuth", each),
                    node,
                    report,
                );
            }
            Document::Environment(environment) => {
                let each = "another name for each";
                for (other, _) in &self.environments {
                    environment.check_beside(other, node, report);
                }
                push(
                    &mut self.environments,
                    environment,
                    Environment::name,
                    ("Environment", each),
                    node,
                    report,
                );
            }
            Document::Files(files) => {
                let each = "another name for each";
                for (other, _) in &self.files {
                    files.check_beside(other, node, report);
                }
                push(&mut self.files, files, Files::name, ("Files", each), node, report);
            }
        }
    }

    fn add_link(&mut self, link: VirtualLink, node: &Node, report: &mut Report) {
        for (other, _) in &self.virtual_links {
            link.check_beside(other, node, report);
        }
        self.virtual_links.push((link, node.line));
    }

    /// Says of which kinds there are too many documents.
    fn count(&self, report: &mut Report) {
        limit(&self.probes, MAX_PROBES, "probes", report);
        limit(&self.health_checks, MAX_CHECKS, "health checks", report);
        limit(&self.routing_rules, MAX_RULES, "routing rules", report);
        limit(&self.hosts, MAX_HOSTS, "documents of hosts", report);
        limit(&self.log_sinks, MAX_SINKS, "log sinks", report);
        limit(&self.kernel_modules, MAX_MODULES, "kernel modules", report);
        limit(&self.sysctls, MAX_SYSCTLS, "sysctls", report);
        limit(&self.trusted_roots, MAX_ROOTS, "documents of trusted roots", report);
        limit(&self.registry_mirrors, MAX_REGISTRIES, "registry mirrors", report);
        limit(&self.registry_auths, MAX_REGISTRIES, "registry passwords", report);
        limit(&self.environments, MAX_ENVIRONMENTS, "documents of variables", report);
        limit(&self.files, MAX_FILES, "documents of files", report);
    }
}

/// Adds a document of a kind with names, of which each is there once.
fn push<T, N: PartialEq + Display + ?Sized>(
    documents: &mut Vec<(T, u32)>,
    document: T,
    name: impl Fn(&T) -> &N,
    (kind, each): (&str, &str),
    node: &Node,
    report: &mut Report,
) {
    let other = documents.iter().find(|(other, _)| name(other) == name(&document));
    if let Some((_, line)) = other {
        let message = format!("there is another {kind} {}{}", name(&document), on_line(*line));
        report.find_at(node, "name", message, each);
    }
    documents.push((document, node.line));
}

fn limit<T>(documents: &[(T, u32)], most: usize, what: &str, report: &mut Report) {
    if let Some((_, line)) = documents.get(most) {
        report.enter(0);
        report.find(
            *line,
            format!("there are {} {what}", documents.len()),
            format!("at most {most}"),
        );
    }
}

/// The documents of a kind in the order of their names.
pub(crate) fn sorted<T, N: Ord + ?Sized>(
    documents: Vec<(T, u32)>,
    name: impl Fn(&T) -> &N,
) -> Vec<T> {
    let mut documents: Vec<T> = documents.into_iter().map(|(document, _)| document).collect();
    documents.sort_by(|a, b| name(a).cmp(name(b)));
    documents
}

fn set<T>(slot: &mut Option<(T, u32)>, document: T, node: &Node, report: &mut Report) {
    if let Some((_, line)) = slot {
        report.find(
            node.line,
            format!("there is another document of this kind{}", on_line(*line)),
            "at most one",
        );
        return;
    }
    *slot = Some((document, node.line));
}

fn on_line(line: u32) -> String {
    if line > 0 { format!(", on line {line}") } else { String::new() }
}
