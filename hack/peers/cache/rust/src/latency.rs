//! How long after a write's answer a handler sees it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::mpsc;
use trimtab_client::cache::{Delta, InformerFactory, Selection};

use crate::Result;
use crate::load::{annotation, pod};

/// The longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes one after the other, with a pause after each that is as long as it took, so that the server is idle half of the
/// time.
pub async fn latency(client: Client, pods: usize, count: usize) -> Result<()> {
    let informer = InformerFactory::new(client.clone()).informer::<Pod>(Selection::all());
    let (sees, mut seen) = mpsc::unbounded_channel();
    let handler = informer.add_handler(move |delta| {
        if let Delta::Updated { new, .. } = &delta {
            // Who measures may have gone.
            let _gone = sees.send((new.resource_version().into_owned(), Instant::now()));
        }
    });
    handler.synced().await;
    let mut waits = Vec::new();
    for at in 0..count {
        let (api, name) = pod(&client, pods, at);
        let begun = Instant::now();
        let answer = api
            .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(annotation(at)))
            .await?;
        let answered = Instant::now();
        let version = answer.metadata.resource_version.unwrap_or_default();
        let mut others = HashMap::new();
        let seen_at = loop {
            if let Some(at) = others.remove(&version) {
                break at;
            }
            let next = tokio::time::timeout(PATIENCE, seen.recv()).await?;
            others.extend(next);
        };
        waits.push(seen_at.saturating_duration_since(answered));
        tokio::time::sleep(begun.elapsed()).await;
    }
    waits.sort();
    let ms = |part: usize| waits[(waits.len() - 1) * part / 100].as_micros() as f64 / 1000.0;
    println!("{}", json!({"writes": count, "p50_ms": ms(50), "p99_ms": ms(99)}));
    Ok(())
}
