//! What is kept of each object, and in which form.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

use crate::cached::Form;
use crate::compact::encode::Drops;

/// What is kept of each object: everything, unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Projection {
    pub(crate) form: Form,
    /// Paths of names of fields that are left out.
    pub(crate) dropped: Vec<Vec<String>>,
    pub(crate) transform: Option<Transform>,
}

/// A named change to every object before it is stored. Names say which transforms are the same.
#[derive(Clone)]
pub(crate) struct Transform {
    name: String,
    change: Arc<dyn Fn(&mut Value) + Send + Sync>,
}

/// What identifies an object, below its metadata, and cannot be left out.
pub(crate) const IDENTITY: [&str; 4] = ["namespace", "name", "uid", "resourceVersion"];

impl Projection {
    pub(crate) fn drops(&self) -> Drops {
        let mut drops = Drops::default();
        for path in &self.dropped {
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            let identifies = match *path {
                [] | ["metadata"] => true,
                ["metadata", field] => IDENTITY.contains(&field),
                _ => false,
            };
            if !identifies {
                drops.add(path);
            }
        }
        drops
    }
}

/// What differs from keeping everything, each after a semicolon.
impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, path) in self.dropped.iter().enumerate() {
            f.write_str(if number == 0 { "; without " } else { ", " })?;
            for (depth, field) in path.iter().enumerate() {
                match (depth, field.contains('.')) {
                    (_, true) => write!(f, "[{field}]")?,
                    (0, false) => f.write_str(field)?,
                    (_, false) => write!(f, ".{field}")?,
                }
            }
        }
        if let Some(transform) = &self.transform {
            write!(f, "; changed by {}", transform.name)?;
        }
        match self.form {
            Form::Typed => f.write_str("; all kept decoded as well"),
            form if form == Form::default() => Ok(()),
            Form::Compact { hot } => write!(f, "; {hot} kept decoded"),
        }
    }
}

impl Transform {
    pub(crate) fn new(name: String, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self {
            name,
            change: Arc::new(change),
        }
    }

    pub(crate) fn apply(&self, object: &mut Value) {
        (self.change)(object);
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transform").field(&self.name).finish()
    }
}

impl PartialEq for Transform {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Transform {}

impl Hash for Transform {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
