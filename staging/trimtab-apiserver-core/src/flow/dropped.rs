//! When those who were refused are to come again: after a second, and after longer while many are refused.

use std::collections::VecDeque;

/// At most so many seconds; kube-apiserver's `maxRetryAfter`.
const MOST: u64 = 32;

/// How many were refused in each of the last seconds.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// Seconds, and how many in each; oldest first, none of them empty.
    last: VecDeque<(u64, u64)>,
    after: u64,
    raised: Option<u64>,
}

impl Default for Dropped {
    fn default() -> Self {
        Self {
            last: VecDeque::new(),
            after: 1,
            raised: None,
        }
    }
}

impl Dropped {
    /// Counts one that is refused in this second, and answers after how many seconds it is to come again.
    pub(crate) fn note(&mut self, second: u64) -> u64 {
        match self.last.back_mut() {
            Some((last, count)) if *last >= second => *count += 1,
            _ => {
                self.adjust(second);
                self.last.push_back((second, 1));
                while self.last.front().is_some_and(|(at, _)| second - at > MOST) {
                    self.last.pop_front();
                }
            }
        }
        self.after
    }

    /// Twice as long if at least three a second were refused for as long as that is, a second less if fewer than one.
    fn adjust(&mut self, second: u64) {
        let recent = self.last.iter().filter(|(at, _)| second - at <= self.after);
        let dropped: u64 = recent.map(|(_, count)| count).sum();
        let rested = self.raised.is_none_or(|raised| second - raised >= self.after);
        if rested && dropped >= 3 * self.after {
            self.after = (2 * self.after).min(MOST);
            self.raised = Some(second);
        } else if dropped < self.after && self.after > 1 {
            self.after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_double_the_time_and_few_shorten_it() {
        let mut dropped = Dropped::default();
        assert_eq!(dropped.note(100), 1);
        for _ in 0..9 {
            assert_eq!(dropped.note(100), 1, "it changes with the seconds");
        }
        assert_eq!(dropped.note(101), 2);
        assert_eq!(dropped.note(102), 2, "not before it has been tried");
        for second in 103..200 {
            for _ in 0..200 {
                dropped.note(second);
            }
        }
        assert_eq!(dropped.note(200), MOST);
        for second in 0..MOST {
            dropped.note(300 + second * 100);
        }
        assert_eq!(dropped.note(10_000), 1);
        assert!(dropped.last.len() <= MOST as usize + 1);
    }
}
