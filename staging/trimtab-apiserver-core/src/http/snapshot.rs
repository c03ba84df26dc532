//! `/trimtab/snapshot`: everything that the server stores, as a backup. What etcd offers beside the API as its
//! maintenance service; here the server is what clients reach, so it asks for permission as for any other path.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, TryStreamExt as _};
use http::Response;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::backup;

use super::Api;
use super::respond::{self, Body};
pub(super) use crate::backup::SNAPSHOT_PATH as PATH;
use crate::registry::storage;

impl Api {
    /// Answers with a backup of what is stored now. If storage fails in the middle, or the server stops, the answer ends
    /// early, and clients find its end missing.
    pub(super) async fn snapshot(&self) -> Result<Response<Body>, ApiError> {
        let snapshot = self.registry.store().snapshot().await;
        let snapshot = snapshot.map_err(|e| storage::error(&e))?;
        let name = format!("attachment; filename=\"trimtab-{}.backup\"", snapshot.revision);
        let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let made = u64::try_from(made.as_millis()).unwrap_or(u64::MAX);
        let pieces = backup::encode(snapshot, made)
            .inspect_err(|error| tracing::error!(%error, "a snapshot cannot be read to its end"))
            .take_while(|piece| std::future::ready(piece.is_ok()))
            .filter_map(|piece| std::future::ready(piece.ok()))
            .take_until(self.stop.clone().cancelled_owned())
            .map(|piece| Ok(Frame::data(piece)));
        let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
        respond::set(&mut response, CONTENT_TYPE, "application/octet-stream");
        respond::set(&mut response, CONTENT_DISPOSITION, &name);
        Ok(response)
    }
}
