//! What the records are made of: watches of Services and EndpointSlices.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use trimtab_client_cache::Delta;
use trimtab_client_cache::informer::{InformerFactory, Registration};

use super::records::Records;
use crate::kubelet::runner::selection;

/// The places at the informers; dropping them ends the changes.
#[derive(Debug)]
pub(crate) struct Feed {
    services: Registration<Service>,
    slices: Registration<EndpointSlice>,
}

impl Feed {
    /// Has the records follow the cluster.
    pub(crate) fn start(informers: &InformerFactory, records: &Arc<RwLock<Records>>) -> Self {
        let kept = records.clone();
        let services = informers
            .informer::<Service>(selection())
            .add_handler(move |delta| {
                if let Delta::Deleted { .. } = delta {
                    kept.write().remove_service(delta.key());
                } else if let Ok(service) = delta.object().decode_once() {
                    kept.write().set_service(&service);
                }
            });
        let kept = records.clone();
        let slices = informers
            .informer::<EndpointSlice>(selection())
            .add_handler(move |delta| {
                if let Delta::Deleted { .. } = delta {
                    kept.write().remove_slice(delta.key());
                } else if let Ok(slice) = delta.object().decode_once() {
                    kept.write().set_slice(&slice);
                }
            });
        Self { services, slices }
    }

    /// Waits until everything is known that there was.
    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
    }

    pub(crate) async fn leave(self) {
        self.services.leave().await;
        self.slices.leave().await;
    }
}
