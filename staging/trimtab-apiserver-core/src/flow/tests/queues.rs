//! The clauses of fair queuing, on random traffic and on traffic made to break them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use crate::flow::queues::{Arrival, FairQueues, Shape};

const LENGTH: usize = 5;
const SHAPE: Shape = Shape::Queue {
    queues: 8,
    hand: 2,
    length: LENGTH,
};

#[derive(Clone, Debug)]
enum Step {
    Arrive { flow: u64, seats: u32 },
    Finish(usize),
    Leave(usize),
    Pass(u64),
    Limit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u64, 1..5_u32).prop_map(|(flow, seats)| Step::Arrive { flow: flow.wrapping_mul(0x9e37_79b9_7f4a_7c15), seats }),
        4 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => (0..20_u64).prop_map(Step::Pass),
        1 => (1..9_u32).prop_map(Step::Limit),
    ]
}

/// Fair queues, and what they should know.
struct Model {
    queues: FairQueues,
    now: Duration,
    next: u64,
    /// By number: queue, seats, since when.
    executing: BTreeMap<u64, (u32, u32, Duration)>,
    waiting: BTreeMap<u64, (u32, u32)>,
    /// The most seats that those who execute may hold together: more than the limit for as long as it was higher when
    /// they began.
    allowed: u32,
    limit: u32,
    /// How long a queue may be.
    length: usize,
    /// In the order of starting.
    started: Vec<u64>,
}

impl Model {
    fn new(shape: Shape, limit: u32) -> Self {
        Self {
            queues: FairQueues::new(shape, limit, Duration::ZERO),
            now: Duration::ZERO,
            next: 0,
            executing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            allowed: limit,
            limit,
            length: match shape {
                Shape::Queue { length, .. } => length,
                _ => 0,
            },
            started: Vec::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Arrive { flow, seats } => {
                self.arrive(flow, seats);
            }
            Step::Finish(nth) => {
                if let Some(id) = nth_key(&self.executing, nth) {
                    self.finish(id);
                }
            }
            Step::Leave(nth) => {
                if let Some(id) = nth_key(&self.waiting, nth) {
                    let (queue, _) = self.waiting.remove(&id).expect("waits");
                    assert!(self.queues.leave(self.now, id, queue), "it waited");
                    self.dispatch();
                    assert!(!self.queues.leave(self.now, id, queue), "only once");
                }
            }
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
            Step::Limit(limit) => {
                self.limit = limit;
                self.queues.set_limit(self.now, limit);
                self.dispatch();
            }
        }
        self.check();
    }

    fn arrive(&mut self, flow: u64, seats: u32) -> Option<u64> {
        let id = self.next;
        self.next += 1;
        match self.queues.arrive(self.now, id, flow, seats) {
            Arrival::Started(queue) => {
                self.executing.insert(id, (queue, seats, self.now));
                self.started.push(id);
            }
            Arrival::Waits(queue) => {
                self.waiting.insert(id, (queue, seats));
                self.dispatch();
            }
            Arrival::Full => {
                let full =
                    |queue: &u32| self.waiting.values().filter(|(q, _)| q == queue).count() == self.length;
                let mut queues = self.waiting.values().map(|(queue, _)| queue);
                assert!(queues.any(full), "Bounded: refused without need");
                return None;
            }
            Arrival::Busy => return None,
        }
        Some(id)
    }

    fn finish(&mut self, id: u64) {
        let (queue, seats, since) = self.executing.remove(&id).expect("executes");
        self.queues.finish(self.now, queue, seats, self.now - since);
        self.dispatch();
    }

    fn dispatch(&mut self) {
        while let Some(started) = self.queues.next(self.now) {
            let (queue, seats) = self
                .waiting
                .remove(&started.id)
                .expect("only who waits is started");
            assert_eq!(queue, started.queue);
            self.executing.insert(started.id, (queue, seats, self.now));
            self.started.push(started.id);
        }
    }

    /// The clauses that hold at every moment.
    fn check(&mut self) {
        let held: u32 = self.executing.values().map(|(_, seats, _)| seats).sum();
        let load = self.queues.load();
        assert_eq!(
            (load.executing as usize, load.seats, load.waiting as usize),
            (self.executing.len(), held, self.waiting.len()),
        );
        self.allowed = self.limit.max(self.allowed.min(held));
        let alone = self.executing.len() == 1;
        assert!(
            held <= self.allowed || alone,
            "Seats kept: {held} of {}",
            self.allowed
        );
        if held > self.limit {
            self.allowed = self.allowed.max(held); // a wide one that is alone, or a limit that sank
        }
        if !self.waiting.is_empty() {
            // Somebody's turn it is, and that somebody is no wider than the widest.
            let widest = self.waiting.values().map(|(_, seats)| *seats).max().unwrap_or(0);
            assert!(
                held + widest > self.limit,
                "Busy: seats are free and {widest} are waited for"
            );
            assert!(!self.executing.is_empty(), "Busy: nothing executes");
        }
        for (queue, _) in self.waiting.values() {
            let length = self.waiting.values().filter(|(q, _)| q == queue).count();
            assert!(length <= self.length, "Bounded: {length} wait in {queue}");
        }
    }
}

fn nth_key<V>(map: &BTreeMap<u64, V>, nth: usize) -> Option<u64> {
    let len = map.len();
    (len > 0).then(|| map.keys().nth(nth % len).copied()).flatten()
}

proptest! {
    #[test]
    fn the_clauses_hold_on_random_traffic(limit in 1..9_u32, steps in prop::collection::vec(step(), 1..200)) {
        let mut model = Model::new(SHAPE, limit);
        for step in &steps {
            model.run(step);
        }
        // Whoever waits is served in the end, whoever else was there: nobody is forgotten.
        while let Some(id) = nth_key(&model.executing, 0) {
            model.now += Duration::from_millis(1);
            model.finish(id);
            model.check();
        }
        prop_assert!(model.waiting.is_empty(), "Fair: {} wait for ever", model.waiting.len());
        prop_assert_eq!(model.queues.shown().len(), 0, "what is idle is forgotten");
    }

    /// Queues that all have requests waiting are served alike, whatever their requests' widths.
    #[test]
    fn work_is_shared_equally(
        limit in 1..12_u32,
        widths in prop::collection::vec(1..4_u32, 2..6),
        rounds in 10..200_usize,
    ) {
        let shape = Shape::Queue { queues: 1024, hand: 1, length: 4 };
        let mut model = Model::new(shape, limit);
        // By flow: what has been started of it, in seats.
        let mut flow_of: HashMap<u64, usize> = HashMap::new();
        let mut served = vec![0_i64; widths.len()];
        let mut counted = 0;
        let widest = i64::from(*widths.iter().max().expect("some")).max(1);
        let full = |model: &mut Model, flow_of: &mut HashMap<u64, usize>| {
            for (flow, seats) in widths.iter().enumerate() {
                while let Some(id) = model.arrive(flow as u64, *seats) {
                    flow_of.insert(id, flow);
                }
            }
        };
        full(&mut model, &mut flow_of);
        counted += model.started.len();
        for _ in 0..rounds {
            // As long as it was taken to last.
            model.now += Duration::from_millis(3);
            let ended: Vec<u64> = model.executing.keys().copied().collect();
            for id in ended {
                model.finish(id);
                full(&mut model, &mut flow_of);
            }
            for id in &model.started[counted..] {
                let flow = flow_of[id];
                served[flow] += i64::from(widths[flow]);
            }
            counted = model.started.len();
            let (least, most) = (served.iter().min().expect("some"), served.iter().max().expect("some"));
            // Those that were let in before all were there have a lead of what was free then.
            prop_assert!(most - least <= 2 * widest + i64::from(limit), "Fair: {:?}", served);
        }
    }

    /// One flow that floods, with requests of any length, keeps another one's request from its seat for no longer than it
    /// takes those to end that execute already.
    #[test]
    fn a_flood_does_not_hold_up_others(
        limit in 1..6_u32,
        lengths in prop::collection::vec(1..40_u64, 60),
        before in 0..30_usize,
    ) {
        let shape = Shape::Queue { queues: 1024, hand: 1, length: 50 };
        let mut model = Model::new(shape, limit);
        while model.arrive(1, 1).is_some() {}
        let mut quiet = None;
        for (i, length) in lengths.iter().enumerate() {
            model.now += Duration::from_millis(*length);
            if i == before {
                quiet = model.arrive(2, 1);
                prop_assert!(quiet.is_some(), "its queue is empty");
            }
            // The oldest, as those do that take turns.
            let id = nth_key(&model.executing, 0).expect("some");
            model.finish(id);
            while model.arrive(1, 1).is_some() {}
            if let Some(quiet) = quiet {
                let turns = i - before;
                let is_late = turns > limit as usize && model.waiting.contains_key(&quiet);
                prop_assert!(!is_late, "Fair: it waits while {} of the flood went", turns);
            }
        }
    }
}

#[test]
fn who_is_exempt_never_waits_and_where_nobody_waits_one_is_refused() {
    let zero = Duration::ZERO;
    let mut exempt = FairQueues::new(Shape::Exempt, 0, zero);
    for id in 0..1000 {
        assert_eq!(exempt.arrive(zero, id, id, 3), Arrival::Started(0));
    }
    assert_eq!(exempt.load().seats, 3000);
    let mut reject = FairQueues::new(Shape::Reject, 2, zero);
    assert_eq!(reject.arrive(zero, 0, 0, 2), Arrival::Started(0));
    assert_eq!(reject.arrive(zero, 1, 0, 1), Arrival::Busy);
    reject.finish(zero, 0, 2, zero);
    assert_eq!(
        reject.arrive(zero, 2, 0, 5),
        Arrival::Started(0),
        "wider than all, and alone"
    );
    assert_eq!(reject.arrive(zero, 3, 0, 1), Arrival::Busy);
}
