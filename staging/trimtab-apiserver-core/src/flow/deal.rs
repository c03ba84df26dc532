//! Shuffle sharding: a flow's hash deals it a hand of queues, of which it takes the shortest. Two flows share all queues
//! of their hands so rarely that one that floods its own leaves the other at least one that is free.

/// Hands have at most so many cards: as many as 60 bits of a hash can deal, which is what kube-apiserver allows.
pub(crate) const MOST_CARDS: usize = 19;

/// The cards that a hash deals: `hand` different ones out of `deck`, in the order of dealing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hand {
    cards: [u32; MOST_CARDS],
    len: usize,
}

impl Hand {
    /// Deals a hand. More cards than the deck has are not dealt.
    pub(crate) fn deal(hash: u64, deck: u32, hand: usize) -> Self {
        let len = hand
            .min(MOST_CARDS)
            .min(usize::try_from(deck).unwrap_or(MOST_CARDS));
        let (mut cards, mut sorted) = ([0; MOST_CARDS], [0; MOST_CARDS]);
        let mut rest = hash;
        let mut left = u64::from(deck);
        for (i, dealt) in cards.iter_mut().take(len).enumerate() {
            // Among those that are left, then among all: each lower one that is gone shifts it by one.
            let mut card = u32::try_from(rest % left).unwrap_or_default();
            rest /= left;
            left -= 1;
            let mut at = 0;
            while at < i && sorted[at] <= card {
                card += 1;
                at += 1;
            }
            sorted.copy_within(at..i, at + 1);
            sorted[at] = card;
            *dealt = card;
        }
        Self { cards, len }
    }

    pub(crate) fn cards(&self) -> &[u32] {
        &self.cards[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hand_has_different_cards_of_the_deck(hash: u64, deck in 1..200_u32, hand in 0..30_usize) {
            let dealt = Hand::deal(hash, deck, hand);
            let different: BTreeSet<u32> = dealt.cards().iter().copied().collect();
            prop_assert_eq!(different.len(), hand.min(deck as usize).min(MOST_CARDS));
            prop_assert!(different.iter().all(|card| *card < deck));
        }
    }

    #[test]
    fn all_hands_are_dealt_equally_often() {
        let mut dealt: HashMap<Vec<u32>, u32> = HashMap::new();
        for hash in 0..6 * 5 * 4 * 10 {
            let hand = Hand::deal(hash, 6, 3);
            *dealt.entry(hand.cards().to_vec()).or_default() += 1;
        }
        assert_eq!(dealt.len(), 6 * 5 * 4);
        assert!(dealt.values().all(|times| *times == 10), "{dealt:?}");
    }
}
