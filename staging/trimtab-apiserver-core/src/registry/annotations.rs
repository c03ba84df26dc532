//! What is noted of a request while it is answered, for whoever keeps records of requests.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The audit annotations of one request. Whoever wants them puts some into [`ApiRequest::audit`] and takes them when the
/// request has been answered, refused or not; of requests without, nothing is noted.
///
/// [`ApiRequest::audit`]: crate::api::ApiRequest::audit
#[derive(Debug, Default)]
pub struct AuditAnnotations(Mutex<BTreeMap<String, String>>);

impl AuditAnnotations {
    /// Notes something. What has been noted under a key stays, as with kube-apiserver.
    pub(crate) fn add(&self, key: &str, value: String) {
        let mut all = self.0.lock();
        if !all.contains_key(key) {
            all.insert(key.to_owned(), value);
        }
    }

    /// What has been noted, by key; there is nothing left then.
    pub fn take(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.0.lock())
    }
}
