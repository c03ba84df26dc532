//! Deleting what a list would show.

use trimtab_apimachinery_meta::ApiError;

use super::delete_options::DeleteOptions;
use super::list_options::ListOptions;
use super::{Answer, Call, meta, shape};
use crate::api::ApiResponse;

impl Call<'_> {
    /// DELETE of a collection. Objects that vanish meanwhile are no error; the answer lists what was found.
    pub(super) async fn delete_collection(&mut self) -> Result<Answer, ApiError> {
        let options = DeleteOptions::read(&self.request)?;
        self.warn_of_dependents(&options);
        let selection = ListOptions::read(&self.request, &self.resource, false)?;
        let page = self.page(&selection).await?;
        for object in &page.objects {
            // Admission is asked about each object, and told no name, as kube-apiserver has it.
            let attributes = self.delete_attributes("", &options);
            match self
                .delete_object(meta::name(object), &options, Some(attributes))
                .await
            {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        let shaper = shape::Shaper::new(&self.resource, &self.request, self.now);
        let value = shaper.list(page);
        Ok(Answer::Whole(ApiResponse::Value {
            code: 200,
            value,
            warnings: Vec::new(),
        }))
    }
}
