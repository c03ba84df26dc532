//! *Difference only*: what a type made of an object, before and after a change, brought to the object as it was sent.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

/// The object `sent`, changed as `before` was to become `after`.
///
/// `before` is what a type made of `sent`: it may lack what the type does not know, hold what decoding has filled in, and
/// write things differently. Where `before` and `after` are equal, `sent` stays as it is. Elsewhere:
///
/// - a value that was set or changed is set; one that is gone is removed;
/// - objects are compared field by field, where all three are objects;
/// - lists element by element, where `sent` and `before` are lists of one length. An element of `after` goes back to one of
///   `before` that is equal to it, or has the same `name`, or stands in the same place, if as many stand there in both and
///   their names do not say otherwise. One without a past is taken as it is.
///
/// A type that knows a field by two names (`#[serde(alias)]`) gets both, if the other was sent and the field changes.
pub(crate) fn difference(sent: &Value, before: &Value, after: &Value) -> Value {
    if before == after {
        return sent.clone();
    }
    match (sent, before, after) {
        (Value::Object(sent), Value::Object(before), Value::Object(after)) => {
            Value::Object(fields(sent, before, after))
        }
        (Value::Array(sent), Value::Array(before), Value::Array(after)) if sent.len() == before.len() => {
            let pasts = pasts(before, after);
            let elements = after.iter().zip(pasts).map(|(after, past)| match past {
                Some(past) => difference(&sent[past], &before[past], after),
                None => after.clone(),
            });
            Value::Array(elements.collect())
        }
        _ => after.clone(),
    }
}

fn fields(
    sent: &Map<String, Value>,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Map<String, Value> {
    let mut result = sent.clone();
    for (key, new) in after {
        let old = before.get(key);
        if old == Some(new) {
            continue;
        }
        let new = match (sent.get(key), old) {
            (Some(sent), Some(old)) => difference(sent, old, new),
            // The type has seen nothing worth writing here, as when everything in it is unknown.
            (Some(sent @ Value::Object(_)), None) => difference(sent, &Value::Object(Map::new()), new),
            _ => new.clone(),
        };
        result.insert(key.clone(), new);
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        result.remove(key);
    }
    result
}

/// For each element of `after`, the element of `before` that it was.
fn pasts(before: &[Value], after: &[Value]) -> Vec<Option<usize>> {
    let mut pasts = vec![None; after.len()];
    let mut free = vec![true; before.len()];
    let same = |(old, new): &(&Value, &Value)| old == new;
    let ahead = before.iter().zip(after).take_while(same).count();
    let shorter = before.len().min(after.len());
    let behind = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(same)
        .count();
    let behind = behind.min(shorter - ahead);
    let (old_end, new_end) = (before.len() - behind, after.len() - behind);
    for place in 0..ahead {
        (pasts[place], free[place]) = (Some(place), false);
    }
    for place in 0..behind {
        (pasts[new_end + place], free[old_end + place]) = (Some(old_end + place), false);
    }
    pair(before, after, &mut pasts, &mut free, |element| {
        Some(element.to_string())
    });
    pair(before, after, &mut pasts, &mut free, |element| {
        name(element).map(str::to_owned)
    });
    in_place(before, after, &mut pasts, &free);
    pasts
}

/// Pairs what has no partner yet and the same key, in the order of both lists.
fn pair(
    before: &[Value],
    after: &[Value],
    pasts: &mut [Option<usize>],
    free: &mut [bool],
    key: impl Fn(&Value) -> Option<String>,
) {
    let mut by_key: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
    for (place, element) in before.iter().enumerate().filter(|(place, _)| free[*place]) {
        if let Some(key) = key(element) {
            by_key.entry(key).or_default().push_back(place);
        }
    }
    for (past, element) in pasts.iter_mut().zip(after).filter(|(past, _)| past.is_none()) {
        let candidates = key(element).and_then(|key| by_key.get_mut(&key));
        if let Some(place) = candidates.and_then(VecDeque::pop_front) {
            (*past, free[place]) = (Some(place), false);
        }
    }
}

/// Pairs runs of elements without partners that stand between the same neighbours and are equally long.
fn in_place(before: &[Value], after: &[Value], pasts: &mut [Option<usize>], free: &[bool]) {
    let mut from = 0;
    while from < pasts.len() {
        if pasts[from].is_some() {
            from += 1;
            continue;
        }
        let to = (from..pasts.len())
            .find(|place| pasts[*place].is_some())
            .unwrap_or(pasts.len());
        let first = match from.checked_sub(1) {
            Some(left) => pasts[left].map_or(0, |past| past + 1),
            None => 0,
        };
        let last = pasts.get(to).copied().flatten().unwrap_or(before.len());
        if last >= first && last - first == to - from && free[first..last].iter().all(|free| *free) {
            for (new, old) in (from..to).zip(first..last) {
                // Two names are two things: equal ones have been paired.
                if name(&before[old]).is_none() || name(&after[new]).is_none() {
                    pasts[new] = Some(old);
                }
            }
        }
        from = to;
    }
}

fn name(element: &Value) -> Option<&str> {
    element.get("name")?.as_str()
}
