//! The format: what is written is read, and whatever else is there is named.

use bytes::Bytes;
use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::contract::{KeyValue, Snapshot, SnapshotEntry};

fn entries(sizes: &[u16]) -> Vec<SnapshotEntry> {
    let entry = |(n, size): (usize, &u16)| SnapshotEntry {
        kv: KeyValue {
            key: Bytes::from(format!("/key/{n:06}")),
            value: Bytes::from(vec![n as u8; usize::from(*size)]),
            create_revision: 2,
            mod_revision: 2 + n as u64,
        },
        expires: n.is_multiple_of(3).then_some(1_800_000_000_000 + n as u64),
    };
    sizes.iter().enumerate().map(entry).collect()
}

fn written(entries: &[SnapshotEntry]) -> Vec<u8> {
    let snapshot = Snapshot::new(1_000_000, entries.to_vec());
    let mut bytes = Vec::new();
    // Nothing is awaited that is not there.
    let saved = save(snapshot, 77, &mut bytes, |_, _| {})
        .now_or_never()
        .expect("is there");
    assert_eq!(saved.expect("writes").bytes, bytes.len() as u64);
    bytes
}

fn read(bytes: &[u8]) -> Result<(Summary, Vec<SnapshotEntry>), Error> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(part) = reader.block()? {
        entries.extend(part);
    }
    Ok((reader.summary(), entries))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read(sizes in prop::collection::vec(prop_oneof![0..100_u16, 0..u16::MAX], 0..40)) {
        let entries = entries(&sizes);
        let bytes = written(&entries);
        let summary = Summary { revision: 1_000_000, keys: entries.len() as u64, bytes: bytes.len() as u64, made: 77 };
        prop_assert_eq!(read(&bytes).expect("reads"), (summary, entries));
        prop_assert_eq!(verify(&bytes[..], |_, _| {}).expect("reads"), summary);
    }
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let bytes = written(&entries(&[0, 10, 500, 3]));
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            match read(&damaged).expect_err("it is not what was written") {
                Error::NotABackup | Error::Version(_) => assert!(at < 17, "{at}"),
                Error::Damaged { at: said, .. } => assert!(said <= at as u64, "{at}: said to be at {said}"),
                // A length that has grown leads beyond the end.
                Error::Truncated { .. } => {}
                other => panic!("{at}: {other}"),
            }
        }
    }
}

#[test]
fn a_backup_that_is_cut_off_says_how_much_is_there() {
    let bytes = written(&entries(&[60_000; 10]));
    for len in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        match read(&bytes[..len]).expect_err("it is cut off") {
            Error::NotABackup => assert!(len < 17, "{len}"),
            Error::Truncated { at, keys, of } => {
                assert!(
                    at <= len as u64 && keys <= of && (of == 10 || len < 45),
                    "{len}: {at} {keys} {of}"
                );
            }
            other => panic!("{len}: {other}"),
        }
    }
}

#[test]
fn what_is_no_backup_is_named() {
    let bytes = written(&entries(&[1]));
    let mut newer = bytes.clone();
    newer[15] = b'2';
    let more = [&bytes[..], b"x"].concat();
    let text = |bytes: &[u8]| read(bytes).expect_err("cannot be read").to_string();
    assert_eq!(text(b"{}"), "it is not a backup of a trimtab store");
    assert_eq!(text(&[0; 4096]), "it is not a backup of a trimtab store");
    assert!(text(&newer).starts_with("it is a backup of format '2', which a newer version"));
    assert!(text(&more).ends_with("something follows its end"));
    // Two blocks in the wrong order are each whole, but not at their place.
    let two = written(&entries(&[60_000; 10]));
    let (head, first) = (
        45,
        8 + u32::from_le_bytes([two[45], two[46], two[47], two[48]]) as usize,
    );
    let rest = two.len() - head - first - 28 - 4;
    assert!(rest > 8, "there are two blocks");
    let end = two.len() - 28;
    let swapped = [
        &two[..head],
        &two[head + first..end],
        &two[head..head + first],
        &two[end..],
    ]
    .concat();
    assert!(
        text(&swapped).contains("a checksum is wrong"),
        "{}",
        text(&swapped)
    );
}

#[tokio::test]
async fn a_snapshot_that_fails_leaves_no_whole_backup() {
    let parts = [
        Ok(entries(&[5])),
        Err(crate::contract::Error::Io("gone".to_owned())),
    ];
    let snapshot = Snapshot {
        revision: 9,
        count: 2,
        entries: Box::pin(futures::stream::iter(parts)),
    };
    let mut bytes = Vec::new();
    let error = save(snapshot, 0, &mut bytes, |_, _| {}).await.expect_err("fails");
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert!(matches!(read(&bytes), Err(Error::Truncated { .. })));
}
