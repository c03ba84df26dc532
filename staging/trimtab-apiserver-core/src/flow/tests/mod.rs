//! Tests of priority and fairness: the queues by themselves, classification and levels on paused time, and a whole server.

mod classify;
mod levels;
mod queues;
mod server;

use serde_json::Value;

use crate::flow::bootstrap;

/// The objects that every cluster has: flow schemas and levels.
fn objects() -> (Vec<Value>, Vec<Value>) {
    let all = bootstrap::objects().into_iter().map(|wanted| wanted.object);
    all.partition(|object| object["kind"] == "FlowSchema")
}
