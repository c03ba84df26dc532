//! Rounds: who is asked again when others have changed the object after them.

use std::collections::BTreeSet;

use serde_json::Value;

/// How far a request has come with those who may change it. In the first round all are asked, in the second those that
/// want to know of what has been changed after them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    is_second: bool,
    /// Those that were asked, and want to be asked again when something changes.
    asked: BTreeSet<String>,
    /// Those after whom something has changed.
    due: BTreeSet<String>,
    /// Whether anyone has changed the object.
    changed: bool,
    /// The object as the last round left it.
    left: Option<Value>,
}

impl Progress {
    /// Whether a second round is needed, and the plugins before it once more.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Begins the second round, with the object as those before it have left it.
    pub(crate) fn again(&mut self, object: &Value) {
        self.is_second = true;
        if self.left.as_ref() != Some(object) {
            self.due.append(&mut self.asked);
        }
    }

    /// Whether it is this one's turn.
    pub(crate) fn has_turn(&self, id: &str) -> bool {
        !self.is_second || self.due.contains(id)
    }

    /// The object has been changed.
    pub(crate) fn change(&mut self) {
        self.changed = true;
        self.due.append(&mut self.asked);
    }

    /// This one was asked, and wants to be asked again.
    pub(crate) fn ask_again(&mut self, id: &str) {
        self.asked.insert(id.to_owned());
    }

    /// The round is over, and this is what it leaves.
    pub(crate) fn leave(&mut self, object: Option<&Value>) {
        // Otherwise nobody wants to know of it.
        if !self.asked.is_empty() {
            self.left = object.cloned();
        }
    }
}
