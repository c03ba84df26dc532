//! Authorizers: expressions that ask whether the user of a request, or a service account, may do something.

use std::fmt;
use std::sync::Arc;

use cel::common::types::{CelBool, CelString};
use cel::{DeclarationError, Env, ExecutionError};
use trimtab_apimachinery_meta::names;

/// Says who may do what, to expressions that ask.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// Whether this may be done. Called while an expression is evaluated, so it should not take long.
    fn decide(&self, check: &Check) -> Decision;
}

/// What an expression asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Namespace and name of the service account that is asked about; `None` for the user of the request.
    pub service_account: Option<(String, String)>,
    /// The verb.
    pub verb: String,
    /// The path, if it is asked about one rather than about a resource.
    pub path: Option<String>,
    /// The API group; empty for core.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
    /// The field selector of the request asked about, as text; empty for none.
    pub field_selector: String,
    /// The label selector of the request asked about, as text; empty for none.
    pub label_selector: String,
}

/// What an [`Authorizer`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Yes, or not that it knows.
    pub allowed: bool,
    /// Why, for people; may be empty.
    pub reason: String,
    /// What went wrong while finding out; empty when nothing did.
    pub error: String,
}

pub(in super::super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_member_overload!(env, fn path: (Asker, CelString) -> Result<OfPath>)?;
    cel::add_member_overload!(env, fn group: (Asker, CelString) -> OfGroup)?;
    cel::add_member_overload!(env, fn service_account: (Asker, CelString, CelString) -> Result<Asker>)?;
    cel::add_member_overload!(env, fn resource: (OfGroup, CelString) -> Result<OfResource>)?;
    cel::add_member_overload!(env, fn subresource: (OfResource, CelString) -> OfResource)?;
    cel::add_member_overload!(env, fn namespace: (OfResource, CelString) -> OfResource)?;
    cel::add_member_overload!(env, fn name: (OfResource, CelString) -> OfResource)?;
    cel::add_member_overload!(env, fn field_selector: (OfResource, CelString) -> OfResource)?;
    cel::add_member_overload!(env, fn label_selector: (OfResource, CelString) -> OfResource)?;
    cel::add_member_overload!(env, fn check_path: (OfPath, CelString) -> Decided, name = "check")?;
    cel::add_member_overload!(env, fn check_resource: (OfResource, CelString) -> Decided, name = "check")?;
    cel::add_member_overload!(env, fn allowed: (Decided) -> CelBool)?;
    cel::add_member_overload!(env, fn reason: (Decided) -> CelString)?;
    cel::add_member_overload!(env, fn errored: (Decided) -> CelBool)?;
    cel::add_member_overload!(env, fn error: (Decided) -> CelString)
}

pub(in super::super) use values::{Asker, OfResource};
use values::{Decided, OfGroup, OfPath};

/// The values that expressions handle on the way from `authorizer` to a decision. Each kind has its own methods.
mod values {
    use super::Check;

    /// A question that is being put together, and who will be asked.
    #[derive(Clone, Debug)]
    pub(in super::super::super) struct Question {
        pub(super) authorizer: std::sync::Arc<dyn super::Authorizer>,
        pub(super) check: Check,
    }

    impl PartialEq for Question {
        fn eq(&self, other: &Self) -> bool {
            self.check == other.check
        }
    }

    macro_rules! kind {
        ($module:ident, $type:ident, $name:literal) => {
            mod $module {
                use super::super::super::opaque;

                #[derive(Clone, Debug, PartialEq)]
                pub(in super::super::super::super) struct $type(pub(in super::super) super::Question);

                opaque!($type, $name);
            }
            pub(in super::super::super) use $module::$type;
        };
    }
    kind!(asker, Asker, "kubernetes.authorization.Authorizer");
    kind!(of_path, OfPath, "kubernetes.authorization.PathCheck");
    kind!(of_group, OfGroup, "kubernetes.authorization.GroupCheck");
    kind!(of_resource, OfResource, "kubernetes.authorization.ResourceCheck");

    mod decided {
        use super::super::super::opaque;

        #[derive(Clone, Debug, PartialEq)]
        pub(in super::super) struct Decided(pub(in super::super) super::super::Decision);

        opaque!(Decided, "kubernetes.authorization.Decision");
    }
    pub(super) use decided::Decided;
}

impl Asker {
    /// The variable `authorizer`: it asks `authorizer` about the user of the request.
    pub(in super::super) fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        let check = Check::default();
        Self(values::Question { authorizer, check })
    }

    /// The variable `authorizer.requestResource`: it asks about what the request is about.
    pub(in super::super) fn about(
        self,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> OfResource {
        let mut question = self.0;
        question.check = Check {
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..question.check
        };
        OfResource(question)
    }
}

fn path(this: &Asker, path: &CelString<'_>) -> Result<OfPath, ExecutionError> {
    if path.inner().trim().is_empty() {
        return Err(ExecutionError::function_error("path", "path must not be empty"));
    }
    let mut question = this.0.clone();
    question.check.path = Some(path.inner().to_owned());
    Ok(OfPath(question))
}

fn group(this: &Asker, group: &CelString<'_>) -> OfGroup {
    let mut question = this.0.clone();
    group.inner().clone_into(&mut question.check.group);
    OfGroup(question)
}

fn service_account(
    this: &Asker,
    namespace: &CelString<'_>,
    name: &CelString<'_>,
) -> Result<Asker, ExecutionError> {
    let wrong = |what: &str| ExecutionError::function_error("serviceAccount", what);
    if !names::dns1123_subdomain(name.inner()).is_empty() {
        return Err(wrong("Invalid service account name"));
    }
    if !names::dns1123_label(namespace.inner()).is_empty() {
        return Err(wrong("Invalid service account namespace"));
    }
    let mut question = this.0.clone();
    question.check.service_account = Some((namespace.inner().to_owned(), name.inner().to_owned()));
    Ok(Asker(question))
}

fn resource(this: &OfGroup, resource: &CelString<'_>) -> Result<OfResource, ExecutionError> {
    if resource.inner().trim().is_empty() {
        return Err(ExecutionError::function_error(
            "resource",
            "resource must not be empty",
        ));
    }
    let mut question = this.0.clone();
    resource.inner().clone_into(&mut question.check.resource);
    Ok(OfResource(question))
}

/// The same question with one part of it set.
fn with(this: &OfResource, text: &CelString<'_>, part: impl Fn(&mut Check) -> &mut String) -> OfResource {
    let mut question = this.0.clone();
    text.inner().clone_into(part(&mut question.check));
    OfResource(question)
}

fn subresource(this: &OfResource, text: &CelString<'_>) -> OfResource {
    with(this, text, |check| &mut check.subresource)
}

fn namespace(this: &OfResource, text: &CelString<'_>) -> OfResource {
    with(this, text, |check| &mut check.namespace)
}

fn name(this: &OfResource, text: &CelString<'_>) -> OfResource {
    with(this, text, |check| &mut check.name)
}

fn field_selector(this: &OfResource, text: &CelString<'_>) -> OfResource {
    with(this, text, |check| &mut check.field_selector)
}

fn label_selector(this: &OfResource, text: &CelString<'_>) -> OfResource {
    with(this, text, |check| &mut check.label_selector)
}

fn decide(question: &values::Question, verb: &CelString<'_>) -> Decided {
    let mut check = question.check.clone();
    verb.inner().clone_into(&mut check.verb);
    Decided(question.authorizer.decide(&check))
}

fn check_path(this: &OfPath, verb: &CelString<'_>) -> Decided {
    decide(&this.0, verb)
}

fn check_resource(this: &OfResource, verb: &CelString<'_>) -> Decided {
    decide(&this.0, verb)
}

fn allowed(this: &Decided) -> CelBool {
    CelBool::from(this.0.allowed)
}

fn reason(this: &Decided) -> CelString<'static> {
    CelString::from(this.0.reason.clone())
}

fn errored(this: &Decided) -> CelBool {
    CelBool::from(!this.0.error.is_empty())
}

fn error(this: &Decided) -> CelString<'static> {
    CelString::from(this.0.error.clone())
}
