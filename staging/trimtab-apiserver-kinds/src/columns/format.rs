//! Texts that cells are made of: ages, labels, selectors, lists that are cut short.

use jiff::Timestamp;
use serde_json::Value;
use trimtab_apimachinery_meta::{LabelSelector, Quantity};

/// What stands in a cell with nothing to show.
pub(super) const NONE: &str = "<none>";
/// What stands in a cell whose value has not been decided on.
pub(super) const UNSET: &str = "<unset>";

/// How long before `now` (seconds since the epoch) an RFC 3339 time was, as kubectl writes it.
pub fn age(time: &str, now: i64) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => human_duration(now - then.as_second()),
        Err(_) if time.is_empty() => "<unknown>".to_owned(),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A duration in seconds, in its one or two largest units: `5s`, `3m20s`, `7d4h`.
///
/// The steps at which the smaller unit is dropped are those of `k8s.io/apimachinery/pkg/util/duration`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// The seconds since the epoch of an RFC 3339 time.
pub(super) fn seconds(time: &Value) -> Option<i64> {
    time.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// A text; empty when there is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text, or something else in place of an empty one.
pub(super) fn text_or<'v>(value: &'v Value, otherwise: &'v str) -> &'v str {
    match text(value) {
        "" => otherwise,
        text => text,
    }
}

/// A whole number; zero when there is none.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// The elements of a list; none when it is not there.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How many entries a list or a map has.
pub(super) fn count(value: &Value) -> i64 {
    let entries = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    i64::try_from(entries).unwrap_or(i64::MAX)
}

/// The texts of a list, with commas between.
pub(super) fn joined(list: &Value) -> String {
    items(list).iter().map(text).collect::<Vec<_>>().join(",")
}

/// Labels as `a=1,b=2`, in order of their keys.
pub(super) fn labels(labels: &Value) -> String {
    let mut pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    if pairs.is_empty() {
        return NONE.to_owned();
    }
    pairs.sort();
    pairs.join(",")
}

/// A label selector as text; empty when it selects everything or is absent, `None` when it makes no sense.
pub(super) fn selector(selector: &Value) -> Option<String> {
    let selector = LabelSelector::from_object(selector).ok()?;
    Some(selector.map(|s| s.to_string()).unwrap_or_default())
}

/// A label selector as text, with words for one that says nothing or makes no sense.
pub(super) fn selector_or_none(value: &Value) -> String {
    match selector(value) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => NONE.to_owned(),
        Some(text) => text,
    }
}

/// The names and the images of containers, each with commas between.
pub(super) fn containers(containers: &Value) -> (String, String) {
    let all = |field: &str| {
        let texts: Vec<&str> = items(containers).iter().map(|c| text(&c[field])).collect();
        texts.join(",")
    };
    (all("name"), all("image"))
}

/// A quantity in its canonical form; of none, zero.
pub(super) fn quantity(value: &Value) -> String {
    match value {
        Value::Null => "0".to_owned(),
        Value::String(text) => text
            .parse::<Quantity>()
            .map_or_else(|_| text.clone(), |q| q.to_string()),
        other => other.to_string(),
    }
}

/// The first few of a list, and how many more there are.
pub(super) fn first_of(list: &[String], max: usize) -> String {
    let shown = list.iter().take(max).map(String::as_str).collect::<Vec<_>>();
    let shown = shown.join(",");
    if list.len() > max {
        format!("{shown} + {} more...", list.len() - max)
    } else {
        shown
    }
}

/// The status (`True`, `False`, `Unknown`) of a condition.
pub(super) fn condition<'v>(object: &'v Value, type_: &str) -> Option<&'v str> {
    items(&object["status"]["conditions"])
        .iter()
        .find(|c| text(&c["type"]) == type_)
        .map(|c| text(&c["status"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_their_largest_units() {
        let cases = [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3_600, "60m"),
            (10_801, "3h"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (8 * 86_400, "8d"),
            (800 * 86_400, "2y70d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let list: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(first_of(&list, 4), "a,b,c,d");
        assert_eq!(first_of(&list, 3), "a,b,c + 1 more...");
    }
}
