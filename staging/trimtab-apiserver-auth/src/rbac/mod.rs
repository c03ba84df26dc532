//! Role-based access control: roles, bindings, and what follows from them.
//!
//! A [`Policy`] is told of every role and binding as JSON and answers [`Policy::authorize`], [`Policy::rules_for`] and
//! [`Policy::escalation`]. It denies nothing: what no binding allows is not allowed.
//!
//! **Invariant:** nobody is allowed what no rule grants them, except members of `system:masters`, whom the
//! authorizer lets pass before it asks (checked by the tests of `evaluate`).

mod bootstrap;
mod escalation;
mod evaluate;
mod rule;

pub use bootstrap::bootstrap_objects;
pub use evaluate::Policy;
pub use rule::PolicyRule;
