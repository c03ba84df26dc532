//! The ready keys in the order in which they go: priorities first, ageing, and turns between flows.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use foldhash::fast::RandomState;

use crate::entry::Entry;
use crate::slab::{Keyed, KeyedSlab, NONE, Slot};

/// While a key of a lower priority has waited longer than the ageing, at least one turn in so many is for such keys.
pub(crate) const AGED_TURN: u32 = 4;

/// What decides whose key it is, as a hash of the flow.
pub(crate) type FlowOf<K> = Box<dyn Fn(&K) -> u64 + Send>;

/// Ready keys. They are linked through their entries, so that a key costs no memory here but its share of a level.
pub(crate) struct Ready<K> {
    /// The lowest priority first; none is empty.
    levels: Vec<Level>,
    len: usize,
    /// Nanoseconds after which a key is overdue.
    ageing: u64,
    /// Turns since the last one for an overdue key.
    since_aged: u32,
    flow_of: Option<FlowOf<K>>,
}

/// The ready keys of one priority.
#[derive(Debug)]
struct Level {
    priority: i32,
    len: usize,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// First in, first out.
    Arrival(List),
    /// A turn for each flow, and within it first in, first out.
    Flows(Flows),
}

/// Entries linked by `next` and `prev`.
#[derive(Clone, Copy, Debug)]
struct List {
    head: Slot,
    tail: Slot,
}

#[derive(Debug, Default)]
struct Flows {
    lists: HashMap<u64, List, RandomState>,
    /// The flows of `lists`, each once, the one whose turn it is first. A flow that lost its keys by another way than
    /// its turn stays until then.
    turns: VecDeque<u64>,
    /// Keys as they came, with the time since which they are ready. The first one is there.
    arrivals: VecDeque<Arrival>,
    /// Of those behind it, how many are of keys that have left since: the first ones of their kind, since one that has left
    /// may come again.
    left: HashMap<Arrival, u32, RandomState>,
}

/// Since when a key is ready, and which.
type Arrival = (u64, Slot);

// === impl Ready ===

impl<K: Clone + Eq + Hash> Ready<K> {
    pub(crate) fn new(ageing: u64, flow_of: Option<FlowOf<K>>) -> Self {
        Self {
            levels: Vec::new(),
            len: 0,
            ageing,
            since_aged: 0,
            flow_of,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        (self.levels, self.len) = (Vec::new(), 0);
    }

    /// Whether what is ready since `at` has waited longer than the ageing.
    pub(crate) fn is_overdue(&self, at: u64, now: u64) -> bool {
        at.saturating_add(self.ageing) <= now
    }

    /// For each priority: how many keys there are, and since when the one that came first is ready.
    pub(crate) fn depths(&self, keys: &KeyedSlab<Entry<K>>) -> impl Iterator<Item = (i32, usize, u64)> {
        self.levels
            .iter()
            .filter_map(|level| Some((level.priority, level.len, level.oldest(keys)?)))
    }

    /// Puts an entry at the end of its priority.
    pub(crate) fn push(&mut self, slot: Slot, keys: &mut KeyedSlab<Entry<K>>) {
        let (priority, flow) = (keys.get(slot).priority, self.flow(slot, keys));
        let index = match self
            .levels
            .binary_search_by_key(&priority, |level| level.priority)
        {
            Ok(index) => index,
            Err(index) => {
                let order = match self.flow_of {
                    None => Order::Arrival(List::EMPTY),
                    Some(_) => Order::Flows(Flows::default()),
                };
                let level = Level {
                    priority,
                    len: 0,
                    order,
                };
                self.levels.insert(index, level);
                index
            }
        };
        let level = &mut self.levels[index];
        self.len += 1;
        level.len += 1;
        match &mut level.order {
            Order::Arrival(list) => list.push(slot, keys),
            Order::Flows(flows) => flows.push(flow, slot, level.len, keys),
        }
    }

    /// Takes an entry out that is in here.
    pub(crate) fn remove(&mut self, slot: Slot, keys: &mut KeyedSlab<Entry<K>>) {
        let (priority, flow) = (keys.get(slot).priority, self.flow(slot, keys));
        let Ok(index) = self
            .levels
            .binary_search_by_key(&priority, |level| level.priority)
        else {
            return;
        };
        let level = &mut self.levels[index];
        match &mut level.order {
            Order::Arrival(list) => list.unlink(slot, keys),
            Order::Flows(flows) => {
                if let Some(list) = flows.lists.get_mut(&flow) {
                    list.unlink(slot, keys);
                }
                flows.leave((keys.get(slot).at, slot));
            }
        }
        self.shorten(index);
    }

    /// Takes the entry whose turn it is.
    pub(crate) fn pop(&mut self, now: u64, keys: &mut KeyedSlab<Entry<K>>) -> Option<Slot> {
        let top = self.levels.len().checked_sub(1)?;
        let index = if top > 0 && self.since_aged + 1 >= AGED_TURN {
            self.overdue(top, now, keys)
        } else {
            None
        };
        self.since_aged = match index {
            Some(_) => 0,
            None => (self.since_aged + 1).min(AGED_TURN),
        };
        let index = index.unwrap_or(top);
        let level = &mut self.levels[index];
        let slot = match &mut level.order {
            Order::Arrival(list) => list.pop(keys),
            Order::Flows(flows) => flows.pop(keys),
        };
        self.shorten(index);
        slot
    }

    /// The priority below `top` whose first key has waited longest, if that is longer than the ageing.
    fn overdue(&self, top: usize, now: u64, keys: &KeyedSlab<Entry<K>>) -> Option<usize> {
        let waiting = self.levels[..top].iter().enumerate();
        let oldest = waiting.filter_map(|(index, level)| Some((level.oldest(keys)?, index)));
        let (since, index) = oldest.min()?;
        self.is_overdue(since, now).then_some(index)
    }

    /// The flow of an entry; all are one flow if nobody has said otherwise.
    fn flow(&self, slot: Slot, keys: &KeyedSlab<Entry<K>>) -> u64 {
        let flow_of = self.flow_of.as_ref();
        flow_of.map_or(0, |flow_of| flow_of(keys.get(slot).key()))
    }

    fn shorten(&mut self, index: usize) {
        self.len -= 1;
        self.levels[index].len -= 1;
        if self.levels[index].len == 0 {
            self.levels.remove(index);
        }
    }
}

// === impl Level ===

impl Level {
    /// Since when the key that came first is ready.
    fn oldest<K>(&self, keys: &KeyedSlab<Entry<K>>) -> Option<u64>
    where
        K: Clone + Eq + Hash,
    {
        match &self.order {
            Order::Arrival(list) => (list.head != NONE).then(|| keys.get(list.head).at),
            Order::Flows(flows) => flows.arrivals.front().map(|(at, _)| *at),
        }
    }
}

// === impl List ===

impl List {
    const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };

    fn push<K: Clone + Eq + Hash>(&mut self, slot: Slot, keys: &mut KeyedSlab<Entry<K>>) {
        let entry = keys.get_mut(slot);
        (entry.prev, entry.next) = (self.tail, NONE);
        match self.tail {
            NONE => self.head = slot,
            tail => keys.get_mut(tail).next = slot,
        }
        self.tail = slot;
    }

    fn unlink<K: Clone + Eq + Hash>(&mut self, slot: Slot, keys: &mut KeyedSlab<Entry<K>>) {
        let (prev, next) = (keys.get(slot).prev, keys.get(slot).next);
        match prev {
            NONE => self.head = next,
            prev => keys.get_mut(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => keys.get_mut(next).prev = prev,
        }
    }

    fn pop<K: Clone + Eq + Hash>(&mut self, keys: &mut KeyedSlab<Entry<K>>) -> Option<Slot> {
        let head = self.head;
        if head == NONE {
            return None;
        }
        self.unlink(head, keys);
        Some(head)
    }
}

// === impl Flows ===

impl Flows {
    /// Puts an entry at the end of its flow. `len` is how many there are with it.
    fn push<K: Clone + Eq + Hash>(
        &mut self,
        flow: u64,
        slot: Slot,
        len: usize,
        keys: &mut KeyedSlab<Entry<K>>,
    ) {
        let list = self.lists.entry(flow).or_insert_with(|| {
            self.turns.push_back(flow);
            List::EMPTY
        });
        list.push(slot, keys);
        if self.arrivals.len() > 2 * len + 64 {
            self.arrivals.retain(|arrival| !forget(&mut self.left, arrival));
        }
        self.arrivals.push_back((keys.get(slot).at, slot));
    }

    fn pop<K: Clone + Eq + Hash>(&mut self, keys: &mut KeyedSlab<Entry<K>>) -> Option<Slot> {
        loop {
            let flow = self.turns.pop_front()?;
            let Some(list) = self.lists.get_mut(&flow) else {
                continue;
            };
            let slot = list.pop(keys);
            if list.head == NONE {
                self.lists.remove(&flow);
            } else {
                self.turns.push_back(flow);
            }
            if let Some(slot) = slot {
                self.leave((keys.get(slot).at, slot));
                return Some(slot);
            }
        }
    }

    /// A key that has come so leaves.
    fn leave(&mut self, arrival: Arrival) {
        if self.arrivals.front() != Some(&arrival) {
            *self.left.entry(arrival).or_default() += 1;
            return;
        }
        self.arrivals.pop_front();
        while let Some(first) = self.arrivals.front()
            && forget(&mut self.left, first)
        {
            self.arrivals.pop_front();
        }
    }
}

/// Whether an arrival, the first of its kind, is of a key that has left; it is counted no longer.
fn forget(left: &mut HashMap<Arrival, u32, RandomState>, arrival: &Arrival) -> bool {
    let Some(count) = left.get_mut(arrival) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        left.remove(arrival);
    }
    true
}
