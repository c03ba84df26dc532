//! A schema that is made when it is first looked at: a server serves many kinds, and most are never used.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use trimtab_apimachinery_schema::Schema;

use crate::strategies::fill::Filling;

/// A schema, or the way to make it. Clones share what has been made.
#[derive(Clone)]
pub struct SchemaRef(Arc<Inner>);

struct Inner {
    made: OnceLock<Arc<Schema>>,
    make: Option<fn() -> Arc<Schema>>,
    filling: OnceLock<Filling>,
}

impl SchemaRef {
    /// A schema that `make` makes when it is first used.
    pub fn lazy(make: fn() -> Arc<Schema>) -> Self {
        Self(Arc::new(Inner {
            made: OnceLock::new(),
            make: Some(make),
            filling: OnceLock::new(),
        }))
    }

    /// The schema itself, to be kept.
    pub fn get(&self) -> &Arc<Schema> {
        self.0
            .made
            .get_or_init(|| self.0.make.map_or_else(|| Arc::new(Schema::any()), |make| make()))
    }

    /// What Go writes of objects of this schema though nobody has set it.
    pub(crate) fn filling(&self) -> &Filling {
        self.0.filling.get_or_init(|| Filling::of(self))
    }
}

impl From<Arc<Schema>> for SchemaRef {
    fn from(schema: Arc<Schema>) -> Self {
        Self(Arc::new(Inner {
            made: OnceLock::from(schema),
            make: None,
            filling: OnceLock::new(),
        }))
    }
}

impl From<Schema> for SchemaRef {
    fn from(schema: Schema) -> Self {
        Arc::new(schema).into()
    }
}

impl Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        self.get()
    }
}

impl fmt::Debug for SchemaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.made.get().map(|s| s.name.as_str());
        f.debug_struct("SchemaRef")
            .field("made", &name)
            .finish_non_exhaustive()
    }
}
