//! Where in etcd our keys are: as they are, or with another beginning.

use std::ops::Bound;

use bytes::Bytes;

use crate::contract::{Error, Result, prefix_end};

/// The end that etcd takes for "no end".
const NO_END: &[u8] = &[0];

/// Replaces the beginning of keys.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// Our beginning and theirs, where they differ.
    pair: Option<(Bytes, Bytes)>,
    /// How all keys in etcd begin that are ours, as far as it was said.
    below: Bytes,
}

impl Root {
    pub(crate) fn new(pair: Option<(String, String)>) -> Self {
        // A neighbour whose root begins with the same letters is a neighbour.
        let below = pair
            .as_ref()
            .map(|(_, theirs)| Bytes::from(format!("{}/", theirs.trim_end_matches('/'))));
        let pair = pair.filter(|(ours, theirs)| ours != theirs);
        Self {
            pair: pair.map(|(ours, theirs)| (Bytes::from(ours), Bytes::from(theirs))),
            below: below.unwrap_or_default(),
        }
    }

    /// A key below the root, for questions that are about no key in particular. kube-apiserver asks for it too.
    pub(crate) fn health(&self) -> Vec<u8> {
        match &self.pair {
            Some((_, theirs)) => [&theirs[..], b"/health"].concat(),
            None => b"/registry/health".to_vec(),
        }
    }

    /// A key as etcd has it.
    pub(crate) fn theirs(&self, key: &Bytes) -> Result<Bytes> {
        let Some((ours, theirs)) = &self.pair else {
            return Ok(key.clone());
        };
        match key.strip_prefix(&ours[..]) {
            Some(rest) => Ok([theirs, rest].concat().into()),
            None => Err(Error::Io(format!(
                "the key {} is not below {}, which is all that this store keeps",
                key.escape_ascii(),
                ours.escape_ascii()
            ))),
        }
    }

    /// A range as etcd has it: its first key, and the end as etcd writes it (empty: that key alone).
    pub(crate) fn their_range(&self, start: &Bytes, end: &Bound<Bytes>) -> Result<(Vec<u8>, Vec<u8>)> {
        let end = match end {
            Bound::Included(end) if end == start => Vec::new(),
            Bound::Included(end) => [&self.theirs(end)?[..], &[0]].concat(),
            Bound::Excluded(end) => self.theirs(end)?.to_vec(),
            Bound::Unbounded => match &self.pair {
                None => NO_END.to_vec(),
                Some(_) => {
                    return Err(Error::Io(
                        "a range without an end leaves the store's root".to_owned(),
                    ));
                }
            },
        };
        let start = self.theirs(start)?;
        // etcd has no empty key, and takes none.
        let start = if start.is_empty() { vec![0] } else { start.to_vec() };
        Ok((start, end))
    }

    /// The range of all that is kept, as etcd has it.
    pub(crate) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        let end = match prefix_end(&self.below) {
            Bound::Excluded(end) => end.to_vec(),
            Bound::Included(_) | Bound::Unbounded => NO_END.to_vec(),
        };
        // etcd has no empty key, and takes none.
        let start = if self.below.is_empty() {
            vec![0]
        } else {
            self.below.to_vec()
        };
        (start, end)
    }

    /// A key of etcd's as we have it.
    pub(crate) fn ours(&self, key: Vec<u8>) -> Bytes {
        match &self.pair {
            Some((ours, theirs)) if key.starts_with(theirs) => [ours, &key[theirs.len()..]].concat().into(),
            _ => key.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::prefix_end;

    #[test]
    fn keys_and_ranges_move_to_the_root_and_back() {
        let root = Root::new(Some(("/registry".to_owned(), "/x/y".to_owned())));
        let key = Bytes::from("/registry/pods/a/b");
        let there = root.theirs(&key).expect("below the root");
        assert_eq!(&there[..], b"/x/y/pods/a/b");
        assert_eq!(root.ours(there.to_vec()), key);
        assert_eq!(root.health(), b"/x/y/health");
        let prefix = Bytes::from("/registry/");
        let range = root
            .their_range(&prefix, &prefix_end(&prefix))
            .expect("below the root");
        assert_eq!(range, (b"/x/y/".to_vec(), b"/x/y0".to_vec()));
        for outside in ["/other", "/regis"] {
            assert!(root.theirs(&Bytes::from(outside)).is_err(), "{outside}");
        }
        assert!(root.their_range(&Bytes::new(), &Bound::Unbounded).is_err());
    }

    #[test]
    fn without_a_root_keys_stay_as_they_are() {
        let root = Root::new(None);
        let cases = [
            ("", Bound::Unbounded, (&b"\0"[..], &b"\0"[..])),
            ("a", Bound::Included("a".into()), (b"a", b"")),
            ("a", Bound::Included("b".into()), (b"a", b"b\0")),
            ("a", Bound::Excluded("b".into()), (b"a", b"b")),
        ];
        for (start, end, (wanted_start, wanted_end)) in cases {
            let got = root.their_range(&Bytes::from(start), &end).expect("anywhere");
            assert_eq!(
                got,
                (wanted_start.to_vec(), wanted_end.to_vec()),
                "{start} {end:?}"
            );
        }
    }
}
