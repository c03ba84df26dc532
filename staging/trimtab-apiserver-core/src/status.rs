//! What a store holds, in figures, and the command line that asks for them.

use std::collections::BTreeMap;
use std::fmt;

use clap::{Args, ValueEnum};
use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::json;
use trimtab_apiserver_storage::{Result, Revision, Snapshot, SnapshotEntry};

use crate::backup::SourceOptions;

/// The command line of asking what a store holds.
#[derive(Clone, Debug, Args)]
pub struct StatusOptions {
    /// What is asked about
    #[command(flatten)]
    pub of: SourceOptions,

    /// How it is printed
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How figures are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What a store holds at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// Whether a server runs on it.
    pub served: bool,
    /// The revision: the resource version of a list of now.
    pub revision: Revision,
    /// The oldest revision that can be asked for; a running server does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_revision: Option<Revision>,
    /// The file of an embedded store that no server has open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<StoreFile>,
    /// All keys together.
    #[serde(flatten)]
    pub all: Held,
    /// Keys by what they are of: `pods`, or `example.com/widgets`.
    pub by_resource: BTreeMap<String, Held>,
}

/// The file of an embedded store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreFile {
    /// How long it is, in bytes. More than is in it: what was removed is written over later.
    pub bytes: u64,
    /// The version of its format.
    pub format: u64,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// How many keys.
    pub keys: u64,
    /// How many of them expire.
    pub expiring: u64,
    /// Keys and values, in bytes.
    pub bytes: u64,
}

impl StoreStatus {
    /// Takes in all that the store holds; `progress` is told of the keys seen and of all keys.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn take_in(
        &mut self,
        mut snapshot: Snapshot,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<()> {
        self.revision = snapshot.revision;
        while let Some(entries) = snapshot.entries.try_next().await? {
            self.count(&entries);
            progress(self.all.keys, snapshot.count);
        }
        Ok(())
    }

    /// What is printed.
    pub fn shown(&self, output: Output) -> String {
        match output {
            Output::Text => self.to_string(),
            Output::Json => format!("{:#}", json!(self)),
        }
    }

    fn count(&mut self, entries: &[SnapshotEntry]) {
        for entry in entries {
            let resource = resource_of(&entry.kv.key);
            let of_resource = match self.by_resource.get_mut(resource) {
                Some(held) => held,
                None => self.by_resource.entry(resource.to_owned()).or_default(),
            };
            for held in [of_resource, &mut self.all] {
                held.keys += 1;
                held.expiring += u64::from(entry.expires.is_some());
                held.bytes += (entry.kv.key.len() + entry.kv.value.len()) as u64;
            }
        }
    }
}

/// What a key is of, as keys are laid out: custom resources and some others have their group in front, and `services` are
/// two things. All that is not text, or not below `/registry`, is of `""`.
fn resource_of(key: &[u8]) -> &str {
    let text = std::str::from_utf8(key).unwrap_or_default();
    let Some(text) = text.strip_prefix("/registry/") else {
        return "";
    };
    let mut slashes = text.match_indices('/').map(|(at, _)| at);
    let first = slashes.next().unwrap_or(text.len());
    match &text[..first] {
        group if group.contains('.') || group == "services" => &text[..slashes.next().unwrap_or(text.len())],
        resource => resource,
    }
}

impl fmt::Display for StoreStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.served { "a running server" } else { "nobody" };
        writeln!(f, "served   by {by}")?;
        write!(f, "revision {}", self.revision)?;
        match self.oldest_revision {
            Some(oldest) => writeln!(f, ", from {oldest} on")?,
            None => writeln!(f)?,
        }
        if let Some(StoreFile { bytes, format }) = self.file {
            writeln!(f, "file     {bytes} bytes, format {format}")?;
        }
        let Held {
            keys,
            expiring,
            bytes,
        } = self.all;
        write!(
            f,
            "holds    {keys} keys, {expiring} of them for a time, {bytes} bytes"
        )?;
        for (resource, held) in &self.by_resource {
            write!(f, "\n{:>8} {resource}, {} bytes", held.keys, held.bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trimtab_apiserver_storage::KeyValue;

    use super::*;

    #[test]
    fn keys_are_counted_by_what_they_are_of() {
        let entry = |key: &str, expires| {
            let kv = KeyValue {
                key: key.to_owned().into(),
                value: "12345".into(),
                create_revision: 1,
                mod_revision: 1,
            };
            SnapshotEntry { kv, expires }
        };
        let mut status = StoreStatus::default();
        status.count(&[
            entry("/registry/pods/a/b", None),
            entry("/registry/events/a/b", Some(1)),
            entry("/registry/services/specs/a/b", None),
            entry("/registry/services/endpoints/a/b", None),
        ]);
        status.count(&[
            entry("/registry/pods/a/c", None),
            entry("/registry/example.com/widgets/a/b", None),
            entry("/registry/ranges/serviceips", None),
            entry("other", None),
        ]);
        let shown = status.by_resource.iter();
        let shown: Vec<_> = shown.map(|(name, held)| (name.as_str(), held.keys)).collect();
        let wanted = [
            ("", 1),
            ("events", 1),
            ("example.com/widgets", 1),
            ("pods", 2),
            ("ranges", 1),
            ("services/endpoints", 1),
            ("services/specs", 1),
        ];
        assert_eq!(shown, wanted);
        assert_eq!((status.all.keys, status.all.expiring), (8, 1));
        assert_eq!(status.by_resource["pods"].bytes, 2 * (18 + 5));
    }
}
