//! Finalizers: names in an object's metadata that hold its deletion until their owners have cleaned up.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Whether the object has the finalizer.
pub fn contains(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Adds the finalizer at the end, unless it is there. Says whether it was added.
///
/// An API server refuses new finalizers on an object that is being deleted.
pub fn add(metadata: &mut ObjectMeta, finalizer: &str) -> bool {
    let absent = !contains(metadata, finalizer);
    if absent {
        metadata
            .finalizers
            .get_or_insert_default()
            .push(finalizer.to_owned());
    }
    absent
}

/// Removes the finalizer. Says whether it was there.
pub fn remove(metadata: &mut ObjectMeta, finalizer: &str) -> bool {
    let present = contains(metadata, finalizer);
    if let Some(finalizers) = &mut metadata.finalizers {
        finalizers.retain(|f| f != finalizer);
        if finalizers.is_empty() {
            metadata.finalizers = None;
        }
    }
    present
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_is_there_once_or_not() {
        let mut metadata = ObjectMeta::default();
        assert!(add(&mut metadata, "example.com/a") && !add(&mut metadata, "example.com/a"));
        assert!(add(&mut metadata, "example.com/b"));
        assert_eq!(metadata.finalizers.as_deref().map(<[_]>::len), Some(2));
        assert!(remove(&mut metadata, "example.com/a") && !remove(&mut metadata, "example.com/a"));
        assert!(contains(&metadata, "example.com/b"));
        assert!(remove(&mut metadata, "example.com/b"));
        assert_eq!(metadata, ObjectMeta::default());
    }
}
