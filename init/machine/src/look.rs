// SPDX-License-Identifier: Apache-2.0
//! The third look at a configuration: whether this very machine can do what it asks for.
//!
//! What can't be is an error, as it would only lead back to the configuration before. What may come, such as a link that is
//! plugged in, or what the kernel makes the best of, is a warning.

use crate::arguments;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use stele_config::{
    Device, Link, MachineConfig, Remark, Sysctl, VirtualLink, did_you_mean, services,
};

/// The settings that take memory as long as they stand, and how much for each of what they count.
const TAKING: [(&str, Unit); 4] = [
    ("vm.admin_reserve_kbytes", Unit::KiB),
    ("vm.min_free_kbytes", Unit::KiB),
    ("vm.nr_hugepages", Unit::HugePage),
    ("vm.user_reserve_kbytes", Unit::KiB),
];

/// What a setting counts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    KiB,
    HugePage,
}

/// What is known of the machine. What is not known is left out, and nothing is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether it has come up, so that what is not there now does not come by itself.
    pub up: bool,
    /// Its links, by name.
    pub links: BTreeMap<String, Nic>,
    /// The addresses it has.
    pub addresses: Vec<IpAddr>,
    /// Where something listens that is not of the configuration.
    pub listening: Vec<SocketAddr>,
    /// What is wrong with the kernel modules of the configuration, by name.
    pub modules: BTreeMap<String, Fault>,
    /// The settings of the configuration that can't be made, by name.
    pub settings: BTreeMap<String, Setting>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of a huge page.
    pub huge_page: Option<u64>,
    /// Bytes that are free where generations are kept.
    pub room: Option<u64>,
    /// Bytes that keeping the configuration takes.
    pub size: u64,
    /// The longest timeout of each watchdog, by its name.
    pub watchdogs: BTreeMap<String, Duration>,
    /// The kernel arguments of the configuration in force.
    pub arguments: Vec<String>,
    /// Why its kernel can't be started with any.
    pub no_arguments: Option<String>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// What is behind it.
    pub device: Device,
    /// The largest packet that it can carry.
    pub max_mtu: Option<u32>,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub path: String,
    /// What.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

/// Why a setting can't be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// There is none of this name; these are beside it.
    Absent(Vec<String>),
    /// The kernel only tells it.
    ReadOnly,
}

/// Everything that this machine, or any machine with its image, can't do.
#[must_use]
pub fn look(config: &MachineConfig, machine: &Machine) -> Vec<Remark> {
    let mut remarks = services::unknown(config);
    links(config, machine, &mut remarks);
    parts(config, machine, &mut remarks);
    metrics(config, machine, &mut remarks);
    watchdog(config, machine, &mut remarks);
    remarks.extend(kernel_args(config, machine));
    modules(config, machine, &mut remarks);
    for sysctl in config.sysctls() {
        remarks.extend(setting(config, machine, sysctl));
        remarks.extend(memory(machine, sysctl));
    }
    if let Some(room) = machine.room.filter(|room| *room < machine.size) {
        remarks.push(Remark {
            kind: "",
            name: String::new(),
            path: String::new(),
            warning: false,
            message: format!(
                "keeping it takes {}, and {} are free on STATE",
                bytes(machine.size),
                bytes(room)
            ),
            expected: "fewer or smaller documents".to_owned(),
        });
    }
    remarks
}

fn links(config: &MachineConfig, machine: &Machine, remarks: &mut Vec<Remark>) {
    let there: Vec<&str> = machine.links.keys().map(String::as_str).collect();
    for (index, link) in config.links().iter().enumerate() {
        let name = link.name().as_str();
        let about = |path: &str, warning, message, expected| Remark {
            kind: "Link",
            name: name.to_owned(),
            path: path.to_owned(),
            warning,
            message,
            expected,
        };
        let found = find(machine, link);
        match (found, link.matched()) {
            // A machine without any has not looked yet.
            (None, _) if there.is_empty() => {}
            (None, None) if config.virtual_links().iter().any(|made| makes(made, name)) => {}
            (None, Some(matched)) => {
                let message = format!("this machine has no interface with {matched} now");
                let macs = machine.links.values().filter_map(|nic| nic.device.mac);
                let macs: Vec<String> = macs.map(|mac| mac.to_string()).collect();
                let expected = format!("one of {}", macs.join(", "));
                remarks.push(about("match", true, message, expected));
            }
            (None, None) => {
                let hint = did_you_mean(name, &there);
                let message = format!("this machine has no interface {name} now{hint}");
                let expected = format!("one of {}", there.join(", "));
                remarks.push(about("name", true, message, expected));
            }
            (Some((name, nic)), _) => {
                if let (Some(most), Some(mtu)) = (nic.max_mtu, link.mtu())
                    && mtu > most
                {
                    let message = format!("{name} carries no packets of {mtu} bytes");
                    remarks.push(about("mtu", false, message, format!("at most {most}")));
                }
                let mut earlier = config.links().iter().take(index);
                let same = |other: &&Link| find(machine, other).is_some_and(|(it, _)| it == name);
                if let Some(other) = earlier.find(same) {
                    let path = if link.matched().is_some() { "match" } else { "name" };
                    let message = format!("{name} is the interface of Link {} too", other.name());
                    let expected = "one Link for each interface".to_owned();
                    remarks.push(about(path, false, message, expected));
                }
            }
        }
        let earlier = config.links().iter().take(index);
        for (at, address) in link.addresses().iter().enumerate() {
            let same = |other: &&Link| {
                other.addresses().iter().any(|theirs| theirs.address() == address.address())
            };
            // Each link has a link-local network of its own.
            let local = matches!(address.address(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            if let Some(other) = earlier.clone().find(same).filter(|_| !local) {
                let message =
                    format!("{} is an address of {} as well", address.address(), other.name());
                let path = format!("addresses[{at}]");
                remarks.push(about(&path, true, message, "each address on one link".to_owned()));
            }
        }
    }
}

/// What links that the kernel makes are on, or have in them, and the machine does not have.
fn parts(config: &MachineConfig, machine: &Machine, remarks: &mut Vec<Remark>) {
    let there: Vec<&str> = machine.links.keys().map(String::as_str).collect();
    let comes = |name: &str| {
        there.is_empty()
            || there.contains(&name)
            || config.virtual_links().iter().any(|made| makes(made, name))
            || config
                .links()
                .iter()
                .any(|link| link.name().as_str() == name && link.matched().is_some())
    };
    for link in config.virtual_links() {
        let names = link.members().into_iter().chain(link.parent());
        remarks.extend(names.filter(|name| !comes(name.as_str())).map(|name| Remark {
            kind: link.kind(),
            name: link.name().to_string(),
            path: link.below_key().to_owned(),
            warning: true,
            message: format!(
                "this machine has no interface {name} now{}",
                did_you_mean(name.as_str(), &there)
            ),
            expected: format!("one of {}", there.join(", ")),
        }));
    }
}

fn makes(link: &VirtualLink, name: &str) -> bool {
    link.makes().any(|made| made.as_str() == name)
}

/// The link that a document is for, if it is there.
fn find<'a>(machine: &'a Machine, document: &Link) -> Option<(&'a String, &'a Nic)> {
    let Some(matched) = document.matched() else {
        return machine.links.get_key_value(document.name().as_str());
    };
    let mut fitting = machine.links.iter().filter(|(_, nic)| matched.fits(&nic.device));
    // As PID 1 chooses: what has a driver has a device behind it.
    let device = fitting.clone().find(|(_, nic)| nic.device.driver.is_some());
    device.or_else(|| fitting.next())
}

fn metrics(config: &MachineConfig, machine: &Machine, remarks: &mut Vec<Remark>) {
    let Some(address) = config.metrics().map(stele_config::Metrics::address) else { return };
    let about = |message, expected| Remark {
        kind: "Metrics",
        name: String::new(),
        path: "address".to_owned(),
        warning: true,
        message,
        expected,
    };
    let ip = address.ip();
    let mut fixed = config.links().iter().flat_map(Link::addresses);
    let has = machine.addresses.contains(&ip) || fixed.any(|fixed| fixed.address() == ip);
    if !ip.is_unspecified() && !ip.is_loopback() && !has {
        let message = format!("this machine does not have the address {ip} now");
        let addresses: Vec<String> = machine.addresses.iter().map(IpAddr::to_string).collect();
        let expected = format!("0.0.0.0, [::] or one of {}", addresses.join(", "));
        remarks.push(about(message, expected));
    }
    let taken = |other: &&SocketAddr| {
        let all = ip.is_unspecified() || other.ip().is_unspecified();
        other.port() == address.port() && (all || other.ip() == ip)
    };
    if let Some(other) = machine.listening.iter().find(taken) {
        let message = format!("something on this machine listens on {other} now");
        remarks.push(about(message, "another port".to_owned()));
    }
}

fn watchdog(config: &MachineConfig, machine: &Machine, remarks: &mut Vec<Remark>) {
    let Some(timeout) = config.watchdog().map(stele_config::Watchdog::timeout) else { return };
    let short = machine.watchdogs.iter().filter(|(_, longest)| timeout > **longest);
    remarks.extend(short.map(|(name, longest)| Remark {
        kind: "Watchdog",
        name: String::new(),
        path: "timeout".to_owned(),
        warning: true,
        message: format!("{name} waits for {} s at most, and is set to that", longest.as_secs()),
        expected: format!("at most {}s", longest.as_secs()),
    }));
}

/// Says why the kernel can't have its arguments. Those that were taken before are no reason to refuse anything else.
fn kernel_args(config: &MachineConfig, machine: &Machine) -> Option<Remark> {
    let args: Vec<String> = config.kernel_args().iter().map(ToString::to_string).collect();
    if args.is_empty() {
        return None;
    }
    let too_much = |memory| {
        let message = arguments::too_much(&args, memory)?;
        Some((message, "fewer huge pages"))
    };
    let none = machine.no_arguments.clone().map(|message| (message, "no KernelArgs"));
    let (message, expected) = none.or_else(|| machine.memory.and_then(too_much))?;
    Some(Remark {
        kind: "KernelArgs",
        name: String::new(),
        path: "args".to_owned(),
        warning: args == machine.arguments,
        message,
        expected: expected.to_owned(),
    })
}

fn modules(config: &MachineConfig, machine: &Machine, remarks: &mut Vec<Remark>) {
    for name in config.kernel_modules().iter().map(stele_config::KernelModule::name) {
        let Some(fault) = machine.modules.get(name.as_str()) else { continue };
        let Fault { path, message, expected } = fault.clone();
        let (kind, name, warning) = ("KernelModule", name.to_string(), false);
        remarks.push(Remark { kind, name, path, warning, message, expected });
    }
}

/// Says that there is no such setting, or that it is none.
fn setting(config: &MachineConfig, machine: &Machine, sysctl: &Sysctl) -> Option<Remark> {
    let name = sysctl.name().as_str();
    let about = |warning, message, expected| Remark {
        kind: "Sysctl",
        name: name.to_owned(),
        path: "name".to_owned(),
        warning,
        message,
        expected,
    };
    match machine.settings.get(name)? {
        Setting::ReadOnly => {
            let message = format!("the kernel tells {name}, and does not let it be set");
            Some(about(false, message, "another setting".to_owned()))
        }
        Setting::Absent(beside) => {
            let of_link = [".conf.", ".neigh."].iter().any(|part| name.contains(part));
            let may_come = !machine.up || of_link || !config.kernel_modules().is_empty();
            let beside: Vec<&str> = beside.iter().map(String::as_str).collect();
            let hint = did_you_mean(name, &beside);
            let now = if may_come { " now" } else { "" };
            let message = format!("this kernel has no setting {name}{now}{hint}");
            let expected = "the name of a file in /proc/sys, with dots".to_owned();
            Some(about(may_come, message, expected))
        }
    }
}

/// Says that a setting takes more memory than there is.
fn memory(machine: &Machine, sysctl: &Sysctl) -> Option<Remark> {
    let name = sysctl.name().as_str();
    let (_, unit) = TAKING.iter().find(|(taking, _)| *taking == name)?;
    let unit = match unit {
        Unit::KiB => 1024,
        Unit::HugePage => machine.huge_page?,
    };
    let wanted = sysctl.value().trim().parse::<u64>().ok()?.saturating_mul(unit);
    let memory = machine.memory?;
    (wanted > memory).then(|| Remark {
        kind: "Sysctl",
        name: name.to_owned(),
        path: "value".to_owned(),
        warning: true,
        message: format!("takes {}, and the machine has {}", bytes(wanted), bytes(memory)),
        expected: format!("less than {}", memory.checked_div(unit).unwrap_or_default()),
    })
}

/// The TCP sockets that listen, of /proc/net/tcp or /proc/net/tcp6: proc_net(5).
pub fn listening(table: &str) -> impl Iterator<Item = SocketAddr> {
    /// TCP_LISTEN of include/net/tcp_states.h.
    const LISTEN: &str = "0A";
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
        let (ip, port) = local.split_once(':').filter(|_| state == LISTEN)?;
        Some(SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?))
    })
}

/// An address as the kernel writes it: each four bytes as a number of this machine.
fn address(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let start = index.checked_mul(8)?;
        let word = u32::from_str_radix(text.get(start..start.checked_add(8)?)?, 16).ok()?;
        Some(u32::from_be(word))
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from_bits(word(0)?))),
        32 => {
            let high = u64::from(word(0)?) << 32 | u64::from(word(1)?);
            let low = u64::from(word(2)?) << 32 | u64::from(word(3)?);
            let bits = u128::from(high) << 64 | u128::from(low);
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}

/// A size for people.
fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| count >> shift >= 10);
    unit.map_or_else(
        || format!("{count} bytes"),
        |(shift, unit)| format!("{} {unit}", count >> shift),
    )
}

#[cfg(test)]
mod tests;
