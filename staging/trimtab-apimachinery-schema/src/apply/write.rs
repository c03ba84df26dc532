//! What a write is: who writes, when, where, and what it cannot write.

use super::path::Element;
use super::set::FieldSet;

/// What a write is, for the tracking of ownership.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// The field manager: `fieldManager`, or the user agent's first word.
    pub manager: String,
    /// The API version of the request, as `apps/v1`.
    pub api_version: String,
    /// The kind, as `Deployment`.
    pub kind: String,
    /// The subresource that is written to; empty for the object itself.
    pub subresource: String,
    /// The time of the request, RFC 3339 in whole seconds and UTC.
    pub now: String,
    /// Whether an apply takes fields from their owners.
    pub force: bool,
    /// The kind is a custom one: its objects are as they are, without the structs of built-in kinds that are there
    /// even when empty.
    pub custom: bool,
    /// The fields that this request cannot write, and so cannot own.
    pub reset: Reset,
}

/// Fields that a request cannot write because the kind resets them (`status` on the object, all else on `status`).
/// Each path is a list of field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// None.
    #[default]
    Nothing,
    /// These, and all below them.
    These(Vec<Vec<String>>),
    /// All but these and what is below them.
    AllBut(Vec<Vec<String>>),
}

impl Reset {
    /// One field at the top, as `status`.
    pub fn field(name: &str) -> Self {
        Self::These(vec![vec![name.to_owned()]])
    }

    /// What of a set can be owned by this request.
    pub(super) fn filter(&self, mut set: FieldSet) -> FieldSet {
        match self {
            Self::Nothing => set,
            Self::These(paths) => {
                let mut these = FieldSet::new();
                for path in paths {
                    let path: Vec<Element> = path.iter().map(|name| Element::Field(name.clone())).collect();
                    these.insert(&path);
                }
                set.subtract_with_children(&these);
                set
            }
            Self::AllBut(paths) => set.only_below(paths),
        }
    }
}
