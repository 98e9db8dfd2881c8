// SPDX-License-Identifier: Apache-2.0
//! Addresses of links.

use super::{NetError, Netlink, OWNER, Refusal, family};
use netlink_bindings::rt_addr::{Ifaddrmsg, PushAddrAttrs, Request};
use std::net::{IpAddr, Ipv4Addr};

/// An address as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressInfo {
    /// The link it is on.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Who added it: [`OWNER`] for us.
    pub protocol: u8,
    /// Whether the kernel still looks for another machine that has it (IPv6), so that it can't be used yet.
    pub tentative: bool,
    /// Whether the kernel found another machine that has it (IPv6).
    pub duplicate: bool,
}

impl Netlink {
    /// Every address of every link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn addresses(&mut self) -> Result<Vec<AddressInfo>, NetError> {
        self.dump_addresses().map_err(|source| NetError::List { what: "addresses", source })
    }

    fn dump_addresses(&mut self) -> Result<Vec<AddressInfo>, Refusal> {
        let request = Request::new().op_getaddr_dump(&Ifaddrmsg::default());
        let mut reply = self.0.request(&request)?;
        let mut addresses = Vec::new();
        while let Some(message) = reply.recv() {
            let (header, attributes) = message?;
            // IFA_ADDRESS is the far end on point-to-point links; IFA_LOCAL, where there is one, is ours.
            let Ok(address) = attributes.get_local().or_else(|_| attributes.get_address()) else {
                continue;
            };
            // The header has room for the first eight flags only.
            let flags = attributes.get_flags().unwrap_or_else(|_| u32::from(header.ifa_flags));
            addresses.push(AddressInfo {
                index: header.ifa_index,
                address,
                prefix: header.ifa_prefixlen,
                protocol: attributes.get_proto().unwrap_or_default(),
                tentative: flags & libc::IFA_F_TENTATIVE != 0,
                duplicate: flags & libc::IFA_F_DADFAILED != 0,
            });
        }
        Ok(addresses)
    }

    /// Adds an address that carries [`OWNER`]; one that is there already is taken over.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no such link.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), NetError> {
        let mut request =
            Request::new().set_change().op_newaddr_do(&header(index, address, prefix));
        // IPv6 has no broadcast; neither have two-address networks (RFC 3021).
        let broadcast = match address {
            IpAddr::V4(address) if prefix <= 30 => Some(broadcast(address, prefix)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        let attributes = both(request.encode(), address).push_proto(OWNER);
        match broadcast {
            Some(broadcast) => attributes.push_broadcast(broadcast).end_nested(),
            None => attributes.end_nested(),
        };
        self.change(&request).map_err(|source| NetError::AddAddress {
            index,
            address,
            prefix,
            source,
        })
    }

    /// Removes an address; it is no error when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), NetError> {
        let mut request = Request::new().op_deladdr_do(&header(index, address, prefix));
        both(request.encode(), address);
        self.remove(&request).map_err(|source| NetError::DelAddress {
            index,
            address,
            prefix,
            source,
        })
    }
}

fn header(index: u32, address: IpAddr, prefix: u8) -> Ifaddrmsg {
    Ifaddrmsg {
        ifa_family: family(address),
        ifa_prefixlen: prefix,
        ifa_index: index,
        ..Ifaddrmsg::default()
    }
}

fn both(attributes: PushAddrAttrs<&mut Vec<u8>>, address: IpAddr) -> PushAddrAttrs<&mut Vec<u8>> {
    attributes.push_local(address).push_address(address)
}

fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    address | Ipv4Addr::from_bits(u32::MAX.checked_shr(u32::from(prefix)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::broadcast;
    use std::net::Ipv4Addr;

    #[test]
    fn the_broadcast_address_has_all_host_bits_set() {
        assert_eq!(broadcast(Ipv4Addr::new(10, 0, 2, 15), 24), Ipv4Addr::new(10, 0, 2, 255));
        assert_eq!(broadcast(Ipv4Addr::new(10, 0, 2, 15), 0), Ipv4Addr::BROADCAST);
        assert_eq!(broadcast(Ipv4Addr::new(10, 0, 2, 15), 32), Ipv4Addr::new(10, 0, 2, 15));
    }
}
