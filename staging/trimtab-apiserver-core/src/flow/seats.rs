//! How the server's seats are shared among priority levels: by their shares, and by what they lend each other.

/// A level's bounds, in seats, and its demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) exempt: bool,
    /// What its shares come to.
    pub(crate) nominal: u32,
    /// What it keeps whatever others need.
    pub(crate) lower: u32,
    /// What it has at most.
    pub(crate) upper: u32,
    /// The highest demand in the last period.
    pub(crate) high: u32,
    /// The demand, smoothed.
    pub(crate) smoothed: f64,
}

/// What an object says of a level's part of the seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) shares: u32,
    pub(crate) lendable_percent: u32,
    pub(crate) borrowing_percent: Option<u32>,
}

/// Targets below this count as this.
const LEAST: f64 = 0.001;

impl Share {
    /// What a level has of `all` seats, when the shares of all levels come to `sum`: nominally, at least and at most.
    pub(crate) fn bounds(self, all: u32, sum: u32) -> (u32, u32, u32) {
        // Rounded up, as kube-apiserver does it: a level with any share has a seat.
        let nominal = (u64::from(all) * u64::from(self.shares)).div_ceil(u64::from(sum.max(1)));
        let nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
        let lendable = percent(nominal, self.lendable_percent);
        let borrowed = self
            .borrowing_percent
            .map_or(all, |percentage| percent(nominal, percentage));
        (
            nominal,
            nominal.saturating_sub(lendable),
            nominal.saturating_add(borrowed),
        )
    }
}

fn percent(of: u32, percentage: u32) -> u32 {
    let part = (f64::from(of) * f64::from(percentage) / 100.0).round();
    part as u32 // saturates
}

/// How many seats each level has from now on.
pub(crate) fn divide(claims: &[Claim]) -> Vec<u32> {
    let all: i64 = claims.iter().map(|c| i64::from(c.nominal)).sum();
    let floor = |c: &Claim| {
        if c.exempt {
            c.lower.max(c.high)
        } else {
            c.lower.max(c.nominal.min(c.high))
        }
    };
    let limited = || claims.iter().filter(|c| !c.exempt);
    let exempt: i64 = claims
        .iter()
        .filter(|c| c.exempt)
        .map(|c| i64::from(floor(c)))
        .sum();
    let left = all - exempt;
    let lowest: i64 = limited().map(|c| i64::from(c.lower)).sum();
    let floors: i64 = limited().map(|c| i64::from(floor(c))).sum();
    let fair = (left > floors).then(|| {
        let items: Vec<Item> = limited()
            .map(|c| Item {
                target: c.smoothed.max(f64::from(floor(c))).max(LEAST),
                lower: f64::from(floor(c)),
                upper: f64::from(c.upper),
            })
            .collect();
        // Of all: what exempt levels take beyond their own is not taken from others' fair part, as kube-apiserver has it.
        proportion(all as f64, &items)
    });
    claims
        .iter()
        .map(|c| {
            if c.exempt {
                return floor(c);
            }
            match fair {
                Some(fair) => {
                    let target = c.smoothed.max(f64::from(floor(c))).max(LEAST);
                    (fair * target)
                        .clamp(f64::from(floor(c)), f64::from(c.upper))
                        .round() as u32
                }
                None if left <= lowest => c.lower,
                None => {
                    let part = (left - lowest) as f64 / (floors - lowest) as f64;
                    c.lower + (f64::from(floor(c) - c.lower) * part).round() as u32
                }
            }
        })
        .collect()
}

struct Item {
    target: f64,
    lower: f64,
    upper: f64,
}

/// The factor by which all targets are multiplied so that the results, kept within their bounds, come to `sum`.
fn proportion(sum: f64, items: &[Item]) -> f64 {
    let total = |factor: f64| -> f64 {
        items
            .iter()
            .map(|item| (factor * item.target).clamp(item.lower, item.upper))
            .sum()
    };
    let bounds = items
        .iter()
        .flat_map(|item| [item.lower / item.target, item.upper / item.target]);
    let mut bounds: Vec<f64> = bounds.collect();
    bounds.sort_by(f64::total_cmp);
    // The total grows with the factor, in a straight line between two bounds.
    let above = bounds.partition_point(|bound| total(*bound) < sum);
    let Some(&high) = bounds.get(above) else {
        return bounds.last().copied().unwrap_or(0.0);
    };
    let low = if above == 0 {
        return high;
    } else {
        bounds[above - 1]
    };
    let (from, to) = (total(low), total(high));
    if to - from <= f64::EPSILON {
        return high;
    }
    low + (high - low) * (sum - from) / (to - from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(nominal: u32, lendable: u32, high: u32) -> Claim {
        Claim {
            exempt: false,
            nominal,
            lower: nominal - lendable,
            upper: nominal + 600,
            high,
            smoothed: f64::from(high),
        }
    }

    #[test]
    fn shares_are_of_all_seats() {
        let share = |shares, lendable_percent, borrowing_percent| Share {
            shares,
            lendable_percent,
            borrowing_percent,
        };
        for (share, bounds) in [
            (share(30, 33, None), (74, 50, 674)),
            (share(5, 0, Some(50)), (13, 13, 20)),
            (share(0, 0, None), (0, 0, 600)),
            (share(245, 100, Some(0)), (600, 0, 600)),
        ] {
            assert_eq!(share.bounds(600, 245), bounds, "{share:?}");
        }
    }

    #[test]
    fn seats_go_to_those_who_need_them_and_come_back() {
        let busy = divide(&[claim(100, 90, 300), claim(100, 50, 0), claim(10, 0, 0)]);
        assert!(busy[0] > 140 && busy[1] < 60 && busy[2] >= 10, "{busy:?}");
        let both = divide(&[claim(100, 90, 300), claim(100, 50, 300)]);
        assert_eq!(both, [100, 100], "each may have what is its own");
        let exempt = Claim {
            exempt: true,
            lower: 0,
            nominal: 0,
            ..claim(0, 0, 150)
        };
        let beside = divide(&[claim(100, 90, 100), claim(100, 50, 100), exempt]);
        assert_eq!(
            beside,
            [10, 50, 150],
            "who is exempt takes first, and leaves what is kept"
        );
    }

    proptest! {
        #[test]
        fn a_level_stays_within_its_bounds_and_all_come_to_what_there_is(
            levels in prop::collection::vec((0..200_u32, 0..=100_u32, 0..400_u32), 1..9)
        ) {
            let claims: Vec<Claim> = levels
                .iter()
                .map(|(nominal, lendable, high)| claim(*nominal, percent(*nominal, *lendable), *high))
                .collect();
            let seats = divide(&claims);
            let all: u32 = claims.iter().map(|c| c.nominal).sum();
            for (claim, seats) in claims.iter().zip(&seats) {
                prop_assert!((claim.lower..=claim.upper).contains(seats), "{:?}: {}", claim, seats);
            }
            let sum: u32 = seats.iter().sum();
            prop_assert!(sum.abs_diff(all) as usize <= claims.len(), "{} of {}: {:?}", sum, all, seats);
        }
    }
}
