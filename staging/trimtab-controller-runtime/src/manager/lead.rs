//! The work of the leader: what runs on one replica of all, once for each time that it leads.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trimtab_client_coordination::leader::{Elector, Leadership};

use super::Part;
use super::part::Lead;
use crate::controller::Operate;
use crate::error::{Error, Result};

/// All that only the leader does.
pub(super) struct Leading {
    pub(super) controllers: Vec<Arc<dyn Operate>>,
    pub(super) parts: Mutex<Vec<Part>>,
}

impl Leading {
    /// Leads once, without having been elected.
    pub(super) async fn alone(self, stop: CancellationToken) -> Result<usize> {
        self.lead(Lead::alone(stop)).await
    }

    /// Leads whenever it is elected, until `stop`.
    pub(super) async fn elected(self, mut elector: Elector, stop: CancellationToken) -> Result<usize> {
        let ended = elector
            .run(stop, |leadership: Leadership| {
                self.lead(Lead::elected(leadership))
            })
            .await;
        // None: the work had to be dropped, or there was none.
        ended.unwrap_or(Ok(0))
    }

    /// One term: until it is told to end, or something ends that should not.
    async fn lead(&self, lead: Lead) -> Result<usize> {
        type Running<'a> = BoxFuture<'a, (String, Result<usize>)>;
        let stop = lead.stop().child_token();
        let mut running = FuturesUnordered::<Running<'_>>::new();
        for controller in &self.controllers {
            let name = controller.settings().name.clone();
            let lead = lead.until(stop.clone());
            running.push(async move { (name, Ok(controller.work(lead).await)) }.boxed());
        }
        for part in &mut *self.parts.lock() {
            let (name, work) = (part.name.clone(), (part.run)(lead.until(stop.clone())));
            running.push(async move { (name, work.await.map(|()| 0)) }.boxed());
        }
        if running.is_empty() {
            stop.cancelled().await;
        }
        let (mut cut_off, mut outcome) = (0, Ok(()));
        while let Some((name, ended)) = running.next().await {
            let expected = stop.is_cancelled();
            stop.cancel();
            match ended {
                Ok(turns) if expected => cut_off += turns,
                Ok(_) => outcome = outcome.and(Err(Error::ended(name))),
                Err(error) => outcome = outcome.and(Err(Error::part(name, &error))),
            }
        }
        outcome.map(|()| cut_off)
    }
}
