//! What expressions may name, and of which types that is.

use std::sync::{Arc, LazyLock};

use super::super::types::Kind;
use crate::Schema;

/// The names that an expression may use, with their types. All know `object`, `oldObject`, `request` and
/// `namespaceObject`.
#[derive(Clone, Debug)]
pub struct Declarations {
    object: Kind,
    params: Option<Kind>,
    pub(super) authorizer: bool,
    pub(super) patches: bool,
    /// The policy's variables; `None` where there is no such name.
    variables: Option<Vec<(String, Kind)>>,
    /// How deep each of them is, with those that it looks at.
    levels: Vec<usize>,
}

impl Default for Declarations {
    fn default() -> Self {
        Self {
            object: Kind::Dyn,
            params: None,
            authorizer: true,
            patches: false,
            variables: None,
            levels: Vec::new(),
        }
    }
}

impl Declarations {
    /// The same with `params`, or without.
    #[must_use]
    pub fn with_params(mut self, params: bool) -> Self {
        self.params = params.then_some(Kind::Dyn);
        self
    }

    /// The same with `variables`, of which there are none yet.
    #[must_use]
    pub fn with_variables(mut self) -> Self {
        self.variables.get_or_insert_default();
        self
    }

    /// The same without `variables`.
    #[must_use]
    pub fn without_variables(mut self) -> Self {
        self.variables = None;
        self
    }

    /// The same without `authorizer`.
    #[must_use]
    pub fn without_authorizer(mut self) -> Self {
        self.authorizer = false;
        self
    }

    /// The same with what patches are written with: `Object{…}`, `JSONPatch{…}` and `jsonpatch.escapeKey`.
    #[must_use]
    pub fn with_patches(mut self) -> Self {
        self.patches = true;
        self
    }

    /// The same where `object` and `oldObject`, and `params` if there is such a name, are values of these schemas rather
    /// than of unknown type.
    #[must_use]
    pub fn with_schemas(mut self, object: &Arc<Schema>, params: Option<&Arc<Schema>>) -> Self {
        let kind = |schema: &Arc<Schema>| Kind::of(schema, false).unwrap_or(Kind::Dyn);
        self.object = kind(object);
        if let (Some(declared), Some(schema)) = (&mut self.params, params) {
            *declared = kind(schema);
        }
        self
    }

    /// Declares a variable of the policy, so many levels deep; `None` for a type that is not known.
    pub(super) fn declare(&mut self, name: &str, kind: Option<Kind>, levels: usize) {
        let variable = (name.to_owned(), kind.unwrap_or(Kind::Dyn));
        self.variables.get_or_insert_default().push(variable);
        self.levels.push(levels);
    }

    /// How deep the deepest of some variables is.
    pub(super) fn levels(&self, variables: &[String]) -> usize {
        let all = self.variables.iter().flatten().zip(&self.levels);
        let named = all.filter(|((name, _), _)| variables.contains(name));
        named.map(|(_, levels)| *levels).max().unwrap_or_default()
    }

    /// All names with their types.
    pub(super) fn names(&self) -> Vec<(&'static str, Kind)> {
        let mut names = vec![
            ("object", self.object.clone()),
            ("oldObject", self.object.clone()),
            ("request", REQUEST.clone()),
            ("namespaceObject", NAMESPACE.clone()),
        ];
        if let Some(params) = &self.params {
            names.push(("params", params.clone()));
        }
        if self.authorizer {
            names.push(("authorizer", Kind::Dyn));
        }
        if self.patches {
            names.push(("jsonpatch", Kind::Dyn));
        }
        if let Some(variables) = &self.variables {
            names.push(("variables", Kind::Variables(variables.clone().into())));
        }
        names
    }

    /// The names whose values may be of any type.
    pub(super) fn untyped(&self) -> Vec<&'static str> {
        let all = self.names();
        let any = all
            .iter()
            .filter(|(name, kind)| matches!(kind, Kind::Dyn) && !matches!(*name, "authorizer" | "jsonpatch"));
        any.map(|(name, _)| *name).collect()
    }
}

fn text() -> Kind {
    Kind::Simple("string")
}

fn texts() -> Kind {
    Kind::List(Box::new(text()))
}

fn map(values: Kind) -> Kind {
    Kind::Map(Box::new(values))
}

fn record(fields: &[(&'static str, Kind)]) -> Kind {
    Kind::Record(fields.into())
}

/// The type of `request`.
static REQUEST: LazyLock<Kind> = LazyLock::new(|| {
    let gv = |last: &'static str| record(&[("group", text()), ("version", text()), (last, text())]);
    let user = [
        ("username", text()),
        ("uid", text()),
        ("groups", texts()),
        ("extra", map(texts())),
    ];
    record(&[
        ("kind", gv("kind")),
        ("resource", gv("resource")),
        ("subResource", text()),
        ("requestKind", gv("kind")),
        ("requestResource", gv("resource")),
        ("requestSubResource", text()),
        ("name", text()),
        ("namespace", text()),
        ("operation", text()),
        ("userInfo", record(&user)),
        ("dryRun", Kind::Simple("bool")),
        ("options", Kind::Dyn),
    ])
});

/// The type of `namespaceObject`: of its metadata, what does not say who wrote it.
static NAMESPACE: LazyLock<Kind> = LazyLock::new(|| {
    let (time, int) = (Kind::Simple("google.protobuf.Timestamp"), Kind::Simple("int"));
    let metadata = [
        ("name", text()),
        ("generateName", text()),
        ("namespace", text()),
        ("labels", map(text())),
        ("annotations", map(text())),
        ("UID", text()),
        ("creationTimestamp", time.clone()),
        ("deletionGracePeriodSeconds", int.clone()),
        ("deletionTimestamp", time.clone()),
        ("generation", int),
        ("resourceVersion", text()),
        ("finalizers", texts()),
    ];
    let condition = record(&[
        ("status", text()),
        ("type", text()),
        ("lastTransitionTime", time),
        ("message", text()),
        ("reason", text()),
    ]);
    record(&[
        ("metadata", record(&metadata)),
        ("spec", record(&[("finalizers", texts())])),
        (
            "status",
            record(&[("conditions", Kind::List(Box::new(condition))), ("phase", text())]),
        ),
    ])
});
