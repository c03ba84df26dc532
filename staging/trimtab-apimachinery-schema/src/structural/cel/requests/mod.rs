//! Expressions about a request and its objects: conditions of webhooks, and what admission policies are made of.
//!
//! A [`Composition`] holds what the expressions of one policy may name, and the policy's own variables. An [`Expression`] is
//! compiled in it, once. For each request an [`Activation`] gives the names their values, each made when it is first
//! looked at, and evaluates expressions within a budget.
//!
//! Costs are those of kube-apiserver as far as they can be told without counting each step of the interpreter: a part of an
//! expression costs what all its nodes cost, whichever of them are reached; each turn of a loop costs what its body costs,
//! and functions over texts and lists cost by their sizes. An expression ends with an error when it has cost
//! [`COST_OF_ONE`], and all of one policy when they have cost the budget.

mod activation;
mod composition;
mod declared;
mod expression;
pub(super) mod patches;
mod shared;
#[cfg(test)]
mod tests;

pub use activation::{Activation, EvaluationError, Inputs};
pub use composition::Composition;
pub use declared::Declarations;
pub use expression::{Expression, Output, Returns};

/// What one expression may cost (`PerCallLimit`): about a tenth of a second.
pub const COST_OF_ONE: u64 = 1_000_000;
/// What the expressions of one policy and binding may cost for one request (`RuntimeCELCostBudget`).
pub const COST_OF_POLICY: u64 = 10_000_000;
/// What the match conditions of one policy or webhook may cost (`RuntimeCELCostBudgetMatchConditions`).
pub const COST_OF_CONDITIONS: u64 = 2_500_000;
