//! Structural schemas, patches and server-side apply: pure functions over JSON values.
//!
//! Depend on the facade `trimtab-apimachinery` instead of this crate; its paths are the stable ones.

pub mod apply;
pub mod patch;
pub mod schema;
pub mod structural;

mod go;

pub use schema::Schema;
