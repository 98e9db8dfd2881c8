// SPDX-License-Identifier: Apache-2.0
//! An IP address with the length of its network's prefix (RFC 4632, RFC 4291 section 2.3).

use crate::value::Text;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address with the length of its network's prefix: `192.0.2.10/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not an address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It has no `/`.
    #[error("the prefix length is missing")]
    NoPrefix,
    /// What is before the `/` is no address.
    #[error("what is before the / is no IP address")]
    Address,
    /// What is after the `/` is no number.
    #[error("what is after the / is no number")]
    Prefix,
    /// The prefix is longer than the address.
    #[error("the prefix is longer than the {0} bits of the address")]
    Long(u8),
}

impl Cidr {
    /// An address with the length of its network's prefix; none if the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        (prefix <= bits(address)).then_some(Cidr { address, prefix })
    }

    /// The address, host bits included.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network: the same without host bits.
    #[must_use]
    pub fn network(&self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Cidr { address, prefix: self.prefix }
    }

    /// True if the address belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Cidr::new(address, self.prefix).is_some_and(|other| {
            other.address.is_ipv4() == self.address.is_ipv4() && other.network() == self.network()
        })
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError::NoPrefix)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        // No sign, and no leading zero that someone could take for octal.
        if !prefix.bytes().all(|b| b.is_ascii_digit())
            || (prefix.len() > 1 && prefix.starts_with('0'))
        {
            return Err(CidrError::Prefix);
        }
        let prefix: u32 = prefix.parse().map_err(|_| CidrError::Prefix)?;
        let prefix = u8::try_from(prefix).map_err(|_| CidrError::Long(bits(address)))?;
        Cidr::new(address, prefix).ok_or(CidrError::Long(bits(address)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Text for Cidr {
    const WHAT: &'static str = "an IP address with a prefix length";
    const EXAMPLE: &'static str = "192.0.2.10/24";
    const PATTERN: &'static str = "^[0-9a-fA-F:.]+/[0-9]{1,3}$";
}
