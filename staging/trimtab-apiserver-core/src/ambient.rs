//! The time and the randomness of a server: the system's, or those of a test that is to be repeated.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use uuid::Uuid;

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where UIDs, generated names, allocated addresses and the length of watches come from: the system, or a seed. Clones draw
/// from the same.
///
/// Keys, certificates and tokens never come from a seed.
#[derive(Clone, Debug, Default)]
pub struct Entropy(Option<Arc<Mutex<fastrand::Rng>>>);

/// What a server takes from the world around it but for requests.
#[derive(Clone)]
pub(crate) struct Ambient {
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
}

// === impl Entropy ===

impl Entropy {
    /// What the same calls in the same order get from the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))))
    }

    /// A random UUID.
    pub(crate) fn uuid(&self) -> Uuid {
        match &self.0 {
            None => Uuid::new_v4(),
            Some(rng) => uuid::Builder::from_random_bytes(rng.lock().u128(..).to_le_bytes()).into_uuid(),
        }
    }

    /// A new UID.
    pub(crate) fn uid(&self) -> String {
        self.uuid().to_string()
    }

    /// A random number of 60 bits. Some bits of a random UUID are fixed; the low 60 are not.
    pub(crate) fn number(&self) -> u128 {
        self.uuid().as_u128() & ((1 << 60) - 1)
    }

    /// Five characters of those that spell no words.
    pub(crate) fn suffix(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let random = self.uuid();
        let characters = random.as_bytes().iter().take(5);
        characters
            .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
            .collect()
    }
}

// === impl Ambient ===

impl Default for Ambient {
    fn default() -> Self {
        Self {
            clock: Arc::new(Timestamp::now),
            entropy: Entropy::default(),
        }
    }
}

impl Ambient {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The time as metadata writes it.
    pub(crate) fn timestamp(&self) -> String {
        self.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambient")
            .field("entropy", &self.entropy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_the_system_does_not_repeat_itself() {
        let draw = |entropy: Entropy| (entropy.uid(), entropy.suffix(), entropy.number());
        assert_eq!(draw(Entropy::seeded(1)), draw(Entropy::seeded(1)));
        assert_ne!(draw(Entropy::seeded(1)), draw(Entropy::seeded(2)));
        assert_ne!(draw(Entropy::default()), draw(Entropy::default()));
        let uid = Entropy::seeded(3).uuid();
        assert_eq!(uid.get_version_num(), 4, "{uid}");
    }
}
