//! The simulated nodes and their addresses: which nodes are ours, and which address each of their pods has.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use parking_lot::RwLock;

/// Of these are the pods' addresses: 32,768 nodes with 254 pods each. Services of the API server have others.
const PODS: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// Of these are the nodes'.
const NODES: u32 = u32::from_be_bytes([172, 16, 0, 0]);
/// How many nodes there can be.
pub(crate) const MOST: usize = 32_768;
/// How many pods with addresses of their own a node has room for.
const LAST: u8 = 254;

/// All nodes that are simulated.
#[derive(Debug, Default)]
pub(crate) struct Fleet(RwLock<HashMap<String, Slot>>);

/// One node: what is kept of it is this and its name.
#[derive(Debug, Default)]
struct Slot {
    index: u32,
    /// It plays dead: nothing is heard of it, and nothing happens on it.
    silent: bool,
    /// The addresses in use, by their last byte, and whose they are.
    used: Vec<(u8, Owner)>,
    /// The one that was given last. The next is another: addresses are not used again at once.
    last: u8,
}

/// A pod's UID, in short.
type Owner = u64;

/// A node's number and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) index: u32,
    pub(crate) address: Ipv4Addr,
}

/// The address of the node with this number: `172.16.0.1` is the first.
pub(crate) fn node_address(index: u32) -> Ipv4Addr {
    let (high, low) = (index / u32::from(LAST), index % u32::from(LAST));
    Ipv4Addr::from(NODES + (high << 8) + low + 1)
}

/// The range of addresses of the node's pods.
pub(crate) fn pod_cidr(index: u32) -> String {
    format!("{}/24", Ipv4Addr::from(PODS + (index << 8)))
}

fn owner(uid: &str) -> Owner {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(uid.as_bytes());
    hasher.finish()
}

impl Fleet {
    /// Takes a node in.
    pub(crate) fn add(&self, name: &str, index: u32) {
        let slot = Slot {
            index,
            ..Slot::default()
        };
        self.0.write().entry(name.to_owned()).or_insert(slot);
    }

    /// Forgets a node that was deleted. True: it was one of ours.
    pub(crate) fn remove(&self, name: &str) -> bool {
        self.0.write().remove(name).is_some()
    }

    /// Whether the node is ours and alive, and its number and address.
    pub(crate) fn alive(&self, name: &str) -> Option<Seat> {
        let nodes = self.0.read();
        let slot = nodes.get(name).filter(|slot| !slot.silent)?;
        Some(Seat {
            index: slot.index,
            address: node_address(slot.index),
        })
    }

    /// Lets a node play dead, or wakes it. True: it has just woken up.
    pub(crate) fn silence(&self, name: &str, silent: bool) -> bool {
        match self.0.write().get_mut(name) {
            Some(slot) => std::mem::replace(&mut slot.silent, silent) && !silent,
            None => false,
        }
    }

    /// The pod's address: the one that it has already, or another than was given last. `None`: there is none left, or the
    /// node is not ours.
    pub(crate) fn address(&self, node: &str, uid: &str, has: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut nodes = self.0.write();
        let slot = nodes.get_mut(node)?;
        let base = PODS + (slot.index << 8);
        let owner = owner(uid);
        let whole = |byte: u8| Ipv4Addr::from(base + u32::from(byte));
        if let Some((byte, _)) = slot.used.iter().find(|(_, other)| *other == owner) {
            return Some(whole(*byte));
        }
        if let Some(has) = has {
            let byte = u32::from(has)
                .checked_sub(base)
                .and_then(|at| u8::try_from(at).ok());
            if let Some(byte) = byte
                && slot.used.iter().all(|(other, _)| *other != byte)
            {
                slot.used.push((byte, owner));
            }
            return Some(has);
        }
        let after = (slot.last..LAST).map(|byte| byte + 1);
        let mut candidates = after.chain(1..=slot.last);
        let free = candidates.find(|byte| slot.used.iter().all(|(other, _)| other != byte))?;
        slot.used.push((free, owner));
        slot.last = free;
        Some(whole(free))
    }

    /// Takes the pod's address back.
    pub(crate) fn release(&self, node: &str, uid: &str) {
        let owner = owner(uid);
        if let Some(slot) = self.0.write().get_mut(node) {
            slot.used.retain(|(_, other)| *other != owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_not_used_again_at_once() {
        let fleet = Fleet::default();
        fleet.add("n", 258);
        let text = |address: Option<Ipv4Addr>| address.map(|a| a.to_string());
        assert_eq!(text(fleet.address("n", "a", None)), Some("10.129.2.1".to_owned()));
        assert_eq!(fleet.address("n", "a", None), fleet.address("n", "a", None));
        fleet.release("n", "a");
        assert_eq!(text(fleet.address("n", "b", None)), Some("10.129.2.2".to_owned()));
        // What pods had before a restart stays theirs.
        let had = Some(Ipv4Addr::new(10, 129, 2, 3));
        assert_eq!(fleet.address("n", "c", had), had);
        let all: std::collections::BTreeSet<_> = (0..252)
            .filter_map(|pod| fleet.address("n", &pod.to_string(), None))
            .collect();
        assert_eq!(all.len(), 252);
        assert_eq!(fleet.address("n", "full", None), None);
        fleet.release("n", "7");
        assert!(fleet.address("n", "again", None).is_some());
        assert_eq!(fleet.address("other", "a", None), None);
    }

    #[test]
    fn nodes_have_addresses_of_their_own() {
        let all: std::collections::BTreeSet<_> = (0..5000).map(node_address).collect();
        assert_eq!(all.len(), 5000);
        assert_eq!(node_address(254).to_string(), "172.16.1.1");
        assert_eq!(pod_cidr(1), "10.128.1.0/24");
    }
}
