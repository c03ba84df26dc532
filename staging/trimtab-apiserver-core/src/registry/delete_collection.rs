//! Deleting what a list would show.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt as _, stream};
use trimtab_apimachinery_meta::ApiError;

use super::delete_options::DeleteOptions;
use super::list_options::ListOptions;
use super::{Answer, Call, shape};

/// How many objects are deleted at a time: as many as share one sync of the store with each other.
const AT_ONCE: usize = 32;

impl Call<'_> {
    /// DELETE of a collection. Objects that vanish meanwhile are no error; the answer lists what was found.
    pub(super) async fn delete_collection(&mut self) -> Result<Answer, ApiError> {
        let options = DeleteOptions::read(&self.request)?;
        self.warn_of_dependents(&options);
        let selection = ListOptions::read(&self.request, &self.resource, false)?;
        let found = self.find(&selection).await?;
        let shaper = shape::Shaper::new(&self.resource, &self.request, self.now);
        shaper.check(true)?;
        let mut warnings = Vec::new();
        let deleted = self.delete_all(found.names(), &options, &mut warnings).await;
        self.warnings.append(&mut warnings);
        deleted?;
        Ok(found.answer(shaper, &self.codec))
    }

    /// Deletes these objects. Once one cannot be deleted no other is begun, and those that have been are waited for.
    async fn delete_all(
        &self,
        names: Vec<String>,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let failed = &AtomicBool::new(false);
        let deleting = stream::iter(names).map(async |name| {
            let mut warnings = Vec::new();
            if failed.load(Ordering::Relaxed) {
                return (Ok(()), warnings);
            }
            // Admission is asked about each object, and told no name, as kube-apiserver has it.
            let attributes = self.delete_attributes("", options);
            let deleted = self.delete_one(&name, options, Some(attributes), &mut warnings);
            let outcome = match deleted.await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(()),
            };
            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
            (outcome, warnings)
        });
        let mut deleting = deleting.buffered(AT_ONCE);
        let mut outcome = Ok(());
        while let Some((one, mut told)) = deleting.next().await {
            outcome = outcome.and(one);
            warnings.append(&mut told);
        }
        outcome
    }
}
