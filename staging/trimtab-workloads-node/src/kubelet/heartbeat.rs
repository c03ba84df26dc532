//! Registering nodes and keeping them alive: one task for all of them, their heartbeats spread over the period.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, Patch};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::store::Store;

use super::fleet::Fleet;
use super::{KUBELET, NOT_READY, SILENT, node};
use crate::Options;
use crate::clock::{Clock, micros};
use crate::requests::{RequestError, change, change_status, patiently, post};

/// The longest wait before a node is registered that could not be.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often it writes a status in which nothing has changed. The kubelet's figure.
const STATUS: Duration = Duration::from_secs(300);
/// Heartbeats are sent in batches, at most this often.
const TICK: Duration = Duration::from_millis(100);
/// How many requests are under way at most.
const AT_ONCE: usize = 8;

/// Registers nodes and sends their heartbeats.
#[derive(Clone)]
pub(crate) struct Heart {
    pub(crate) client: Client,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) nodes: Store<Node>,
    pub(crate) options: Arc<Options>,
    pub(crate) clock: Clock,
}

impl Heart {
    /// Registers all nodes, then sends heartbeats for ever.
    pub(crate) async fn beat(self, registered: tokio::sync::oneshot::Sender<()>) {
        let count = u32::try_from(self.options.nodes).unwrap_or(u32::MAX);
        let all = futures::stream::iter(0..count);
        all.for_each_concurrent(AT_ONCE, |index| self.enlist(index)).await;
        let _nobody_waits = registered.send(());
        let (began, mut done) = (Instant::now(), 0);
        loop {
            sleep_until((began + at(done + 1, self.options.heartbeat, count)).max(Instant::now() + TICK))
                .await;
            let due = due(began.elapsed(), self.options.heartbeat, count);
            // Who is too late by more than a period does not make up for all of them.
            let from = done.max(due.saturating_sub(u64::from(count)));
            let late = futures::stream::iter(from..due);
            late.for_each_concurrent(AT_ONCE, |beat| self.one(beat, count))
                .await;
            done = due;
        }
    }

    /// Tries until the node is there.
    async fn enlist(&self, index: u32) {
        let mut wait = Duration::from_millis(100);
        loop {
            match self.register(index).await {
                Ok(Some(found)) => {
                    let name = node::name(index);
                    self.fleet.add(&name, index);
                    self.fleet
                        .silence(&name, super::is_silent(found.annotations().get(SILENT)));
                    return;
                }
                Ok(None) => {
                    tracing::error!(
                        node = node::name(index),
                        "a node of this name is there and not simulated; it is left alone"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(node = node::name(index), %error, "a node cannot be registered yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// `None`: there is a node of this name that is somebody else's.
    async fn register(&self, index: u32) -> Result<Option<Node>, RequestError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let name = node::name(index);
        let now = self.clock.now();
        let wanted = node::node(index, &self.options, now);
        let found = match patiently(api.create(&post(KUBELET), &wanted)).await {
            Err(error) if error.code() == 409 => {
                let found = patiently(api.get(&name)).await?;
                if !found.labels().contains_key(node::SIMULATED) {
                    return Ok(None);
                }
                let status = json!({ "status": wanted.status });
                change_status(&api, &name, KUBELET, Patch::Strategic(status)).await?
            }
            created => created?,
        };
        self.renew(&name, Some(&found)).await?;
        // A node that has just told that it is ready need not wait for somebody to see it.
        self.mend_taints(&found).await?;
        Ok(Some(found))
    }

    async fn mend_taints(&self, node: &Node) -> Result<(), RequestError> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let taints = taints.unwrap_or_default();
        let left: Vec<&Taint> = taints.iter().filter(|taint| taint.key != NOT_READY).collect();
        if left.len() == taints.len() {
            return Ok(());
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let mended = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": left},
        });
        match change(&api, &node.name_any(), KUBELET, Patch::Merge(mended)).await {
            // Somebody else has changed it, and may have done this too: the next registration looks again.
            Err(error) if error.code() == 409 => Ok(()),
            patched => patched.map(drop),
        }
    }

    /// One heartbeat: that with this number since the beginning.
    async fn one(&self, beat: u64, count: u32) {
        let index = u32::try_from(beat % u64::from(count)).unwrap_or_default();
        let round = beat / u64::from(count);
        let name = node::name(index);
        if self.fleet.alive(&name).is_none() {
            return;
        }
        if let Err(error) = self.renew(&name, None).await {
            tracing::warn!(node = name, %error, "a lease was not renewed");
        }
        let rounds = (STATUS.as_secs() / self.options.heartbeat.as_secs().max(1)).max(1);
        // Not all nodes in the same round.
        if !self.options.stages.are_for("Node") // which have the last word on it
            && (round + u64::from(index)).is_multiple_of(rounds)
            && let Err(error) = self.report(&name).await
        {
            tracing::warn!(node = name, %error, "a node's status was not written");
        }
    }

    async fn renew(&self, name: &str, node: Option<&Node>) -> Result<(), RequestError> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), node::LEASES);
        let now = self.clock.now();
        let renewed = json!({"spec": {"renewTime": micros(now), "holderIdentity": name}});
        if node.is_none() {
            match change(&api, name, KUBELET, Patch::Merge(&renewed)).await {
                Err(error) if error.code() == 404 => {}
                patched => return patched.map(drop),
            }
        }
        let cached = self.nodes.get(&ObjectKey::cluster(name));
        let uid = match node {
            Some(node) => node.uid(),
            None => cached.map(|cached| cached.uid().into_owned()),
        };
        let lease = node::lease(name, uid.as_deref(), now, self.options.heartbeat);
        match patiently(api.create(&post(KUBELET), &lease)).await {
            Err(error) if error.code() == 409 => {
                let patched = change(&api, name, KUBELET, Patch::Merge(&renewed)).await;
                patched.map(drop)
            }
            created => created.map(drop),
        }
    }

    /// Writes the node's conditions as they are now.
    pub(crate) async fn report(&self, name: &str) -> Result<(), RequestError> {
        let Some(cached) = self.nodes.get(&ObjectKey::cluster(name)) else {
            return Ok(());
        };
        let Ok(found) = cached.decode_once() else {
            return Ok(());
        };
        let conditions = wanted(&found, self.clock.now());
        let api: Api<Node> = Api::all(self.client.clone());
        let status = json!({"status": {"conditions": conditions}});
        let patched = change_status(&api, name, KUBELET, Patch::Strategic(status)).await;
        patched.map(drop)
    }
}

/// The conditions that the node's annotations ask for.
fn wanted(found: &Node, now: Timestamp) -> Vec<k8s_openapi::api::core::v1::NodeCondition> {
    let status = found.status.as_ref();
    let before = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let unready = found.annotations().get(super::UNREADY).map(String::as_str);
    node::conditions_after(before, unready, now)
}

/// Whether the node's readiness is not what its annotations ask for.
pub(crate) fn is_wrong(found: &Node) -> bool {
    let ready = found
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = ready
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .map(|condition| condition.status == "True");
    let unready = found.annotations().contains_key(super::UNREADY);
    ready.is_some_and(|ready| ready == unready)
}

/// How many heartbeats all nodes together have had after this long.
fn due(after: Duration, period: Duration, count: u32) -> u64 {
    let beats = after.as_millis() * u128::from(count) / period.as_millis().max(1);
    u64::try_from(beats).unwrap_or(u64::MAX)
}

/// How long after the beginning this heartbeat is due, in whole milliseconds; the first one is 1.
fn at(beat: u64, period: Duration, count: u32) -> Duration {
    let after = period.as_millis() * u128::from(beat);
    let after = after.div_ceil(u128::from(count.max(1)));
    Duration::from_millis(u64::try_from(after).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEWAL: Duration = Duration::from_secs(10);

    #[test]
    fn heartbeats_are_spread_over_the_period() {
        assert_eq!(due(Duration::ZERO, RENEWAL, 5000), 0);
        assert_eq!(due(TICK, RENEWAL, 5000), 50);
        assert_eq!(due(RENEWAL, RENEWAL, 5000), 5000);
        assert_eq!(due(RENEWAL * 3, RENEWAL, 1), 3);
    }

    #[test]
    fn nobody_wakes_before_a_heartbeat_is_due() {
        assert_eq!(at(1, RENEWAL, 1), RENEWAL);
        for count in [1, 2, 3, 7, 110, 5000] {
            for beat in (1..20).chain([4999, 5000, 1_000_003]) {
                let at = at(beat, RENEWAL, count);
                assert!(due(at, RENEWAL, count) >= beat, "{beat} of {count} at {at:?}");
                assert!(
                    due(at - Duration::from_millis(1), RENEWAL, count) < beat,
                    "{beat} of {count} at {at:?}"
                );
            }
        }
    }
}
