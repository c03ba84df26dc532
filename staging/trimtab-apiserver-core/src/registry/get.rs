//! Reading one object.

use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_storage::RangeRequest;

use super::item::Item;
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
        let answer = if self.codec.asks_others() {
            let stored = self.stored(name).await?;
            stored.map(|stored| Answer::Object(200, stored.object))
        } else {
            let range = self.store().range(RangeRequest::key(self.key(name))).await;
            let found = range.map_err(|e| storage::error(&e))?.kvs.pop();
            found.map(|kv| Answer::Stored(200, Item::new(kv)))
        };
        let answer = answer.ok_or_else(|| self.not_found(name))?;
        shape::Shaper::new(&self.resource, &self.request, self.now).check(false)?;
        Ok(answer)
    }
}
