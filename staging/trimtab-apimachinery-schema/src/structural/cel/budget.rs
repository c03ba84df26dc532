//! What the rules of one object may cost together.

use super::requests::COST_OF_POLICY;

/// What is left of it. Rules are evaluated one after the other until it is used up.
#[derive(Debug)]
pub(super) struct Budget(Option<u64>);

impl Budget {
    /// What the rules of a custom resource may cost for one object (`RuntimeCELCostBudget`).
    pub(super) fn of_an_object() -> Self {
        Self(Some(COST_OF_POLICY))
    }

    /// Takes a cost off; whether there was as much left.
    pub(super) fn take(&mut self, cost: u64) -> bool {
        self.0 = self.0.and_then(|left| left.checked_sub(cost));
        self.0.is_some()
    }

    /// No further rule is evaluated, whatever is left.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// Whether no further rule is evaluated.
    pub(super) fn is_ended(&self) -> bool {
        self.0.is_none()
    }

    /// Whether there is nothing left for a rule.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none_or(|left| left == 0)
    }
}
