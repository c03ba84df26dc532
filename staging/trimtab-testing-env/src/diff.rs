//! How two JSON values differ, in lines that a person reads.

use serde_json::Value;

/// How `is` differs from `should_be`, one line for each place, as `/spec/replicas: should be 3, and is 2`.
pub fn differences(should_be: &Value, is: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(Some(should_be), Some(is), "", true, &mut lines);
    lines
}

/// As [`differences`], of the fields alone that `part` has: what else `is` has does not count. Lists are compared by place,
/// and have to be of the same length.
pub fn lacks(part: &Value, is: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(Some(part), Some(is), "", false, &mut lines);
    lines
}

fn compare(should_be: Option<&Value>, is: Option<&Value>, at: &str, whole: bool, lines: &mut Vec<String>) {
    match (should_be, is) {
        (Some(Value::Object(wanted)), Some(Value::Object(found))) => {
            for (field, value) in wanted {
                compare(Some(value), found.get(field), &step(at, field), whole, lines);
            }
            for (field, value) in found
                .iter()
                .filter(|(field, _)| whole && !wanted.contains_key(*field))
            {
                compare(None, Some(value), &step(at, field), whole, lines);
            }
        }
        (Some(Value::Array(wanted)), Some(Value::Array(found))) => {
            for index in 0..wanted.len().max(found.len()) {
                compare(
                    wanted.get(index),
                    found.get(index),
                    &step(at, &index.to_string()),
                    whole,
                    lines,
                );
            }
        }
        (wanted, found) if wanted == found => {}
        // To want null is to want that it is not there.
        (Some(Value::Null), None) => {}
        (wanted, found) => lines.push(format!(
            "{}: should be {}, and is {}",
            if at.is_empty() { "/" } else { at },
            words(wanted),
            words(found)
        )),
    }
}

/// A JSON pointer, one step further.
fn step(at: &str, field: &str) -> String {
    format!("{at}/{}", field.replace('~', "~0").replace('/', "~1"))
}

fn words(value: Option<&Value>) -> String {
    value.map_or("not there".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_say_where() {
        let table = [
            (json!({"a": 1}), json!({"a": 1}), vec![], vec![]),
            (
                json!({"a": {"b/c": 1}}),
                json!({"a": {"b/c": 2}, "more": true}),
                vec![
                    "/a/b~1c: should be 1, and is 2",
                    "/more: should be not there, and is true",
                ],
                vec!["/a/b~1c: should be 1, and is 2"],
            ),
            (
                json!({"list": [1, 2]}),
                json!({"list": [1]}),
                vec!["/list/1: should be 2, and is not there"],
                vec!["/list/1: should be 2, and is not there"],
            ),
            (json!({"gone": null}), json!({}), vec![], vec![]),
            (
                json!(1),
                json!("1"),
                vec!["/: should be 1, and is \"1\""],
                vec!["/: should be 1, and is \"1\""],
            ),
        ];
        for (should_be, is, all, of_part) in table {
            assert_eq!(differences(&should_be, &is), all);
            assert_eq!(lacks(&should_be, &is), of_part);
        }
    }
}
