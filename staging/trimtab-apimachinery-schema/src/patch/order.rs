//! The order of a list that a strategic merge patch has merged: the patch's order for the elements that the patch
//! names, the old order for the rest, interleaved by the old order where that decides.

use std::collections::HashMap;

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
}

/// Lists that are longer are not gone through for each of their elements.
const LONG: usize = 32;

/// Where the elements of a list are, by identity: the first place of each.
pub(super) struct Places<'a> {
    key: MergeKey<'a>,
    /// By the JSON of the identity; `None` while the list is short.
    known: Option<HashMap<String, usize>>,
}

impl<'a> Places<'a> {
    pub(super) fn of(list: &[Value], key: MergeKey<'a>) -> Self {
        let mut places = Self { key, known: None };
        places.index_if_long(list);
        places
    }

    /// The place of the element with the identity of `wanted` in the list that this is of.
    pub(super) fn find(&self, list: &[Value], wanted: &Value) -> Option<usize> {
        let wanted = self.key.of(wanted)?;
        match &self.known {
            Some(known) => known.get(&wanted.to_string()).copied(),
            None => list
                .iter()
                .position(|element| self.key.of(element) == Some(wanted)),
        }
    }

    /// An element has been added at the end of the list.
    pub(super) fn added(&mut self, list: &[Value]) {
        match (&mut self.known, list.last()) {
            (Some(known), Some(last)) => {
                if let Some(identity) = self.key.of(last) {
                    known.entry(identity.to_string()).or_insert(list.len() - 1);
                }
            }
            _ => self.index_if_long(list),
        }
    }

    fn index_if_long(&mut self, list: &[Value]) {
        if list.len() <= LONG {
            return;
        }
        let mut known = HashMap::with_capacity(list.len());
        for (at, element) in list.iter().enumerate() {
            if let Some(identity) = self.key.of(element) {
                known.entry(identity.to_string()).or_insert(at);
            }
        }
        self.known = Some(known);
    }
}

/// Puts a merged list in order. `order` is what the patch asks for, `old` the list before the patch.
pub(super) fn arrange(merged: Vec<Value>, order: &[Value], old: &[Value], key: MergeKey<'_>) -> Vec<Value> {
    let (in_order, in_old) = (Places::of(order, key), Places::of(old, key));
    let (mut named, mut others): (Vec<_>, Vec<_>) = merged
        .into_iter()
        .partition(|element| in_order.find(order, element).is_some());
    named.sort_by_cached_key(|element| in_order.find(order, element));
    others.sort_by_cached_key(|element| in_old.find(old, element).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for element in named {
        let place = in_old.find(old, &element);
        while let Some(other) = others.next_if(|other| match (in_old.find(old, other), place) {
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
