//! Leases for keys that expire: one is shared by keys that are to go at about the same time, since each lease
//! costs etcd more than each key.
//!
//! The numbers are kube-apiserver's: a lease lives 5 % longer than asked for, at most a minute, serves as long as it
//! outlives what is put under it, and for 1000 keys at most.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::{Client, Kind};
use super::status::Failure;
use super::wire;

const REUSE_PERCENT: u64 = 5;
const REUSE_AT_MOST: u64 = 60;
const KEYS_AT_MOST: u32 = 1000;
/// The longest life, in seconds, that etcd grants; longer ones are cut to it: 285 years.
const LONGEST: u64 = 9_000_000_000;

/// The lease that keys with some time to live are put under at the moment.
#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    ends: Instant,
    keys: u32,
}

/// The leases in use, by the time to live that they are for.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<u64, Lease>>);

impl Leases {
    /// A lease under which a key lives at least `ttl` seconds, and not much longer.
    pub(crate) async fn get(&self, client: &Client, ttl: u64) -> Result<i64, Failure> {
        let ttl = ttl.min(LONGEST);
        if let Some(id) = self.reuse(ttl, Instant::now()) {
            return Ok(id);
        }
        let seconds = (ttl + extra(ttl)).clamp(1, LONGEST);
        let request = wire::LeaseGrant {
            ttl: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        let began = Instant::now();
        // A lease too many ends by itself.
        let answer: wire::LeaseAnswer = client.call(wire::path::LEASE_GRANT, Kind::Read, &request).await?;
        let granted = u64::try_from(answer.ttl).unwrap_or(seconds);
        self.put(ttl, answer.id, began, granted);
        Ok(answer.id)
    }

    fn reuse(&self, ttl: u64, now: Instant) -> Option<i64> {
        let mut leases = self.0.lock();
        leases.retain(|_, lease| lease.ends > now);
        let lease = leases.get_mut(&ttl)?;
        let lives = now + Duration::from_secs(ttl) <= lease.ends;
        (lives && lease.keys < KEYS_AT_MOST).then(|| {
            lease.keys += 1;
            lease.id
        })
    }

    fn put(&self, ttl: u64, id: i64, began: Instant, granted: u64) {
        let ends = began + Duration::from_secs(granted.min(LONGEST));
        self.0.lock().insert(ttl, Lease { id, ends, keys: 1 });
    }

    /// Forgets leases that etcd does not know any more.
    pub(crate) fn forget(&self, ids: &[i64]) {
        self.0.lock().retain(|_, lease| !ids.contains(&lease.id));
    }
}

fn extra(ttl: u64) -> u64 {
    (ttl.saturating_mul(REUSE_PERCENT) / 100).min(REUSE_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_serves_while_it_outlives_the_key() {
        let leases = Leases::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        leases.put(100, 7, now, 105);
        assert_eq!(leases.reuse(100, at(5)), Some(7));
        assert_eq!(leases.reuse(99, at(5)), None, "for another time");
        assert_eq!(leases.reuse(100, at(6)), None, "the key would go too early");
        leases.forget(&[7]);
        assert_eq!(leases.reuse(100, at(1)), None, "forgotten");
        leases.put(100, 8, now, 105);
        for _ in 1..KEYS_AT_MOST {
            assert_eq!(leases.reuse(100, at(1)), Some(8));
        }
        assert_eq!(leases.reuse(100, at(1)), None, "it has its keys");
        assert_eq!(leases.reuse(100, at(106)), None);
        assert!(leases.0.lock().is_empty(), "what has ended is dropped");
    }

    #[test]
    fn a_lease_lives_a_little_longer() {
        for (ttl, wanted) in [(1, 0), (15, 0), (100, 5), (3600, 60), (1_000_000, 60)] {
            assert_eq!(extra(ttl), wanted, "{ttl}");
        }
    }
}
