//! Sets of completion indexes, as a Job's status writes them: `1,3-5,7`.

use std::fmt;

/// A set of indexes, as intervals with both ends, in order and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// The indexes below `end` that a text says; what is no interval is left out.
    pub(super) fn parse(text: &str, end: i32) -> Self {
        let intervals = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
            (0 <= first && first <= last && first < end).then_some((first, last.min(end - 1)))
        });
        let mut found = Self(intervals.collect());
        found.tidy();
        found
    }

    /// With more indexes.
    pub(super) fn with(mut self, more: impl IntoIterator<Item = i32>) -> Self {
        self.0.extend(more.into_iter().map(|index| (index, index)));
        self.tidy();
        self
    }

    /// With those of another set.
    pub(super) fn union(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self.tidy();
        self
    }

    fn tidy(&mut self) {
        self.0.sort_unstable();
        let mut tidied: Vec<(i32, i32)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match tidied.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => tidied.push((first, last)),
            }
        }
        self.0 = tidied;
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many there are.
    pub(super) fn count(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both sets.
    pub(super) fn in_common(&self, other: &Self) -> i32 {
        let both = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        let pairs = self
            .0
            .iter()
            .flat_map(|a| other.0.iter().map(move |b| both(a, b)));
        pairs.sum()
    }

    /// The first indexes below `end` that are not in the set, so many at most.
    pub(super) fn missing(&self, end: i32, most: usize) -> Vec<i32> {
        let mut found = Vec::new();
        let mut next = 0;
        for (first, last) in &self.0 {
            found.extend((next..(*first).min(end)).take(most - found.len()));
            next = last.saturating_add(1);
        }
        found.extend((next..end).take(most - found.len()));
        found
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}
