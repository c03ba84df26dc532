//! The order of a list that a strategic merge patch has merged: the patch's order for the elements that the patch
//! names, the old order for the rest, interleaved by the old order where that decides.

use serde_json::Value;

/// What identifies a list's elements: a field of objects, or (empty) the scalar itself.
#[derive(Clone, Copy)]
pub(super) struct MergeKey<'a>(pub(super) &'a str);

impl MergeKey<'_> {
    /// The identity of an element; `None` for an object without the key.
    pub(super) fn of(self, element: &Value) -> Option<&Value> {
        if self.0.is_empty() {
            Some(element)
        } else {
            element.get(self.0)
        }
    }

    /// The place of the element with the identity of `wanted`.
    pub(super) fn position(self, list: &[Value], wanted: &Value) -> Option<usize> {
        let wanted = self.of(wanted)?;
        list.iter().position(|element| self.of(element) == Some(wanted))
    }
}

/// Puts a merged list in order. `order` is what the patch asks for, `old` the list before the patch.
pub(super) fn arrange(merged: Vec<Value>, order: &[Value], old: &[Value], key: MergeKey<'_>) -> Vec<Value> {
    let (mut named, mut others): (Vec<_>, Vec<_>) = merged
        .into_iter()
        .partition(|element| key.position(order, element).is_some());
    named.sort_by_key(|element| key.position(order, element));
    others.sort_by_key(|element| key.position(old, element).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for element in named {
        let place = key.position(old, &element);
        while let Some(other) = others.next_if(|other| match (key.position(old, other), place) {
            (Some(other), Some(place)) => other < place,
            _ => false,
        }) {
            result.push(other);
        }
        result.push(element);
    }
    result.extend(others);
    result
}
