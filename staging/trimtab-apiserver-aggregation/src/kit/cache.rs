//! What has been found out, for a while: of so many questions at most.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Answers that hold for some time.
#[derive(Debug)]
pub(super) struct Cache<Q, A> {
    answers: Mutex<HashMap<Q, (Instant, A)>>,
    time: Duration,
    most: usize,
}

impl<Q: Eq + Hash, A: Clone> Cache<Q, A> {
    pub(super) fn new(time: Duration, most: usize) -> Self {
        Self {
            answers: Mutex::default(),
            time,
            most,
        }
    }

    pub(super) fn get(&self, question: &Q) -> Option<A> {
        let answers = self.answers.lock();
        let (until, answer) = answers.get(question)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    pub(super) fn put(&self, question: Q, answer: A) {
        let now = Instant::now();
        let mut answers = self.answers.lock();
        if answers.len() >= self.most {
            answers.retain(|_, (until, _)| *until > now);
        }
        if answers.len() >= self.most {
            // All are in use: to begin anew is cheaper than to know which is the oldest.
            answers.clear();
        }
        answers.insert(question, (now + self.time, answer));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_hold_for_their_time_and_are_never_too_many() {
        let cache = Cache::new(Duration::from_secs(10), 2);
        cache.put("a", 1);
        advance(Duration::from_secs(9)).await;
        cache.put("b", 2);
        assert_eq!(
            (cache.get(&"a"), cache.get(&"b"), cache.get(&"c")),
            (Some(1), Some(2), None)
        );
        advance(Duration::from_secs(1)).await;
        assert_eq!((cache.get(&"a"), cache.get(&"b")), (None, Some(2)));
        cache.put("c", 3);
        assert_eq!(
            (cache.get(&"b"), cache.get(&"c")),
            (Some(2), Some(3)),
            "what is over went first"
        );
        cache.put("d", 4);
        assert_eq!(
            (cache.get(&"b"), cache.get(&"c"), cache.get(&"d")),
            (None, None, Some(4))
        );
    }
}
