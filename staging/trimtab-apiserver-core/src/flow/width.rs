//! How many seats a request takes: one, or more for a list of many bytes, since what a list holds in memory is what the
//! seats are to limit.
//!
//! kube-apiserver also has writes hold seats for some milliseconds after their end when many watch what they write. Here an
//! event is rendered once for all who watch, so nothing is held.

use crate::api::RequestInfo;

/// Bytes for each seat; kube-apiserver's `bytesPerSeat`.
const BYTES_PER_SEAT: u64 = 100_000;
/// What a list from the cache holds at once, at most, in bytes: it is written piece by piece.
const MOST_STREAMED: u64 = 1_000_000;

/// What is known of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// How many seats a list or the beginning of a watch takes; `param` are the query's parameters.
pub(crate) fn of_list<'q>(
    info: &RequestInfo,
    param: impl Fn(&str) -> Option<&'q str>,
    collection: Option<Collection>,
    widest: u32,
) -> u32 {
    let Some(Collection { objects, bytes }) = collection else {
        return 1;
    };
    let from = param("resourceVersion").unwrap_or_default();
    if info.verb == "watch" {
        let wants_state = param("sendInitialEvents") == Some("true");
        if !wants_state && !matches!(from, "" | "0") {
            return 1;
        }
    }
    if !info.field_name.is_empty() || objects == 0 {
        return 1;
    }
    let number = |name| param(name).and_then(|text| text.parse::<u64>().ok());
    let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(objects);
    let streamed = info.verb == "watch"
        || (param("continue").is_none_or(str::is_empty) && param("resourceVersionMatch") != Some("Exact"));
    let selects = ["labelSelector", "fieldSelector"]
        .iter()
        .any(|name| param(name).is_some_and(|text| !text.is_empty()));
    let held = match (streamed, selects) {
        (false, true) => limit.min(objects).max(objects / 2),
        _ => limit.min(objects),
    };
    let mut bytes = (bytes / objects).saturating_mul(held);
    if streamed {
        bytes = bytes.min(MOST_STREAMED);
    }
    let seats = bytes.div_ceil(BYTES_PER_SEAT);
    u32::try_from(seats).unwrap_or(u32::MAX).clamp(1, widest.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_wide_as_what_it_holds() {
        let some = |objects, bytes| Some(Collection { objects, bytes });
        let large = some(1000, 10_000_000);
        for (verb, query, collection, seats) in [
            ("list", "", None, 1),
            ("list", "", some(0, 0), 1),
            ("list", "", some(10, 10_000), 1),
            ("list", "", large, 10),
            ("list", "limit=25", large, 3),
            ("list", "resourceVersion=5&resourceVersionMatch=Exact", large, 40),
            ("list", "continue=x&limit=100", large, 10),
            ("list", "continue=x&limit=100&labelSelector=a", large, 40),
            ("watch", "", large, 10),
            ("watch", "resourceVersion=7", large, 1),
            ("watch", "resourceVersion=7&sendInitialEvents=true", large, 10),
        ] {
            let info = RequestInfo {
                verb: verb.to_owned(),
                ..RequestInfo::default()
            };
            let param = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
            };
            assert_eq!(
                of_list(&info, param, collection, 40),
                seats,
                "{verb} {query} {collection:?}"
            );
        }
        let one = RequestInfo {
            verb: "list".to_owned(),
            field_name: "a".to_owned(),
            ..RequestInfo::default()
        };
        assert_eq!(of_list(&one, |_| None, large, 40), 1, "a list of one name");
    }
}
