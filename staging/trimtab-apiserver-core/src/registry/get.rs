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
        if let Some(asked) = asked.filter(|asked| *asked > 0) {
            self.wait_for(asked).await?;
        }
        let name = self.name();
        let answer = if self.codec.asks_others() {
            let stored = self.stored(name).await?;
            stored.map(|stored| Answer::Object(200, stored.object))
        } else {
            let range = self.store().range(RangeRequest::key(self.key(name))).await;
            let found = range.map_err(|e| storage::error(&e))?.kvs.pop();
            match found.map(Item::new) {
                // Whether its bytes would do is not worth finding out for one answer.
                Some(item) if self.resource.custom => {
                    let object = self.codec.decode_alone(&item, item.revision)?;
                    Some(Answer::Object(200, object))
                }
                found => found.map(|item| Answer::Stored(200, item)),
            }
        };
        let answer = answer.ok_or_else(|| self.not_found(name))?;
        shape::Shaper::new(&self.resource, &self.request, self.now).check(false)?;
        Ok(answer)
    }
}
