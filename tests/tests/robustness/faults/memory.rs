//! What has been delivered before, to be delivered again.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::ask::{Ask, Kind};

/// How many lines of each watch, and how many lists of each kind, are remembered.
const LINES: usize = 64;
const LISTS: usize = 8;
/// How often in a row an old list is given to the same reflector: as often as it refuses one.
const IN_A_ROW: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By path, lines with their versions.
    lines: HashMap<String, VecDeque<(u64, Bytes)>>,
    /// By route.
    lists: HashMap<String, VecDeque<OldList>>,
    /// By path.
    in_a_row: HashMap<String, InARow>,
}

/// How many old lists there have been since the last that was not.
#[derive(Debug, Default)]
struct InARow {
    old: u32,
    /// Whether the list whose pages are being read is old.
    under_way: bool,
}

/// A list that was delivered as a whole: lines of a stream, the last of them its end, or one body.
#[derive(Clone, Debug)]
pub(super) struct OldList {
    /// Of a stream.
    pub(super) version: u64,
    pub(super) lines: Vec<Bytes>,
}

impl Memory {
    pub(super) fn remember_line(&mut self, path: &str, version: u64, line: Bytes) {
        let lines = self.lines.entry(path.to_owned()).or_default();
        lines.push_back((version, line));
        if lines.len() > LINES {
            lines.pop_front();
        }
    }

    /// Some lines in a row that were delivered before and are not newer than a version.
    pub(super) fn old_lines(&self, path: &str, version: u64, rng: &mut fastrand::Rng) -> Vec<Bytes> {
        let lines = self.lines.get(path).into_iter().flatten();
        let old: Vec<_> = lines.filter(|(at, _)| *at <= version).collect();
        let from = rng.usize(..=old.len());
        let until = old.len().min(from + rng.usize(1..8));
        old[from..until].iter().map(|(_, line)| line.clone()).collect()
    }

    /// Remembers a page that was delivered as a whole.
    pub(super) fn remember_page(&mut self, ask: &Ask, body: Bytes) {
        if ask.kind != Kind::List {
            return;
        }
        let in_a_row = self.in_a_row.entry(ask.path.clone()).or_default();
        in_a_row.under_way &= ask.goes_on;
        // The list is complete with its last page.
        if !in_a_row.under_way && !has(&body, "\"continue\":\"") {
            in_a_row.old = 0;
        }
        if !ask.goes_on {
            let (version, lines) = (0, vec![body]);
            self.remember(ask, OldList { version, lines });
        }
    }

    /// Remembers a streamed list that was delivered as a whole.
    pub(super) fn remember_stream(&mut self, ask: &Ask, list: OldList) {
        self.in_a_row.remove(&ask.path);
        self.remember(ask, list);
    }

    fn remember(&mut self, ask: &Ask, list: OldList) {
        let lists = self.lists.entry(ask.route()).or_default();
        lists.push_back(list);
        if lists.len() > LISTS {
            lists.pop_front();
        }
    }

    /// A list of the past to answer with, if there is one and it may be given.
    pub(super) fn old_list(&mut self, ask: &Ask, rng: &mut fastrand::Rng) -> Option<OldList> {
        let lists = self.lists.get(&ask.route()).filter(|_| !ask.goes_on)?;
        let list = lists.get(rng.usize(..lists.len()))?.clone();
        let in_a_row = self.in_a_row.entry(ask.path.clone()).or_default();
        if in_a_row.old == IN_A_ROW {
            return None;
        }
        in_a_row.old += 1;
        in_a_row.under_way = true;
        Some(list)
    }
}

/// The first resource version in a text: the event's.
pub(super) fn version_of(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(VERSION)?;
    rest.split('"').next()?.parse().ok()
}

/// The text with another resource version.
pub(super) fn at_version(text: &Bytes, version: u64) -> Bytes {
    let parts = std::str::from_utf8(text).ok().and_then(|text| {
        let (before, rest) = text.split_once(VERSION)?;
        Some((before, rest.split_once('"')?.1))
    });
    match parts {
        Some((before, after)) => Bytes::from(format!("{before}{VERSION}{version}\"{after}")),
        None => text.clone(),
    }
}

const VERSION: &str = "\"resourceVersion\":\"";

pub(super) fn has(text: &[u8], part: &str) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.contains(part))
}
