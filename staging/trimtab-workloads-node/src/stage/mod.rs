//! Stages, as people know them from KWOK (`kwok.x-k8s.io/v1alpha1`, kind `Stage`): what pods and nodes go through instead of what
//! the simulation has them do.
//!
//! A file has one or several. A stage has an object when its selector matches; of several, chance decides by their weights;
//! after its delay it changes the object, and so on. Pods for which there are stages do nothing by themselves, nodes are kept
//! alive besides.
//!
//! Of the format is understood: `resourceRef` of pods and nodes; `selector` with labels, annotations and expressions; `weight` and
//! `delay`, also from expressions; `next` or `steps` with events, finalizers, deletion, `statusTemplate` and patches (merge and
//! strategic). Paths are as much of jq as [`path`] has, templates as much of Go's as [`template`] has. Everything else is an error
//! that names it; `immediateNextStage` makes no difference, since what a stage leads to is looked at at once.

mod format;
mod path;
mod play;
mod template;

use std::fmt;
use std::sync::Arc;

pub(crate) use play::{Act, Pick, Step, pick};
pub(crate) use template::World;

use self::format::Stage;

/// Stages of pods and nodes. The default is none.
#[derive(Clone, Default, PartialEq)]
pub struct Stages(Arc<Vec<Stage>>);

/// A file that is none of stages, or of more than is understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stage {name}: {why}")]
pub struct StageError {
    /// The stage's name, or its number in the file.
    pub name: String,
    /// What is wrong, and where.
    pub why: String,
}

impl Stages {
    /// Reads a file: YAML with one or several stages.
    ///
    /// # Errors
    /// [`StageError`]: what is not understood is named.
    pub fn parse(text: &str) -> Result<Self, StageError> {
        let documents = text.strip_prefix("---\n").unwrap_or(text).split("\n---");
        let mut stages = Vec::new();
        for (number, document) in documents.enumerate() {
            let empty = document
                .lines()
                .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
            if !empty {
                stages.push(format::stage(document, number + 1)?);
            }
        }
        Ok(Self(Arc::new(stages)))
    }

    /// Whether there are stages for objects of this kind.
    pub(crate) fn are_for(&self, kind: &str) -> bool {
        self.of(kind).next().is_some()
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Stage> {
        self.0.iter().filter(move |stage| stage.kind == kind)
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|stage| &stage.name))
            .finish()
    }
}

#[cfg(test)]
mod tests;
