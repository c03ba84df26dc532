//! Conditions on requests (`matchConditions`): expressions over a request and its objects that hold or do not.

use std::sync::Arc;

use serde_json::Value;

use super::library::authorizers::Authorizer;
use super::requests::{
    Activation, COST_OF_CONDITIONS, Composition, Declarations, EvaluationError, Expression, Inputs, Output,
    Returns,
};

/// What a condition may look at.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `object`: the object as it shall be; null when there is none.
    pub object: &'a Value,
    /// `oldObject`: the object as it is; null when there is none.
    pub old_object: &'a Value,
    /// `request`: an `AdmissionRequest` of admission.k8s.io/v1 without its objects.
    pub request: &'a Value,
    /// `authorizer`: whom to ask what the user of the request may do.
    pub authorizer: &'a Arc<dyn Authorizer>,
}

/// A condition, compiled.
#[derive(Debug)]
pub struct Condition(Expression);

impl Condition {
    /// Compiles an expression. Whether it makes sense is to be asked of [`Condition::fault`].
    pub fn new(expression: &str) -> Self {
        Self(Expression::new(
            expression,
            &Declarations::default(),
            Returns::Bool,
        ))
    }

    /// What is wrong with the expression, in kube-apiserver's words, if anything is.
    pub fn fault(&self) -> Option<&str> {
        self.0.fault()
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    ///
    /// Says, in kube-apiserver's words, why the expression cannot be compiled or evaluated.
    pub fn holds(&self, variables: &Variables<'_>) -> Result<bool, String> {
        let inputs = Inputs {
            object: variables.object,
            old_object: variables.old_object,
            request: variables.request,
            params: &Value::Null,
            namespace: &Value::Null,
            authorizer: variables.authorizer,
        };
        let activation = Activation::new(&Composition::default(), inputs);
        let mut budget = COST_OF_CONDITIONS;
        let output = activation.evaluate(&self.0, &mut budget);
        output
            .map(|output| output == Output::Bool(true))
            .map_err(|error: EvaluationError| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::library::authorizers::{Authorizer, Check, Decision};
    use super::*;

    /// Allows what begins with `allowed`, and says of everything what it was asked.
    #[derive(Debug)]
    struct Asked;

    impl Authorizer for Asked {
        fn decide(&self, check: &Check) -> Decision {
            let account = check.service_account.as_ref();
            Decision {
                allowed: check.verb.starts_with("allowed"),
                reason: format!(
                    "{} {} {}/{}/{} {}/{} {} {}",
                    account.map_or_else(|| "user".to_owned(), |(ns, name)| format!("{ns}:{name}")),
                    check.verb,
                    check.group,
                    check.path.as_deref().unwrap_or(&check.resource),
                    check.subresource,
                    check.namespace,
                    check.name,
                    check.field_selector,
                    check.label_selector,
                ),
                error: if check.verb == "broken" {
                    "e".to_owned()
                } else {
                    String::new()
                },
            }
        }
    }

    fn evaluate(expression: &str) -> Result<bool, String> {
        let object = json!({"metadata": {"name": "a", "namespace": "ns", "labels": {"x.io/y": "z"}}, "n": 3});
        let request = json!({
            "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
            "requestSubResource": "",
            "name": "a", "namespace": "ns", "operation": "CREATE",
            "userInfo": {"username": "alice", "groups": ["g"]},
            "options": {"kind": "CreateOptions", "dryRun": ["All"]},
        });
        let authorizer: Arc<dyn Authorizer> = Arc::new(Asked);
        Condition::new(expression).holds(&Variables {
            object: &object,
            old_object: &Value::Null,
            request: &request,
            authorizer: &authorizer,
        })
    }

    #[test]
    fn conditions_see_the_request_and_its_objects() {
        for (expression, expected) in [
            ("object.metadata.labels['x.io/y'] == 'z' && object.n == 3", true),
            ("oldObject == null", true),
            ("oldObject != null && oldObject.n == 3", false),
            (
                "request.operation == 'UPDATE' || request.userInfo.username == 'bob'",
                false,
            ),
            ("'g' in request.userInfo.groups", true),
            (
                "request.kind.kind == 'ConfigMap' && !has(request.subResource)",
                true,
            ),
            (
                "request.namespace == 'ns' && object.metadata.namespace == 'ns'",
                true,
            ),
            ("request.options.dryRun == ['All']", true),
            ("!(has(object.spec) && object.spec.paused)", true),
        ] {
            assert_eq!(evaluate(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn conditions_ask_the_authorizer() {
        for (expression, expected) in [
            (
                "authorizer.group('apps').resource('deployments').check('allowed').allowed()",
                true,
            ),
            (
                "authorizer.group('').resource('pods').check('get').allowed()",
                false,
            ),
            (
                "authorizer.requestResource.check('get').reason() == 'user get /configmaps/ ns/a  '",
                true,
            ),
            (
                "authorizer.group('g').resource('r').subresource('s').namespace('n').name('o').fieldSelector('a=b')\
                 .labelSelector('c').check('list').reason() == 'user list g/r/s n/o a=b c'",
                true,
            ),
            (
                "authorizer.serviceAccount('ns', 'sa').path('/healthz').check('get').reason().startsWith('ns:sa get //healthz')",
                true,
            ),
            ("authorizer.path('/x').check('broken').errored()", true),
            ("authorizer.path('/x').check('broken').error() == 'e'", true),
        ] {
            assert_eq!(evaluate(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn faults_are_told_in_the_words_of_kubernetes() {
        for (expression, expected) in [
            (
                "foo",
                "compilation error: compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^",
            ),
            (
                "request.foo == 1",
                "compilation error: compilation failed: ERROR: <input>:1:8: undefined field 'foo'\n | request.foo == 1\n | .......^",
            ),
            ("1 + 1", "compilation error: must evaluate to bool but got int"),
            (
                "object.spec.x == 1",
                "expression 'object.spec.x == 1' resulted in error: no such key: spec",
            ),
            ("object.n", "compilation error: must evaluate to bool but got dyn"),
            (
                "[object.n][0]",
                "expression '[object.n][0]' resulted in error: must evaluate to bool but got int",
            ),
            (
                "authorizer.path(' ').check('get').allowed()",
                "expression 'authorizer.path(' ').check('get').allowed()' resulted in error: path must not be empty",
            ),
            (
                "authorizer.group('').resource('').check('get').allowed()",
                "expression 'authorizer.group('').resource('').check('get').allowed()' resulted in error: resource must \
                 not be empty",
            ),
            (
                "authorizer.serviceAccount('a.b', 'c').path('/').check('get').allowed()",
                "expression 'authorizer.serviceAccount('a.b', 'c').path('/').check('get').allowed()' resulted in error: \
                 Invalid service account namespace",
            ),
        ] {
            assert_eq!(evaluate(expression), Err(expected.to_owned()), "{expression}");
        }
        assert!(Condition::new("object.metadata.name == 'a'").fault().is_none());
    }
}
