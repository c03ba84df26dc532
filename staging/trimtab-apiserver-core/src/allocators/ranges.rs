//! The ranges that addresses and ports come from: `10.0.0.0/16`, `30000-32767`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::service::Family;
use crate::ambient::Entropy;

/// A text that is not a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid range {text:?}: {why}")]
pub struct InvalidRange {
    text: String,
    why: &'static str,
}

/// A range of IP addresses, as `10.0.0.0/16`.
///
/// The first address names the network and, for IPv4, the last one is its broadcast address; neither is allocated.
/// The start of the range is left to those who name an address of their own choice, as kube-apiserver does, until
/// the rest is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    first: u128,
    bits: u32,
    family: Family,
}

/// The most addresses that are left to those who choose one, and the fewest.
const STATIC_MOST: u128 = 256;
const STATIC_FEWEST: u128 = 16;
/// Ranges are used up to this many addresses, so that looking through one ends.
const LARGEST: u128 = 1 << 20;

impl IpRange {
    /// The range of the addresses whose first `length` bits are those of `ip`.
    ///
    /// # Errors
    /// When that are fewer than four addresses or more than 2¹¹².
    pub fn new(ip: IpAddr, length: u8) -> Result<Self, InvalidRange> {
        let invalid = |why| InvalidRange {
            text: format!("{ip}/{length}"),
            why,
        };
        let (value, width, family): (u128, u32, _) = match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32, Family::V4),
            IpAddr::V6(ip) => (ip.to_bits(), 128, Family::V6),
        };
        let bits = width
            .checked_sub(length.into())
            .ok_or_else(|| invalid("the length is too large"))?;
        if !(2..=112).contains(&bits) {
            return Err(invalid("too few or too many addresses"));
        }
        Ok(Self {
            first: value >> bits << bits,
            bits,
            family,
        })
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// The first address that can be allocated: that of the API server itself.
    pub fn api_server(&self) -> IpAddr {
        self.at(1)
    }

    /// Whether an address can be allocated.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (value, family) = match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), Family::V4),
            IpAddr::V6(ip) => (ip.to_bits(), Family::V6),
        };
        family == self.family && value > self.first && value - self.first <= self.last()
    }

    /// The offset of the last address that can be allocated.
    fn last(&self) -> u128 {
        let size = 1u128.checked_shl(self.bits).unwrap_or(u128::MAX);
        let last = size - if self.family == Family::V4 { 2 } else { 1 };
        last.min(LARGEST)
    }

    fn at(&self, offset: u128) -> IpAddr {
        let value = self.first + offset;
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(value).unwrap_or(u32::MAX))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(value)),
        }
    }

    /// How many addresses at the start are left to those who choose one.
    fn kept_back(&self) -> u128 {
        let last = self.last();
        if last <= STATIC_FEWEST {
            0
        } else {
            (last / 16).clamp(STATIC_FEWEST, STATIC_MOST)
        }
    }

    /// A random address outside the part that is left to those who choose one.
    pub(super) fn random(&self, entropy: &Entropy) -> Option<IpAddr> {
        let (low, high) = (self.kept_back() + 1, self.last());
        (low <= high).then(|| self.at(low + entropy.number() % (high - low + 1)))
    }

    /// All addresses, those that are left to those who choose one last.
    pub(super) fn all(self) -> impl Iterator<Item = IpAddr> {
        let kept_back = self.kept_back();
        (kept_back + 1..=self.last())
            .chain(1..=kept_back)
            .map(move |offset| self.at(offset))
    }
}

impl FromStr for IpRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = |why| InvalidRange {
            text: text.to_owned(),
            why,
        };
        let (ip, length) = text
            .split_once('/')
            .ok_or_else(|| invalid("want an address, a slash and a length"))?;
        let ip: IpAddr = ip.parse().map_err(|_| invalid("not an IP address"))?;
        let length: u8 = length.parse().map_err(|_| invalid("not a length"))?;
        Self::new(ip, length)
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(RangeInclusive<u16>);

impl Default for PortRange {
    /// 30000-32767, Kubernetes' own.
    fn default() -> Self {
        Self(30_000..=32_767)
    }
}

impl PortRange {
    pub(super) fn contains(&self, port: u16) -> bool {
        self.0.contains(&port)
    }

    pub(super) fn random(&self, entropy: &Entropy) -> u16 {
        let size = u128::from(self.0.end() - self.0.start()) + 1;
        self.0.start() + u16::try_from(entropy.number() % size).unwrap_or_default()
    }

    pub(super) fn all(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl FromStr for PortRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = |why| InvalidRange {
            text: text.to_owned(),
            why,
        };
        let (start, end) = text
            .split_once('-')
            .ok_or_else(|| invalid("want two ports and a dash"))?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| invalid("not a port"));
        let (start, end) = (port(start)?, port(end)?);
        if start == 0 || start > end {
            return Err(invalid("the first port must be above 0 and not above the last"));
        }
        Ok(Self(start..=end))
    }
}
