// SPDX-License-Identifier: Apache-2.0
//! Links: what there is, up, down, MTU.

use super::{GROUP, LinkChange, LinkForm, NetError, Netlink, Refusal, virtual_links};
use netlink_bindings::rt_link::{Ifinfomsg, Request};
use std::{fs, path::Path};

/// A link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when that is an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// The hardware address that its device was made with, whatever it has now.
    pub permanent: Option<[u8; 6]>,
    /// The largest packet it carries.
    pub mtu: u32,
    /// The largest packet that it can carry, where its driver says so.
    pub max_mtu: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier; always false while it is down.
    pub carrier: bool,
    /// Whether it finds hardware addresses by ARP, as Ethernet links do but those that lead nowhere.
    pub arp: bool,
    /// Whether it is an Ethernet link with a device behind it, in contrast to bridges, tunnels and the loopback.
    pub physical: bool,
    /// The PCI device that it is, or is a part of: domain, bus, device and function.
    pub pci: Option<String>,
    /// The driver of that device.
    pub driver: Option<String>,
    /// What the kernel made it as, where it is of a form that we know.
    pub form: Option<LinkForm>,
    /// Whether we made it.
    pub ours: bool,
    /// The bridge, bond or VRF that it is in.
    pub master: Option<u32>,
    /// The link that it uses whenever it can, if it is a bond that has such a one.
    pub primary: Option<u32>,
    /// The link that it is on, or the other end of its cable, if that is here.
    pub parent: Option<u32>,
    /// Whether the router that the kernel heard last says that addresses are had by DHCPv6: the flag Managed.
    pub managed: bool,
    /// Whether it says that DHCPv6 has other things to tell: the flag Other.
    pub other: bool,
}

/// `IF_RA_MANAGED` and `IF_RA_OTHERCONF` of the kernel's `net/if_inet6.h`. It keeps both until another router speaks.
const RA_MANAGED: u32 = 0x40;
const RA_OTHER: u32 = 0x80;

/// The PCI device that a device is, or is a part of, as virtio's are.
fn pci(device: &Path) -> Option<String> {
    let place = fs::canonicalize(device).ok()?;
    let mut above = place.ancestors().take_while(|folder| folder.starts_with("/sys/devices"));
    let found = above.find(|folder| {
        fs::read_link(folder.join("subsystem")).is_ok_and(|subsystem| subsystem.ends_with("pci"))
    })?;
    Some(found.file_name()?.to_string_lossy().into_owned())
}

impl Netlink {
    /// Every link, by index.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn links(&mut self) -> Result<Vec<LinkInfo>, NetError> {
        self.dump_links().map_err(|source| NetError::List { what: "links", source })
    }

    fn dump_links(&mut self) -> Result<Vec<LinkInfo>, Refusal> {
        let request = Request::new().op_getlink_dump(&Ifinfomsg::default());
        let mut reply = self.0.request(&request)?;
        let mut links = Vec::new();
        while let Some(message) = reply.recv() {
            let (header, attributes) = message?;
            let (Ok(index), Ok(name)) = (u32::try_from(header.ifi_index), attributes.get_ifname())
            else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            let device = Path::new("/sys/class/net").join(&name).join("device");
            let ethernet = header.ifi_type == libc::ARPHRD_ETHER;
            let inet6 = attributes.get_af_spec().and_then(|families| families.get_inet6());
            let routers = inet6.and_then(|inet6| inet6.get_flags()).unwrap_or_default();
            let mute = libc::IFF_NOARP | libc::IFF_LOOPBACK | libc::IFF_POINTOPOINT;
            let up = header.ifi_flags & libc::IFF_UP as u32 != 0;
            let info = attributes.get_linkinfo().ok();
            let mac = |bytes: &[u8]| bytes.try_into().ok().filter(|_| ethernet);
            links.push(LinkInfo {
                index,
                mac: attributes.get_address().ok().and_then(mac),
                permanent: attributes.get_perm_address().ok().and_then(mac),
                mtu: attributes.get_mtu().unwrap_or_default(),
                max_mtu: attributes.get_max_mtu().ok().filter(|max| *max > 0),
                up,
                carrier: up && header.ifi_flags & libc::IFF_LOWER_UP as u32 != 0,
                arp: ethernet && header.ifi_flags & mute as u32 == 0,
                physical: ethernet && device.exists(),
                pci: pci(&device),
                driver: fs::read_link(device.join("driver"))
                    .ok()
                    .and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned())),
                form: info.as_ref().and_then(LinkForm::observe),
                ours: attributes.get_group().is_ok_and(|group| group == GROUP),
                master: attributes.get_master().ok(),
                primary: info.as_ref().and_then(virtual_links::primary),
                parent: attributes
                    .get_link()
                    .ok()
                    .filter(|_| attributes.get_link_netnsid().is_err()),
                managed: routers & RA_MANAGED != 0,
                other: routers & RA_OTHER != 0,
                name,
            });
        }
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no such link.
    pub fn set_up(&mut self, index: u32) -> Result<(), NetError> {
        self.set_link(index, LinkChange::Up)
    }

    /// Sets a link down; the kernel drops its routes.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no such link.
    pub fn set_down(&mut self, index: u32) -> Result<(), NetError> {
        self.set_link(index, LinkChange::Down)
    }

    /// Sets the MTU of a link.
    ///
    /// # Errors
    /// When the link or its driver can't have it.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetError> {
        self.set_link(index, LinkChange::Mtu(mtu))
    }

    pub(super) fn set_link(&mut self, index: u32, change: LinkChange) -> Result<(), NetError> {
        let up = libc::IFF_UP as u32;
        let (flags, mask) = match change {
            LinkChange::Up => (up, up),
            LinkChange::Down => (0, up),
            LinkChange::Mtu(_) | LinkChange::Master(_) | LinkChange::Form | LinkChange::Vlans => {
                (0, 0)
            }
        };
        let header = Ifinfomsg {
            ifi_index: index as i32,
            ifi_flags: flags,
            ifi_change: mask,
            ..Ifinfomsg::default()
        };
        // RTM_NEWLINK without NLM_F_CREATE changes the link that is there.
        let mut request = Request::new().op_newlink_do(&header);
        match change {
            LinkChange::Mtu(mtu) => {
                request.encode().push_mtu(mtu);
            }
            LinkChange::Master(master) => {
                request.encode().push_master(master.unwrap_or_default());
            }
            LinkChange::Up | LinkChange::Down | LinkChange::Form | LinkChange::Vlans => {}
        }
        self.change(&request).map_err(|source| NetError::Link { index, change, source })
    }
}
