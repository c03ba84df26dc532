//! From etcd into a new embedded store: copied and followed in memory, written in one piece at the end.
//!
//! Keys keep the revisions that they have. The store begins at the revision after the last one, with nothing in its history.

use std::path::Path;
use std::pin::pin;

use trimtab_apiserver_storage::embedded::Vacant;
use trimtab_apiserver_storage::{EmbeddedStore, Error as StoreError, EtcdStore, Revision, SnapshotEntry};

use super::Migrated;
use super::follow::{Cut, Following};
use crate::backup::Told;
use crate::error::{Error, Result};
use crate::inventory::Inventory;

/// So many keys are handed to the new store at a time.
const PART: usize = 256;

pub(super) async fn run(
    store: &EtcdStore,
    vacant: Vacant,
    dir: &Path,
    follow: bool,
    stop: impl Future<Output = ()> + Send,
    told: &mut Told<'_>,
) -> Result<Migrated> {
    let mut following = Following::start(store, told).await?;
    if follow {
        let mut stop = pin!(stop);
        loop {
            let Err(error) = tokio::select! {
                biased;
                () = &mut stop => break,
                ended = following.follow(told) => ended,
            };
            let Error::Store(StoreError::Compacted { .. }) = error else {
                return Err(error);
            };
            // What was not heard of is compacted: begin anew.
            following = Following::start(store, told).await?;
        }
    }
    let Cut { revision, entries } = following.cut(store, told).await?;
    let begins = revision + 1;
    told(format!("writing: {} keys", entries.len()));
    fill(vacant, begins, entries).await?;

    let snapshot = store.snapshot_at(revision).await?;
    let source = Inventory::of(snapshot, |seen, of| {
        told(format!("comparing: {seen} of {of} keys"))
    })
    .await?;
    let place = dir.to_owned();
    let written = blocking(move || Ok(EmbeddedStore::read(place)?)).await?;
    let target = Inventory::of(written, |_, _| ()).await?;
    let shown = dir.display();
    let differs = |why: String| {
        Error::Differs(format!(
            "{why}; delete {shown}, which is of no use, and run this again"
        ))
    };
    let found = source.check(&target, true).map_err(|d| d.to_string());
    let found = found.and_then(|()| {
        let (wanted, got) = (source.expiring.len(), target.expiring.len());
        (wanted == got)
            .then_some(())
            .ok_or_else(|| format!("of {wanted} keys that expire there are {got}"))
    });
    found.map_err(|why| {
        differs(format!(
            "{shown} does not hold what etcd held at revision {revision}: {why} (source: {source}; target: {target})"
        ))
    })?;
    if following.changes_more().await? {
        return Err(differs(format!(
            "etcd has been written to after revision {revision}, and that is not in {shown}: stop its API servers"
        )));
    }
    Ok(Migrated {
        source,
        target,
        begins,
        ahead: false,
    })
}

/// Makes the store.
async fn fill(vacant: Vacant, begins: Revision, entries: Vec<SnapshotEntry>) -> Result<()> {
    let count = entries.len() as u64;
    blocking(move || {
        let mut entries = entries.into_iter();
        let next = || {
            let part: Vec<_> = entries.by_ref().take(PART).collect();
            Ok((!part.is_empty()).then_some(part))
        };
        Ok(vacant.fill(begins, count, next, |_| ())?)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::Late("the work on the data dir was cut off".to_owned()))?
}
