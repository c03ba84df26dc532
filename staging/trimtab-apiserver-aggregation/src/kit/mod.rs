//! The kit for writing a server of a part of the API.
//!
//! `definition` says what a resource is; its objects are stored, kept in somebody's own database (`kept`), or computed when
//! somebody asks (`computed`), also so that they can be watched (`observed`). `delegation` asks the API server who sends a
//! request and whether they may, `trust` whom to believe, and `admission` where things may be. `server` puts the parts together.

mod admission;
mod cache;
mod computed;
mod definition;
mod delegation;
mod kept;
mod observed;
mod server;
mod trust;

pub use computed::{Asked, Computed};
pub use definition::{Definition, DefinitionError};
pub use delegation::{Delegation, DelegationError};
pub use kept::{Change, Changes, Kept, Name, Storage, StorageError};
pub use server::{Builder, ExtensionServer, ServerError};
pub use trimtab_apimachinery_meta::ApiError;
pub use trimtab_apiserver_core::auth::Trusted;
pub use trimtab_apiserver_core::extensions::Convert;
pub use trimtab_apiserver_core::registry::{Admission, Attributes, Operation};
