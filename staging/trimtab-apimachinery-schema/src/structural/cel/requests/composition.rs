//! The expressions of one policy together: what they may name, and the variables that they share.

use std::sync::Arc;

use super::{Declarations, Expression, Returns};

/// What the expressions of a policy have in common.
#[derive(Clone, Debug, Default)]
pub struct Composition {
    declarations: Declarations,
    pub(super) variables: Arc<Vec<(String, Expression)>>,
}

impl Composition {
    /// Nothing but names yet.
    pub fn new(declarations: Declarations) -> Self {
        Self {
            declarations,
            variables: Arc::default(),
        }
    }

    /// Adds a variable, which those after it may use; answers what is wrong with it, in kube-apiserver's words.
    pub fn add_variable(&mut self, name: &str, expression: &str) -> Option<String> {
        let expression = self.compile(expression, Returns::Anything);
        let fault = expression.fault().map(str::to_owned);
        let levels = expression.compiled().map_or(0, |compiled| compiled.levels);
        self.declarations
            .declare(name, expression.kind().cloned(), levels);
        Arc::make_mut(&mut self.variables).push((name.to_owned(), expression));
        fault
    }

    /// Compiles an expression of the policy.
    pub fn compile(&self, expression: &str, returns: Returns) -> Expression {
        Expression::new(expression, &self.declarations, returns)
    }

    /// As [`Composition::compile`], for an expression that may name other things.
    pub fn compile_with(
        &self,
        expression: &str,
        returns: Returns,
        declarations: impl FnOnce(Declarations) -> Declarations,
    ) -> Expression {
        Expression::new(expression, &declarations(self.declarations.clone()), returns)
    }
}
