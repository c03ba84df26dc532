//! Whether conversions lose something: for tests of their authors.

use std::fmt;

use serde_json::Value;

use super::convert::{ConversionError, Spoke, from_hub, up};
use crate::admission::Reviewed;

/// What became of an object on its way to another version and back.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Lost {
    /// A conversion failed.
    Failed {
        /// From and to which version.
        way: &'static str,
        /// What it said.
        error: ConversionError,
    },
    /// The object came back another.
    Changed {
        /// What makes the object that came back of the one that left, as JSON patch.
        changes: Box<json_patch::Patch>,
    },
    /// The object cannot be written as JSON.
    Encode(String),
}

/// Converts a hub to a spoke and back. Nothing may be lost, whatever the object is: try objects with every field set, and
/// with none.
///
/// # Errors
/// [`Lost`], which says where.
pub fn hub_round_trip<S: Spoke>(hub: S::Hub) -> Result<(), Lost> {
    let before = encode(&hub)?;
    let spoke: S = from_hub(hub).map_err(|error| failed("from the hub", error))?;
    let hub = up(spoke).map_err(|error| failed("into the hub", error))?;
    same(&before, &encode(&hub)?)
}

/// Converts a spoke to the hub and back. Nothing may be lost.
///
/// # Errors
/// [`Lost`], which says where.
pub fn spoke_round_trip<S: Spoke>(spoke: S) -> Result<(), Lost> {
    let before = encode(&spoke)?;
    let hub = up(spoke).map_err(|error| failed("into the hub", error))?;
    let spoke: S = from_hub(hub).map_err(|error| failed("from the hub", error))?;
    same(&before, &encode(&spoke)?)
}

fn failed(way: &'static str, error: ConversionError) -> Lost {
    Lost::Failed { way, error }
}

fn encode<K: Reviewed>(object: &K) -> Result<Value, Lost> {
    serde_json::to_value(object).map_err(|error| Lost::Encode(error.to_string()))
}

fn same(before: &Value, after: &Value) -> Result<(), Lost> {
    let changes = json_patch::diff(before, after);
    if changes.0.is_empty() {
        Ok(())
    } else {
        let changes = Box::new(changes);
        Err(Lost::Changed { changes })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { way, error } => write!(f, "the conversion {way} failed: {error}"),
            Self::Changed { changes } => write!(f, "the object came back another: {changes}"),
            Self::Encode(why) => write!(f, "the object cannot be written: {why}"),
        }
    }
}

impl std::error::Error for Lost {}
