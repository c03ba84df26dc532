//! The events that all controllers of pods tell, and the errors that are worth none.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::{Error, Reconciled, Turn, Written};

/// Tells what became of creating objects of a kind: "Created pod: a", or why not.
pub(crate) fn tell_created<K: Reconciled, T: ResourceExt>(turn: &Turn<K>, kind: &str, written: &Written<T>) {
    for object in &written.done {
        let message = format!("Created {kind}: {}", object.name_any());
        turn.event(Note::normal("SuccessfulCreate", "Create", message));
    }
    if let Err(error) = &written.failure
        && !is_ending(error)
    {
        let message = format!("Error creating: {}", words_of(error));
        turn.event(Note::warning("FailedCreate", "Create", message));
    }
}

/// Tells what became of deleting pods.
pub(crate) fn tell_deleted<K: Reconciled>(
    turn: &Turn<K>,
    written: &Written<trimtab_apimachinery_meta::ObjectKey>,
) {
    for key in &written.done {
        let message = format!("Deleted pod: {}", key.name);
        turn.event(Note::normal("SuccessfulDelete", "Delete", message));
    }
    if let Err(error) = &written.failure {
        let message = format!("Error deleting: {}", words_of(error));
        turn.event(Note::warning("FailedDelete", "Delete", message));
    }
}

/// What the server said, without what is around it.
pub(crate) fn words_of(error: &Error) -> String {
    match error {
        Error::Kube(kube::Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether the namespace is on its way out: then nothing can be made in it, and nobody need hear of that.
pub(crate) fn is_ending(error: &Error) -> bool {
    let Error::Kube(kube::Error::Api(status)) = error else {
        return false;
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether an object of the name is there already.
pub(crate) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Kube(kube::Error::Api(status)) if status.is_already_exists())
}

/// The reference to an object in its present version, as objects hold it. Kubernetes says the version, too.
pub(crate) fn reference_to<K: Reconciled>(object: &K) -> ObjectReference {
    ObjectReference {
        resource_version: object.meta().resource_version.clone(),
        ..object.object_ref(&K::DynamicType::default())
    }
}

/// The name of an object that has one.
pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;

    use super::*;

    #[test]
    fn references_say_the_kind_and_the_version() {
        let mut job = Job::default();
        job.metadata.name = Some("a".to_owned());
        job.metadata.resource_version = Some("7".to_owned());
        let reference = reference_to(&job);
        assert_eq!(reference.kind.as_deref(), Some("Job"));
        assert_eq!(reference.api_version.as_deref(), Some("batch/v1"));
        assert_eq!(reference.resource_version.as_deref(), Some("7"));
    }
}
