//! Plans: what goes wrong in a run, and where. Each has a text by which it is done again.

use std::fmt;
use std::str::FromStr;

use crate::point::{Point, Sort};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    // Intermediate states.
    /// The process dies before the write is sent, and starts again.
    CrashBefore,
    /// The process dies after the write was done, and starts again.
    CrashAfter,
    // Unobserved states.
    /// The watch ends before the event and cannot be resumed: the state has to be listed anew, and the edge is lost.
    Skip,
    /// The watch tells nothing for a while, others do; then of each object the last event alone.
    Hold,
    /// The process dies before the event and is down for a while.
    Down,
    // Stale states.
    /// Nothing is told for a while.
    Lag,
    /// The process dies after the write, and its next lists are of a time before the scenario's current step, where they do not
    /// ask for the latest.
    Back,
    // A faulty API.
    /// 409, and nothing is done.
    Conflict,
    /// 429 with a Retry-After, and nothing is done.
    Throttle,
    /// 500, and nothing is done.
    Error,
    /// 504, after it was done.
    Timeout,
    /// The connection breaks after it was done.
    Lost,
    /// It is done, and the answer takes 20 seconds.
    Slow,
    /// The watch ends before the event, and can be resumed.
    Cut,
    /// 410: what the watch asks for has been forgotten.
    Expired,
    // Leadership.
    /// The process hangs before the write is sent, another one takes over, and then the write arrives.
    Zombie,
    /// Another process runs beside this one from here on, for two minutes.
    Twin,
}

/// One thing that goes wrong at one point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) trouble: Trouble,
    pub(crate) at: Point,
}

/// All that goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) faults: Vec<Fault>,
}

const TROUBLES: [(Trouble, &str, &[Sort]); 17] = [
    (Trouble::CrashBefore, "crash-before", &[Sort::Write]),
    (Trouble::CrashAfter, "crash-after", &[Sort::Write]),
    (Trouble::Skip, "skip", &[Sort::Notice]),
    (Trouble::Hold, "hold", &[Sort::Notice]),
    (Trouble::Down, "down", &[Sort::Notice]),
    (Trouble::Lag, "lag", &[Sort::Notice]),
    (Trouble::Back, "back", &[Sort::Write]),
    (Trouble::Conflict, "conflict", &[Sort::Write]),
    (Trouble::Throttle, "throttle", &[Sort::Write, Sort::Read]),
    (Trouble::Error, "error", &[Sort::Write, Sort::Read, Sort::Watch]),
    (Trouble::Timeout, "timeout", &[Sort::Write]),
    (Trouble::Lost, "lost", &[Sort::Write]),
    (Trouble::Slow, "slow", &[Sort::Write, Sort::Read]),
    (Trouble::Cut, "cut", &[Sort::Notice]),
    (Trouble::Expired, "expired", &[Sort::Watch]),
    (Trouble::Zombie, "zombie", &[Sort::Write]),
    (Trouble::Twin, "twin", &[Sort::Write]),
];

/// Everything that can go wrong alone in a run with these points, such that the first plans are of many kinds and many points.
pub(crate) fn singles(points: &[Point], lists_of_any_version: bool) -> Vec<Plan> {
    let of_trouble = TROUBLES
        .iter()
        .filter(|(trouble, ..)| lists_of_any_version || *trouble != Trouble::Back);
    let mut by_trouble: Vec<Vec<Fault>> = of_trouble
        .map(|(trouble, _, sorts)| {
            let fitting = points.iter().filter(|point| sorts.contains(&point.sort()));
            let faults = fitting.map(|at| Fault {
                trouble: *trouble,
                at: at.clone(),
            });
            spread(faults.collect())
        })
        .collect();
    let mut plans = Vec::new();
    while by_trouble.iter().any(|faults| !faults.is_empty()) {
        for faults in by_trouble.iter_mut().filter(|faults| !faults.is_empty()) {
            plans.push(Plan {
                faults: vec![faults.remove(0)],
            });
        }
    }
    plans
}

/// Each beginning of the list is from all over it: the first, the last, the middle, the quarters.
fn spread<T>(list: Vec<T>) -> Vec<T> {
    let most = list.len().next_power_of_two().trailing_zeros();
    let mut keyed: Vec<(usize, T)> = list
        .into_iter()
        .enumerate()
        .map(|(at, item)| (at.reverse_bits() >> (usize::BITS - most.max(1)), item))
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// Plans of several faults each, taken at random.
pub(crate) fn several(singles: &[Plan], count: usize, seed: u64) -> Vec<Plan> {
    if singles.len() < 2 {
        return Vec::new();
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let one = |rng: &mut fastrand::Rng| singles[rng.usize(..singles.len())].faults.clone();
    std::iter::repeat_with(|| {
        let mut faults = one(&mut rng);
        for _ in 0..rng.usize(1..3) {
            faults.extend(one(&mut rng));
        }
        faults.dedup();
        Plan { faults }
    })
    .take(count)
    .collect()
}

impl Plan {
    /// The plans with one fault fewer.
    pub(crate) fn smaller(&self) -> Vec<Plan> {
        let without = |at: usize| {
            let mut faults = self.faults.clone();
            faults.remove(at);
            Plan { faults }
        };
        (0..self.faults.len())
            .filter(|_| self.faults.len() > 1)
            .map(without)
            .collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TROUBLES.iter().find(|(trouble, ..)| *trouble == self.trouble);
        write!(f, "{}@{}", name.map_or("", |(_, name, _)| name), self.at)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, at) = text
            .split_once('@')
            .ok_or_else(|| format!("{text:?} is no fault; want trouble@verb:target#number"))?;
        let (trouble, ..) = TROUBLES
            .iter()
            .find(|(_, known, _)| *known == name)
            .ok_or_else(|| format!("{name:?} is nothing that goes wrong"))?;
        Ok(Self {
            trouble: *trouble,
            at: at.parse()?,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let and = if number == 0 { "" } else { " + " };
            write!(f, "{and}{fault}")?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let faults = text.split(" + ").map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_as_they_are_written() {
        let point = |text: &str| text.parse::<Point>().expect("a point");
        let points = [
            point("list:toys.example.com#1"),
            point("watch:toys.example.com#1"),
            point("added:toys.example.com/default/a#1"),
            point("create:pods/default/a-*#2"),
        ];
        let singles = singles(&points, true);
        assert_eq!(
            singles.len(),
            11 + 5 + 3 + 2,
            "writes, notices, reads, watches: {singles:?}"
        );
        for plan in singles.iter().chain(&several(&singles, 20, 1)) {
            assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        }
        for wrong in ["", "crash", "crash-before@", "melt@create:a#1", "skip@added:a"] {
            assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_plans_are_from_all_over() {
        assert_eq!(spread(vec![0, 1, 2, 3, 4, 5, 6, 7])[..4], [0, 4, 2, 6]);
        assert_eq!(spread(vec![0, 1, 2]), [0, 2, 1]);
        assert_eq!(spread(vec![7]), [7]);
        assert_eq!(spread(Vec::<u8>::new()), Vec::<u8>::new());
    }
}
