//! What there is, for people whose test has failed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::history::History;
use crate::requests::RequestEntry;

/// How many requests are shown.
const REQUESTS: usize = 100;

/// The objects that have been changed since the history was so long, as they are now, without managed fields.
pub(crate) fn since(history: &History, begun: usize) -> Vec<Value> {
    let changed: BTreeSet<String> = history
        .since(begun)
        .into_iter()
        .map(|change| change.key)
        .collect();
    let world = history.world();
    let objects = world.objects().iter().filter(|(key, _)| changed.contains(*key));
    objects
        .map(|(_, object)| {
            let mut object = object.clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            object
        })
        .collect()
}

/// Objects and requests.
pub(crate) fn text(history: &History, begun: usize, requests: &[RequestEntry]) -> String {
    let mut text = String::from("# objects that have been changed since the environment was started\n");
    for object in since(history, begun) {
        let yaml = serde_saphyr::to_string(&object).unwrap_or_else(|error| error.to_string());
        let _ = write!(text, "---\n{}\n", yaml.trim_end()); // to a text, it cannot fail
    }
    let shown = &requests[requests.len().saturating_sub(REQUESTS)..];
    let _ = writeln!(text, "# the last {} of {} requests", shown.len(), requests.len());
    for request in shown {
        let _ = writeln!(text, "{request}");
    }
    text
}
