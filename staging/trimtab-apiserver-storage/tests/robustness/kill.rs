//! A process that writes is killed with SIGKILL, at any moment, again and again: what it had acknowledged is there.
//! The process is this test itself, started anew with a word in its environment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use futures::future::join_all;
use trimtab_apiserver_storage::{Config, EmbeddedStore, Op, Store, Txn};

use crate::histories::runtime;
use crate::kit::{agrees, all, number, put, txn, watched};
use crate::model::Model;

const DIR: &str = "TRIMTAB_STORAGE_CHILD_DIR";
const SEED: &str = "TRIMTAB_STORAGE_CHILD_SEED";
/// Longer than any round takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A transaction is known by its number.
fn transaction(id: u64) -> Txn {
    let mut random = Rng::with_seed(id);
    let mut ops = vec![put(&format!("id/{}", id % 7), id.to_string())];
    for _ in 0..random.u8(0..4) {
        let key = format!("shared/{}", random.u8(0..20));
        ops.push(match random.u8(0..4) {
            0 => Op::Delete { key: key.into() },
            _ => put(&key, Bytes::from(vec![id as u8; random.usize(0..3000)])),
        });
    }
    txn(ops)
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}")
        .and_then(|()| out.flush())
        .expect("somebody listens");
}

/// Writes until it is killed, saying of each transaction that it begins, and at which revision it has ended.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let first = number(SEED, 0) << 32;
    runtime().block_on(async {
        // Compaction and its garbage are under way as well.
        let config = Config {
            compaction_window: Some(Duration::from_millis(200)),
            ..Config::default()
        };
        let store = EmbeddedStore::open(dir, config).expect("opens");
        join_all((0..4_u64).map(|writer| {
            let store = &store;
            async move {
                for turn in 0..u64::from(u32::MAX) {
                    let id = first + turn * 4 + writer;
                    say(format_args!("begun {id}"));
                    let response = store.txn(transaction(id)).await.expect("writes");
                    say(format_args!("done {id} {}", response.revision));
                }
            }
        }))
        .await;
    });
}

/// What a child said: the transactions that it began, and those that it acknowledged, by revision.
#[derive(Debug, Default)]
struct Said {
    begun: BTreeSet<u64>,
    done: BTreeMap<u64, u64>,
}

/// Starts a child and kills it some time after its first words.
fn killed(dir: &Path, round: u64, random: &mut Rng) -> Said {
    let mut child = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("starts");
    let out = child.stdout.take().expect("is piped");
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut said = Said::default();
    let (mut left, began) = (random.u32(1..120), Instant::now());
    let mut alive = true;
    loop {
        let line = match lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the child does nothing"),
        };
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split(' ');
        match (
            words.next(),
            words.next().and_then(|id| id.parse().ok()),
            words.next(),
        ) {
            (Some("begun"), Some(id), None) => drop(said.begun.insert(id)),
            (Some("done"), Some(id), Some(revision)) => {
                let revision = revision.parse().expect("a revision");
                assert_eq!(
                    said.done.insert(revision, id),
                    None,
                    "Unique: revision {revision}"
                );
                left = left.saturating_sub(1);
            }
            _ => {} // what the test's harness says
        }
        if alive && (left == 0 || began.elapsed() > DEADLINE) {
            // What it says until it is dead counts too.
            child.kill().expect("is alive");
            alive = false;
        }
    }
    reader.join().expect("no panic");
    let status = child.wait().expect("it was started");
    assert!(!alive && !status.success(), "it ended by itself: {status}");
    said
}

#[test]
fn a_process_that_is_killed_has_lost_nothing_acknowledged() {
    let (first, rounds) = (
        number("TRIMTAB_STORAGE_FIRST", 1),
        number("TRIMTAB_STORAGE_KILLS", 4),
    );
    let dir = tempfile::tempdir().expect("a directory");
    let mut model = Model::default();
    for round in first..first + rounds {
        let said = killed(dir.path(), round, &mut Rng::with_seed(round));
        let verdict = runtime().block_on(async {
            let config = Config {
                compaction_window: None,
                ..Config::default()
            };
            let store = EmbeddedStore::open(dir.path(), config).map_err(|e| e.to_string())?;
            // The latest of each writer is known by what it left; those that nobody was told of are among them.
            let found = all(&store).await;
            let mut silent: BTreeMap<u64, u64> = BTreeMap::new();
            for kv in found.kvs.iter().filter(|kv| kv.key.starts_with(b"id/")) {
                silent.insert(
                    kv.mod_revision,
                    String::from_utf8_lossy(&kv.value).parse().map_err(|_| "Atomic")?,
                );
            }
            for batch in watched(&store, model.revision().max(oldest(&store).await)).await {
                for event in batch.events.iter().filter(|e| e.kv.key.starts_with(b"id/")) {
                    let id = String::from_utf8_lossy(&event.kv.value)
                        .parse()
                        .map_err(|_| "Atomic")?;
                    silent.insert(event.kv.mod_revision, id);
                }
            }
            for revision in model.revision() + 1..=found.revision {
                let id = said.done.get(&revision).or_else(|| silent.get(&revision));
                let id = id.ok_or_else(|| format!("Durable: nobody has made revision {revision}"))?;
                if !said.begun.contains(id) {
                    return Err(format!("Unique: {id} has happened again at revision {revision}"));
                }
                model.txn(&transaction(*id));
            }
            if let Some((revision, id)) = said.done.last_key_value().filter(|(r, _)| **r > found.revision) {
                return Err(format!(
                    "Durable: {id} was acknowledged at {revision}, and {} is there",
                    found.revision
                ));
            }
            model.oldest = oldest(&store).await;
            agrees(&store, &model).await
        });
        assert_eq!(
            verdict,
            Ok(()),
            "round {round}: TRIMTAB_STORAGE_FIRST={round} begins with it"
        );
    }
    eprintln!(
        "killed {rounds} times, at revision {} in the end",
        model.revision()
    );
}

/// The oldest revision that can be asked for.
async fn oldest(store: &dyn Store) -> u64 {
    let read = store
        .range(trimtab_apiserver_storage::RangeRequest::prefix("").at(1))
        .await;
    match read {
        Err(trimtab_apiserver_storage::Error::Compacted { oldest }) => oldest,
        _ => 1,
    }
}
