//! Reading one object.

use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::list_options::parse_version;
use super::{Answer, Call, shape, storage};

impl Call<'_> {
    /// GET of an object, or of a subresource that is the object itself.
    pub(super) async fn get(&mut self) -> Result<Answer, ApiError> {
        let asked = parse_version(self.request.param("resourceVersion").unwrap_or_default())
            .map_err(|text| ApiError::new(500, StatusReason::Unknown, text))?;
        if let Some(asked) = asked {
            let current = self.store().revision().await.map_err(|e| storage::error(&e))?;
            if asked > current {
                return Err(storage::too_large(asked, current));
            }
        }
        let name = self.name();
        let stored = self.stored(name).await?;
        let object = stored.ok_or_else(|| self.not_found(name))?.object;
        shape::Shaper::new(&self.resource, &self.request, self.now).check(false)?;
        Ok(Answer::Object(200, object))
    }
}
