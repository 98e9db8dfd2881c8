// SPDX-License-Identifier: Apache-2.0
//! The third look at a configuration: gathers what there is to know of the machine for [`stele_machine::look`].

use super::Understood;
use crate::{arguments, devices::ModuleError, memory, node::Node, state, store::Kind};
use serde_json::Value;
use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};
use stele_config::{Cidr, Device, Finding, MachineConfig, Metrics, Sysctl};
use stele_kernel::mount;
use stele_machine::look::{self, Fault, Machine, Nic, Setting};

/// How long the modules may be looked at, which takes no time unless the thread for them has other things to do.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a generation takes beside its documents, and what is written beside it.
const MARGIN: u64 = 64 * 1024;
/// Where the kernel has its settings.
const SETTINGS: &str = "/proc/sys";

/// What this machine can't do.
pub(super) async fn inspect(node: &Node, understood: &Understood) -> Vec<Finding> {
    let Understood { config, canonical, places } = understood;
    let up = node.configuration.active().is_some();
    let persistent = node.state.get().is_some_and(|state| state.persistent);
    let active = node.configuration.active();
    let figures = |config: &MachineConfig| config.metrics().map(Metrics::address);
    let own = active.as_ref().and_then(|active| figures(&active.config));
    let moves = figures(config).is_some_and(|address| Some(address) != own);
    let sysctls = config.sysctls().to_vec();
    // It fails only by panicking, which ends the machine.
    let files = tokio::task::spawn_blocking(move || Machine {
        // To walk the kernel's tables takes longer than all the rest.
        listening: if moves { listening(own) } else { Vec::new() },
        ..files(&sysctls, persistent)
    });
    let machine = Machine {
        up,
        links: links(node),
        addresses: addresses(node),
        modules: if up { modules(node, config).await } else { BTreeMap::new() },
        watchdogs: watchdogs(node),
        arguments: active.map(|active| arguments::words(&active.config)).unwrap_or_default(),
        no_arguments: arguments::obstacle(persistent).map(str::to_owned),
        size: u64::try_from(canonical.len()).unwrap_or(u64::MAX).saturating_add(MARGIN),
        ..files.await.unwrap_or_default()
    };
    places.find(look::look(config, &machine))
}

/// Where somebody listens, but for those who give the figures now.
fn listening(figures: Option<SocketAddr>) -> Vec<SocketAddr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(read);
    let listening = tables.iter().flat_map(|table| look::listening(table));
    listening.filter(|address| Some(*address) != figures).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What is in files.
fn files(sysctls: &[Sysctl], persistent: bool) -> Machine {
    let memory = read("/proc/meminfo");
    Machine {
        settings: settings(Path::new(SETTINGS), sysctls),
        memory: memory::field(&memory, "MemTotal:"),
        huge_page: memory::field(&memory, "Hugepagesize:"),
        room: mount::usage(Path::new(state::ROOT))
            .ok()
            .filter(|_| persistent)
            .map(|usage| usage.free),
        ..Machine::default()
    }
}

/// The settings below a folder that can't be made.
fn settings(root: &Path, sysctls: &[Sysctl]) -> BTreeMap<String, Setting> {
    let look = |sysctl: &Sysctl| {
        let path = root.join(sysctl.name().path());
        let why = match fs::metadata(&path) {
            Ok(metadata) if !metadata.permissions().readonly() => return None,
            Ok(_) => Setting::ReadOnly,
            Err(_) => Setting::Absent(beside(sysctl.name().as_str(), &path)),
        };
        Some((sysctl.name().to_string(), why))
    };
    sysctls.iter().filter_map(look).collect()
}

/// The settings in the folder where one should be.
fn beside(name: &str, path: &Path) -> Vec<String> {
    let Some((folder, _)) = name.rsplit_once('.') else { return Vec::new() };
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| format!("{folder}.{}", entry.file_name().to_string_lossy())).collect()
}

/// The links that there are.
fn links(node: &Node) -> BTreeMap<String, Nic> {
    let look = |name: &String| {
        let status = node.store.status(Kind::Link, name)?;
        status.get("index")?;
        let max_mtu = status.get("maxMtu").and_then(Value::as_u64);
        let text = |key: &str| status.get(key).and_then(Value::as_str);
        let device = Device {
            mac: text("permanentMac").or(text("mac")).and_then(|mac| mac.parse().ok()),
            path: text("path").and_then(|path| path.parse().ok()),
            driver: text("driver").and_then(|driver| driver.parse().ok()),
        };
        let nic = Nic { device, max_mtu: max_mtu.and_then(|max_mtu| u32::try_from(max_mtu).ok()) };
        Some((name.clone(), nic))
    };
    node.store.names(Kind::Link).iter().filter_map(look).collect()
}

fn addresses(node: &Node) -> Vec<std::net::IpAddr> {
    let look = |name: &String| {
        let status = node.store.status(Kind::Address, name)?;
        let address: Cidr = status.get("address")?.as_str()?.parse().ok()?;
        Some(address.address())
    };
    node.store.names(Kind::Address).iter().filter_map(look).collect()
}

fn watchdogs(node: &Node) -> BTreeMap<String, Duration> {
    let look = |name: &String| {
        let longest = node.store.status(Kind::Watchdog, name)?.get("longest")?.as_u64()?;
        Some((name.clone(), Duration::from_secs(longest)))
    };
    node.store.names(Kind::Watchdog).iter().filter_map(look).collect()
}

/// What the image says of the modules, as far as it can be had soon.
async fn modules(node: &Node, config: &MachineConfig) -> BTreeMap<String, Fault> {
    let mut faults = BTreeMap::new();
    let Some(devices) = node.devices.get() else { return faults };
    let look = async {
        for module in config.kernel_modules() {
            let Err(error) = devices.check(module).await else { continue };
            let parameter = match &error {
                ModuleError::Parameter { key, .. } => {
                    module.parameters().iter().position(|parameter| parameter.key() == key)
                }
                _ => None,
            };
            let (path, expected) = match (&error, parameter) {
                (ModuleError::BuiltIn(_), _) => ("parameters".to_owned(), "no parameters"),
                (_, Some(index)) => (format!("parameters[{index}]"), "a parameter that it has"),
                (_, None) => ("name".to_owned(), "a module of the image"),
            };
            let (message, expected) = (error.to_string(), expected.to_owned());
            faults.insert(module.name().to_string(), Fault { path, message, expected });
        }
    };
    // What is not known by then is found when it is loaded.
    let _in_time = tokio::time::timeout(PATIENCE, look).await;
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_setting_has_to_be_there_and_to_be_settable() {
        let root = fixture::folder("inspect");
        fs::create_dir_all(root.join("vm")).unwrap();
        for name in ["swappiness", "told"] {
            fs::write(root.join("vm").join(name), "60\n").unwrap();
        }
        let mut told = fs::metadata(root.join("vm/told")).unwrap().permissions();
        told.set_readonly(true);
        fs::set_permissions(root.join("vm/told"), told).unwrap();
        let sysctl = |name: &str| format!(r#""kind":"Sysctl","name":"{name}","value":"1""#);
        let names = ["vm.swappiness", "vm.told", "vm.swapiness", "dev.none"];
        let config = fixture::config(&names.map(sysctl));
        let mut found = settings(&root, config.sysctls());
        for beside in found.values_mut() {
            if let Setting::Absent(names) = beside {
                names.sort();
            }
        }
        let beside = ["vm.swappiness", "vm.told"].map(str::to_owned).to_vec();
        assert_eq!(
            found,
            BTreeMap::from([
                ("dev.none".to_owned(), Setting::Absent(Vec::new())),
                ("vm.swapiness".to_owned(), Setting::Absent(beside)),
                ("vm.told".to_owned(), Setting::ReadOnly),
            ])
        );
        fs::remove_dir_all(root).unwrap();
    }
}
