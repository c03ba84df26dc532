//! How a key is added: its options, and the bounded list of reasons that it carries.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Why a key was added: a short constant text, or one made for the occasion.
pub type Reason = Cow<'static, str>;

/// Options of one add: when, how urgent, why. The default is at once, priority 0, no reason.
#[derive(Clone, Debug, Default)]
pub struct Add {
    pub(crate) when: When,
    pub(crate) priority: i32,
    pub(crate) lower: bool,
    pub(crate) end_backoff: bool,
    pub(crate) mark: bool,
    /// Clones of an add share it.
    pub(crate) reasons: Option<Arc<Reasons>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum When {
    #[default]
    Now,
    After(Duration),
    RateLimited {
        at_latest: Duration,
    },
}

impl Add {
    /// At once, or when the backoff is over that the key waits for.
    pub fn now() -> Self {
        Self::default()
    }

    /// When `delay` has passed, or when the backoff is over that the key waits for. A delay too long for the clock
    /// means: at the end of time, thirty years after the queue was made.
    pub fn after(delay: Duration) -> Self {
        Self {
            when: When::After(delay),
            ..Self::default()
        }
    }

    /// After the key's backoff. Counts as one failure, unless the key waits already: then the failure that it waits for
    /// is the same one.
    pub fn rate_limited() -> Self {
        Self {
            when: When::RateLimited {
                at_latest: Duration::MAX,
            },
            ..Self::default()
        }
    }

    /// The priority; higher is sooner. The default is 0. A key that waits keeps the higher one.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the priority also if the key waits with a higher one.
    #[must_use]
    pub fn lower(mut self) -> Self {
        self.lower = true;
        self
    }

    /// Also ends a backoff that the key waits for, or that the turn in which it is would begin: what the key waits for
    /// may have changed. Its failures still count.
    #[must_use]
    pub fn end_backoff(mut self) -> Self {
        self.end_backoff = true;
        self
    }

    /// Marks the turn that the add leads to: the worker sees in [`Work::is_marked`](crate::Work::is_marked) that at least one
    /// of the adds since the last turn was marked. What that means is between the two.
    #[must_use]
    pub fn marked(mut self) -> Self {
        self.mark = true;
        self
    }

    /// For [`Add::rate_limited`]: after `delay` at the latest, however long the backoff is. Nothing for other adds.
    #[must_use]
    pub fn at_latest(mut self, delay: Duration) -> Self {
        if let When::RateLimited { at_latest } = &mut self.when {
            *at_latest = delay;
        }
        self
    }

    /// Says why; the worker sees it in [`Work::reasons`](crate::Work::reasons).
    #[must_use]
    pub fn because(mut self, reason: impl Into<Reason>) -> Self {
        self.reasons = Some(Arc::new(Reasons::of(reason.into())));
        self
    }
}

/// Why a key waits: the first distinct reasons, and how many more adds there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// Most have one only, for which no list is needed.
    first: Option<Reason>,
    others: Vec<Reason>,
    omitted: u32,
}

impl Reasons {
    /// At most this many distinct reasons are kept; later ones are only counted.
    pub const MAX: usize = 8;

    /// No reason at all.
    pub(crate) const NONE: Self = Self {
        first: None,
        others: Vec::new(),
        omitted: 0,
    };

    /// The distinct reasons, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.kept().map(AsRef::as_ref)
    }

    /// How many distinct reasons came after the list was full. Repeats of them count each time.
    pub fn omitted(&self) -> u32 {
        self.omitted
    }

    pub(crate) fn of(reason: Reason) -> Self {
        Self {
            first: Some(reason),
            ..Self::NONE
        }
    }

    fn kept(&self) -> impl Iterator<Item = &Reason> {
        self.first.iter().chain(&self.others)
    }

    fn push(&mut self, reason: Reason) {
        if self.kept().any(|kept| *kept == reason) {
            return;
        }
        if self.first.is_none() {
            self.first = Some(reason);
        } else if self.others.len() + 1 < Self::MAX {
            self.others.push(reason);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    pub(crate) fn merge(&mut self, later: &Reasons) {
        for reason in later.kept() {
            self.push(reason.clone());
        }
        self.omitted = self.omitted.saturating_add(later.omitted);
    }
}
