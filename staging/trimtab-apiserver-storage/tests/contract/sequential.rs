//! Random calls, one after the other, on each backend and on the model: the answers must be the same.

use std::ops::Bound;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use std::time::Duration;
use tokio::time::timeout;
use trimtab_apiserver_storage::{
    Compare, Config, Error, Op, RangeRequest, Store, Txn, WatchBatch, WatchRequest, WatchStream,
};

use crate::backends::{Backend, OWN};
use crate::clauses;
use crate::etcd::versions;
use crate::model::Model;

#[derive(Clone, Debug)]
enum Step {
    /// The comparisons name a key and how far its real mod revision is to be missed.
    Txn {
        compare: Vec<(u8, bool)>,
        success: Vec<(u8, u8)>,
        failure: Vec<(u8, u8)>,
    },
    /// Pages of a prefix at a revision so many before the current one.
    List {
        prefix: u8,
        back: u64,
        limit: usize,
    },
    Watch {
        prefix: u8,
        back: u64,
    },
    Compact {
        back: u64,
    },
    Reopen,
}

fn key(n: u8) -> Bytes {
    Bytes::from(format!("{}/{}", n % 3, n % 7))
}

fn prefix(n: u8) -> Bytes {
    if n == 0 {
        Bytes::new()
    } else {
        Bytes::from(format!("{}/", n % 3))
    }
}

fn op((what, n): &(u8, u8)) -> Op {
    match what {
        0 | 1 => Op::Put {
            key: key(*n),
            value: Bytes::from(vec![*n; usize::from(*n)]),
            ttl: None,
        },
        2 => Op::Delete { key: key(*n) },
        _ => Op::Get { key: key(*n) },
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ops = || prop::collection::vec((0..4u8, 0..21u8), 0..4);
    let step = prop_oneof![
        8 => (prop::collection::vec((0..21u8, prop::bool::weighted(0.8)), 0..3), ops(), ops())
            .prop_map(|(compare, success, failure)| Step::Txn { compare, success, failure }),
        2 => (0..4u8, 0..12u64, 0..4usize).prop_map(|(prefix, back, limit)| Step::List { prefix, back, limit }),
        2 => (0..4u8, 0..12u64).prop_map(|(prefix, back)| Step::Watch { prefix, back }),
        1 => (0..12u64).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

struct Watching {
    prefix: Bytes,
    from: u64,
    stream: WatchStream,
    batches: Vec<WatchBatch>,
}

async fn pages(store: &dyn Store, prefix: &Bytes, revision: u64, limit: usize) -> Result<(), Error> {
    let mut request = RangeRequest::prefix(prefix.clone()).at(revision).limit(limit);
    while store.range(request.clone()).await?.more {
        request.start = Bytes::from([&request.start[..], &[0]].concat());
    }
    Ok(())
}

async fn list(model: &Model, store: &dyn Store, step: (Bytes, u64, usize)) -> Result<(), String> {
    let (prefix, revision, limit) = step;
    let mut request = RangeRequest::prefix(prefix.clone()).at(revision).limit(limit);
    let mut got = Vec::new();
    loop {
        let page = match store.range(request.clone()).await {
            Err(Error::Compacted { oldest }) if revision < model.oldest && oldest == model.oldest => {
                return Ok(());
            }
            other => other.map_err(|e| e.to_string())?,
        };
        let left = model.range(b"", revision).into_iter().filter(|kv| {
            kv.key >= request.start && !matches!(&request.end, Bound::Excluded(end) if kv.key >= *end)
        });
        if page.count != left.count() {
            return Err(format!("Snapshot: wrong count {}", page.count));
        }
        let more = page.more;
        if let Some(last) = page.kvs.last() {
            request.start = Bytes::from([&last.key[..], &[0]].concat());
        }
        got.push(page);
        if !more {
            return clauses::snapshot(model, &prefix, revision, &got);
        }
    }
}

async fn check(backend: Backend, steps: &[Step]) -> Result<(), String> {
    let mut subject = backend
        .open(Config {
            compaction_window: None,
            ..Config::default()
        })
        .await;
    let mut model = Model::default();
    let mut watches: Vec<Watching> = Vec::new();
    for step in steps {
        match step {
            Step::Txn {
                compare,
                success,
                failure,
            } => {
                let now = model.at(model.revision());
                let compare = compare.iter().map(|(n, hit)| {
                    let real = now.get(&key(*n)).map_or(0, |kv| kv.mod_revision);
                    Compare::ModRevision(key(*n), if *hit { real } else { real + 1 })
                });
                let txn = Txn {
                    compare: compare.collect(),
                    success: success.iter().map(op).collect(),
                    failure: failure.iter().map(op).collect(),
                };
                let (wanted, got) = (
                    model.txn(&txn),
                    subject.store.txn(txn).await.map_err(|e| e.to_string())?,
                );
                if wanted != got {
                    return Err(format!("Linearizable: wanted {wanted:?}, got {got:?}"));
                }
            }
            Step::List {
                prefix: n,
                back,
                limit,
            } => {
                let revision = model.revision().saturating_sub(*back).max(1);
                list(&model, &*subject.store, (prefix(*n), revision, *limit)).await?;
            }
            Step::Watch { prefix: n, back } => {
                let from = (model.revision() + 2).saturating_sub(*back).max(1);
                let prefix = prefix(*n);
                match subject
                    .store
                    .watch(WatchRequest::prefix(prefix.clone()).from(from))
                    .await
                {
                    Ok(stream) => watches.push(Watching {
                        prefix,
                        from,
                        stream,
                        batches: Vec::new(),
                    }),
                    Err(Error::Compacted { oldest }) if from < model.oldest && oldest == model.oldest => {}
                    Err(error) => return Err(format!("Resumable: {error}")),
                }
            }
            Step::Compact { back } => {
                drain(backend, &*subject.store, &model, &mut watches).await?;
                let to = model.revision().saturating_sub(*back).max(1);
                if !backend.reports_progress() {
                    // A watch that was told nothing does not know that it is past what is compacted now.
                    verdicts(&model, &watches)?;
                    watches.retain(|watch| watch.claimed() + 1 >= to);
                }
                match subject.store.compact(to).await {
                    Ok(()) if to > model.oldest => model.oldest = to,
                    Err(Error::Compacted { .. }) if to <= model.oldest => {}
                    other => return Err(format!("compacting to {to}: {other:?}")),
                }
            }
            Step::Reopen => {
                drain(backend, &*subject.store, &model, &mut watches).await?;
                verdicts(&model, &watches)?;
                if backend != Backend::Memory {
                    watches.clear();
                }
                subject.reopen().await;
                let all = subject
                    .store
                    .range(RangeRequest::prefix(""))
                    .await
                    .map_err(|e| e.to_string())?;
                clauses::durable(&model, &all)?;
            }
        }
    }
    drain(backend, &*subject.store, &model, &mut watches).await?;
    verdicts(&model, &watches)?;
    // Wherever a watch stopped, another one continues.
    for watching in &watches {
        let half = watching.batches.len() / 2;
        let seen = &watching.batches[..half];
        let from = seen.last().map_or(watching.from, |b| b.revision + 1);
        if from < model.oldest {
            continue;
        }
        let request = WatchRequest::prefix(watching.prefix.clone()).from(from);
        let stream = subject.store.watch(request).await.map_err(|e| e.to_string())?;
        let mut second = [Watching {
            prefix: watching.prefix.clone(),
            from,
            stream,
            batches: Vec::new(),
        }];
        drain(backend, &*subject.store, &model, &mut second).await?;
        clauses::resumable(
            &model,
            &watching.prefix,
            watching.from,
            [seen, &second[0].batches],
        )?;
    }
    pages(&*subject.store, &Bytes::new(), model.revision(), 0)
        .await
        .map_err(|e| e.to_string())
}

/// Takes what the watches have to say by now.
async fn drain(
    backend: Backend,
    store: &dyn Store,
    model: &Model,
    watches: &mut [Watching],
) -> Result<(), String> {
    let own = OWN.contains(&backend);
    if !own {
        store.request_progress().await.map_err(|e| e.to_string())?;
    }
    for watch in watches {
        loop {
            let batch = if own {
                watch.stream.next().now_or_never()
            } else if watch.owes(backend, model) {
                // Another process needs a moment.
                let next = timeout(Duration::from_secs(30), watch.stream.next()).await;
                Some(next.map_err(|_| "Reliable: a watch says nothing")?)
            } else {
                None
            };
            let Some(batch) = batch else { break };
            let batch = batch.ok_or("Reliable: a watch ended without an error")?;
            watch.batches.push(batch.map_err(|e| format!("Reliable: {e}"))?);
        }
    }
    Ok(())
}

impl Watching {
    /// Everything up to this revision has come.
    fn claimed(&self) -> u64 {
        self.batches.last().map_or(self.from - 1, |batch| batch.revision)
    }

    /// Whether something must come yet: changes, or word that there are none.
    fn owes(&self, backend: Backend, model: &Model) -> bool {
        let claimed = self.claimed();
        let wanted = model.events(&self.prefix, self.from, model.revision());
        let owed = wanted.last().is_some_and(|e| e.kv.mod_revision > claimed);
        owed || (backend.reports_progress() && claimed < model.revision())
    }
}

fn verdicts(model: &Model, watches: &[Watching]) -> Result<(), String> {
    for Watching {
        prefix,
        from,
        batches,
        ..
    } in watches
    {
        clauses::ordered(batches)?;
        clauses::unique(batches)?;
        clauses::atomic(batches)?;
        clauses::reliable(model, prefix, *from, batches)?;
        clauses::bookmarkable(model, prefix, *from, batches)?;
    }
    Ok(())
}

fn agrees(backend: Backend, steps: &[Step]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(check(backend, steps))
        .map_err(|e| format!("{backend:?}: {e}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_backend_answers_as_the_model_does(steps in steps()) {
        for backend in OWN {
            prop_assert_eq!(agrees(backend, &steps), Ok(()));
        }
    }
}

proptest! {
    // Each case is a process, and each of its restarts another.
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn etcd_answers_as_the_model_does(steps in steps()) {
        for version in versions() {
            prop_assert_eq!(agrees(Backend::Etcd(version), &steps), Ok(()));
        }
    }
}
