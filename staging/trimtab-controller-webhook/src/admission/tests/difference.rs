//! *Difference only*, by a table and by chance.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::super::difference::difference;

/// What a type makes of a value: it knows nothing that begins with `x-`, and fills in `filled`.
fn read(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let known = fields.iter().filter(|(key, _)| !key.starts_with("x-"));
            let mut known: Map<_, _> = known.map(|(key, value)| (key.clone(), read(value))).collect();
            known.entry("filled").or_insert(json!(0));
            Value::Object(known)
        }
        Value::Array(elements) => elements.iter().map(read).collect(),
        other => other.clone(),
    }
}

/// The clause's checker: `after` is what the type reads, and whatever is equal in `before` and `after` is as it was sent.
fn check_difference_only(sent: &Value, after: &Value) -> Result<Value, String> {
    let before = read(sent);
    let result = difference(sent, &before, after);
    if read(&result) != *after {
        return Err(format!("{result} is read as another than {after}"));
    }
    untouched(Some(sent), Some(&before), Some(after), Some(&result))?;
    let mut patched = sent.clone();
    let patch = json_patch::diff(sent, &result);
    json_patch::patch(&mut patched, &patch).map_err(|error| error.to_string())?;
    if patched != result {
        return Err(format!("the patch {patch} makes {patched} and not {result}"));
    }
    Ok(result)
}

fn untouched(
    sent: Option<&Value>,
    before: Option<&Value>,
    after: Option<&Value>,
    result: Option<&Value>,
) -> Result<(), String> {
    if before == after {
        return if sent == result {
            Ok(())
        } else {
            Err(format!("{sent:?} became {result:?}, though nothing changed it"))
        };
    }
    let objects = [sent, before, after, result].map(|value| value.and_then(Value::as_object));
    let [Some(sent), Some(before), Some(after), Some(result)] = objects else {
        return Ok(());
    };
    for key in sent.keys().chain(before.keys()).chain(after.keys()) {
        untouched(sent.get(key), before.get(key), after.get(key), result.get(key))
            .map_err(|why| format!("{key}: {why}"))?;
    }
    Ok(())
}

#[test]
fn only_what_changed_is_brought_over() {
    let pages = |pages: Value| json!({"pages": pages});
    let (a, b) = (
        json!({"name": "a", "x-u": 1, "v": 1}),
        json!({"name": "b", "x-u": 2, "v": 2}),
    );
    let known = |name: &str, v: i32| json!({"name": name, "v": v, "filled": 0});
    let cases = [
        // sent, after, wanted
        (
            json!({"a": 1, "x-u": 1}),
            json!({"a": 1, "filled": 0}),
            json!({"a": 1, "x-u": 1}),
        ),
        (
            json!({"a": null, "x-u": 1}),
            json!({"a": 2, "filled": 0}),
            json!({"a": 2, "x-u": 1}),
        ),
        (
            json!({"a": 1, "x-u": 1}),
            json!({"b": 2, "filled": 7}),
            json!({"b": 2, "filled": 7, "x-u": 1}),
        ),
        (
            json!({"a": {"x-u": 1}}),
            json!({"a": {"b": 1, "filled": 0}, "filled": 0}),
            json!({"a": {"b": 1, "x-u": 1}}),
        ),
        (
            json!({"a": {"x-u": 1}}),
            json!({"a": [1], "filled": 0}),
            json!({"a": [1]}),
        ),
        // Elements: put first, moved, changed, replaced by another, changed where they stand.
        (
            pages(json!([a, b])),
            json!({"pages": [known("n", 0), known("a", 1), known("b", 2)], "filled": 0}),
            pages(json!([known("n", 0), a, b])),
        ),
        (
            pages(json!([a, b])),
            json!({"pages": [known("b", 2), known("a", 1)], "filled": 0}),
            pages(json!([b, a])),
        ),
        (
            pages(json!([a, b])),
            json!({"pages": [known("b", 7)], "filled": 0}),
            pages(json!([{"name": "b", "x-u": 2, "v": 7}])),
        ),
        (
            pages(json!([a, b])),
            json!({"pages": [known("c", 1), known("b", 2)], "filled": 0}),
            pages(json!([known("c", 1), b])),
        ),
        (
            pages(json!([{"x-u": 1, "v": 1}, {"x-u": 2, "v": 2}])),
            json!({"pages": [{"v": 7, "filled": 0}, {"v": 2, "filled": 0}], "filled": 0}),
            pages(json!([{"x-u": 1, "v": 7}, {"x-u": 2, "v": 2}])),
        ),
        (
            pages(json!([{"x-u": 1, "v": 1}])),
            json!({"pages": [{"name": "new", "v": 1, "filled": 0}], "filled": 0}),
            pages(json!([{"name": "new", "x-u": 1, "v": 1}])),
        ),
        // Which of two that were one thing each was it? Neither.
        (
            pages(json!([{"x-u": 1, "v": 1}, {"x-u": 2, "v": 2}])),
            json!({"pages": [{"v": 7, "filled": 0}], "filled": 0}),
            pages(json!([{"v": 7, "filled": 0}])),
        ),
        (
            pages(json!([1, 2, 3])),
            json!({"pages": [3, 1], "filled": 0}),
            pages(json!([3, 1])),
        ),
    ];
    for (sent, after, wanted) in cases {
        let result = check_difference_only(&sent, &after).expect("Difference only");
        assert_eq!(result, wanted, "{sent} to {after}");
    }
}

/// A type may write otherwise what it has read; that is no change either.
#[test]
fn what_is_written_otherwise_stays_as_it_was_sent() {
    let sent = json!({"port": "80", "size": 1.0, "host": null, "tags": {"a": "b"}});
    let before = json!({"port": 80, "size": 1, "tags": ["a=b"]});
    assert_eq!(difference(&sent, &before, &before), sent);
    let after = json!({"port": 80, "size": 2, "host": "h", "tags": ["a=b"]});
    let wanted = json!({"port": "80", "size": 2, "host": "h", "tags": {"a": "b"}});
    assert_eq!(difference(&sent, &before, &after), wanted);
    // What is both written otherwise and changed is taken as it is.
    let after = json!({"port": 80, "size": 1, "tags": ["a=b", "c=d"]});
    let wanted = json!({"port": "80", "size": 1.0, "host": null, "tags": ["a=b", "c=d"]});
    assert_eq!(difference(&sent, &before, &after), wanted);
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof!["[a-c]", Just("name".to_owned()), Just("x-u".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Puts something else in a place of the value.
fn edit(value: &mut Value, path: &[Index], new: Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let key = fields
                .keys()
                .nth(step.index(fields.len()))
                .expect("it is there")
                .clone();
            match (rest, &new) {
                ([], Value::Null) => drop(fields.remove(&key)),
                _ => edit(&mut fields[&key], rest, new),
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            let place = step.index(elements.len());
            match (rest, &new) {
                ([], Value::Null) => drop(elements.remove(place)),
                ([], Value::Bool(true)) => elements.rotate_left(place),
                ([], Value::Bool(false)) => elements.insert(place, json!({"name": "c"})),
                _ => edit(&mut elements[place], rest, new),
            }
        }
        _ => *value = new,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_changed_the_rest_stays(
        sent in values(),
        edits in prop::collection::vec((prop::collection::vec(any::<Index>(), 0..5), values()), 0..4),
    ) {
        let mut edited = sent.clone();
        for (path, new) in edits {
            edit(&mut edited, &path, new);
        }
        check_difference_only(&sent, &read(&edited)).map_err(TestCaseError::fail)?;
    }

    /// However a list of named things is changed, each keeps what is unknown of it, and none gets another's.
    #[test]
    fn named_elements_keep_their_own(
        names in Just(vec!["a", "b", "c", "d", "e"]).prop_shuffle(),
        wanted in Just(vec!["a", "b", "c", "d", "e", "f", "g"]).prop_shuffle(),
        (old, new) in (0..6_usize, 0..8_usize),
        changed in prop::collection::vec(any::<bool>(), 7),
    ) {
        let (names, wanted) = (&names[..old], &wanted[..new]);
        let sent: Value = names.iter().map(|name| json!({"name": name, "v": 0, "x-u": name})).collect();
        let after: Value = wanted.iter().zip(changed)
            .map(|(name, changed)| json!({"name": name, "v": i32::from(changed), "filled": 0}))
            .collect();
        let result = check_difference_only(&sent, &after).map_err(TestCaseError::fail)?;
        for element in result.as_array().expect("a list") {
            let name = element["name"].as_str().expect("a name");
            let own = if names.contains(&name) { json!(name) } else { Value::Null };
            prop_assert_eq!(&element["x-u"], &own, "{}", result);
        }
    }
}
