//! Raises etcd's revision: it counts transactions, and cannot be set while etcd runs.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use trimtab_apiserver_storage::{Error, EtcdStore, Op, Revision, Store as _, Txn};

use crate::backup::Told;
use crate::error::Result;

/// The key that is written for nothing but its revision; it goes with the mark.
pub(super) const SCRATCH: &str = "/registry.trimtab-migration.revision";
/// How many transactions are under way: etcd syncs once for all that wait.
const UNDER_WAY: usize = 256;
/// After so many, what they have left is compacted away, so that the database does not grow.
const TURN: u64 = 50_000;

/// Writes until the revision is `to` at least.
///
/// # Errors
///
/// Etcd's.
pub(super) async fn raise(store: &EtcdStore, to: Revision, told: &mut Told<'_>) -> Result<()> {
    let mut at = store.revision().await?;
    while at < to {
        let turn = (to - at).min(TURN);
        let mut writes = stream::iter(0..turn)
            .map(|_| store.txn(put()))
            .buffered(UNDER_WAY);
        while let Some(done) = writes.next().await {
            match done {
                Ok(done) => at = at.max(done.revision),
                // It counts or does not; the revision tells.
                Err(Error::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
            told(format!("raising the revision: {at} of {to}"));
        }
        drop(writes);
        at = store.revision().await?;
        compact(store, at).await?;
    }
    Ok(())
}

/// Compacts to a revision, if somebody else has not.
pub(super) async fn compact(store: &EtcdStore, revision: Revision) -> Result<()> {
    match store.compact(revision).await {
        Ok(()) | Err(Error::Compacted { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn put() -> Txn {
    Txn {
        success: vec![Op::Put {
            key: Bytes::from_static(SCRATCH.as_bytes()),
            value: Bytes::new(),
            ttl: None,
        }],
        ..Txn::default()
    }
}
