//! The controller: brings what a Website is made of to what its spec wishes, and says what was seen.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use trimtab::prelude::*;

use crate::api::Website;
use crate::children;

/// Held while a site may be reachable: its address goes before its servers do.
const FINALIZER: &str = "samples.example.com/unpublish";

/// The reconciler. It has no state: all that it needs is in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Websites;

impl Reconcile<Website> for Websites {
    async fn reconcile(&self, turn: &mut Turn<Website>) -> Result<Next> {
        let Some(site) = turn.latest() else {
            return Ok(Next::Done); // gone, and the garbage collector takes what it owned
        };
        if turn.is_deleting() {
            return unpublish(turn).await;
        }
        turn.hold(FINALIZER).await?;

        let published = publish(turn, &site).await;
        turn.condition_of("Synced", "Applied", &published);
        published
    }
}

/// Applies the children, and takes note of how the servers are.
async fn publish(turn: &mut Turn<Website>, site: &Website) -> Result<Next> {
    let first_time = turn.owned::<Service>()?.is_empty();
    turn.apply(children::page(site)).await?;
    let servers = turn.apply(children::servers(site)).await?;
    turn.apply(children::address(site)).await?;
    if first_time {
        let message = "Created the page, its servers and their address.";
        turn.event(Note::normal("Published", "Publish", message));
    }
    let (ready, available) = observe(&servers);
    turn.status(|status| status.ready_replicas = ready);
    let (reason, message) = match available {
        Some(true) => ("ServersReady", "Enough servers are ready."),
        Some(false) => ("ServersNotReady", "Too few servers are ready."),
        None => ("NotObserved", "Nobody has started servers yet."),
    };
    turn.condition("Available", available == Some(true), reason, message);
    Ok(Next::Done)
}

/// How many servers are ready, and whether that is enough, as far as the Deployment's own controller has said.
fn observe(servers: &Deployment) -> (i32, Option<bool>) {
    let status = servers.status.clone().unwrap_or_default();
    let mut conditions = status.conditions.into_iter().flatten();
    let available = conditions.find(|condition| condition.type_ == "Available");
    (
        status.ready_replicas.unwrap_or(0),
        available.map(|condition| condition.status == "True"),
    )
}

/// Takes the site's address away first, so that nobody is led to servers that are going; then lets it go.
async fn unpublish(turn: &mut Turn<Website>) -> Result<Next> {
    for address in turn.owned::<Service>()? {
        turn.delete(&*address).await?;
        turn.event(Note::normal("Unpublished", "Unpublish", "Deleted the address."));
    }
    turn.release(FINALIZER).await
}
