//! What the queue knows of one key: 32 bytes beside the key itself.

use std::hash::Hash;
use std::sync::Arc;

use crate::add::Reasons;
use crate::slab::{Keyed, NONE, Slot};

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It may be handed out.
    Ready,
    /// It waits for its time.
    Delayed,
    /// A worker has it.
    InHand,
    /// A worker has it, and it was added again.
    InHandAgain,
}

/// One key: the turn that it is owed, if any, and its failures.
///
/// In each phase the links mean what that phase needs. Ready: the neighbours in its list. Delayed: `next` is the number
/// of its place among the delays. In hand: `prev` is its place among the hands.
#[derive(Debug)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    /// When the turn that it is owed is due, in nanoseconds of the queue's clock.
    pub(crate) at: u64,
    /// Why it is owed a turn.
    pub(crate) reasons: Option<Arc<Reasons>>,
    pub(crate) prev: Slot,
    pub(crate) next: Slot,
    pub(crate) priority: i32,
    pub(crate) tally: Tally,
    pub(crate) phase: Phase,
    pub(crate) pace: Pace,
}

/// What the time of a turn stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A trigger's time. It gives way to a backoff.
    Trigger,
    /// A trigger that ends a backoff.
    Eager,
    /// A backoff.
    Backoff,
}

/// Failures in a row, which saturate, and whether the turn that is owed is marked: in two bytes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally(u16);

impl Tally {
    const MARK: u16 = 1 << 15;

    #[inline]
    pub(crate) fn failures(self) -> u32 {
        u32::from(self.0 & !Self::MARK)
    }

    pub(crate) fn fail(&mut self) {
        if self.0 & !Self::MARK != !Self::MARK {
            self.0 += 1;
        }
    }

    #[inline]
    pub(crate) fn forgive(&mut self) {
        self.0 &= Self::MARK;
    }

    #[inline]
    pub(crate) fn is_marked(self) -> bool {
        self.0 & Self::MARK != 0
    }

    #[inline]
    pub(crate) fn mark(&mut self, mark: bool) {
        self.0 |= if mark { Self::MARK } else { 0 };
    }

    #[inline]
    pub(crate) fn take_mark(&mut self) -> bool {
        let marked = self.is_marked();
        self.0 &= !Self::MARK;
        marked
    }
}

impl<K> Entry<K> {
    /// A key in nobody's hands that is owed nothing yet.
    pub(crate) fn new(key: K) -> Self {
        Self {
            key,
            at: 0,
            reasons: None,
            prev: NONE,
            next: NONE,
            priority: 0,
            tally: Tally::default(),
            phase: Phase::Delayed,
            pace: Pace::Trigger,
        }
    }

    pub(crate) fn because(&mut self, reasons: Option<Arc<Reasons>>) {
        match (&mut self.reasons, reasons) {
            (_, None) => {}
            (Some(kept), Some(later)) => Arc::make_mut(kept).merge(&later),
            (none, later) => *none = later,
        }
    }
}

impl<K: Clone + Eq + Hash> Keyed for Entry<K> {
    type Key = K;

    fn key(&self) -> &K {
        &self.key
    }
}
