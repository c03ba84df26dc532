//! A database operator: each Database is kept as a StatefulSet and a Service, and has its password from a Secret that its
//! user brings.
//!
//! What it shows: two owned kinds, one that is referred to by name, a finalizer whose work takes several turns, conditions,
//! and a declared phase.
#![allow(unreachable_pub)] // of what the derives make

mod children;
mod scenario;
mod tests;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::Patch;
use kube::core::PartialObjectMeta;
use kube::{Client, CustomResource, KubeSchema, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trimtab::client::cache::Cached;
use trimtab::prelude::*;

pub(crate) use scenario::Databases as Scenario;

const NAME: &str = "database-controller";
/// Held while servers run: clients are turned away first, and servers end one by one.
const FINALIZER: &str = "data.example.com/stop";

/// What a database should be
#[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "data.example.com",
    version = "v1",
    kind = "Database",
    namespaced,
    shortname = "db",
    status = "DatabaseStatus",
    derive = "PartialEq",
    doc = "A database, and the servers that keep it",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas")
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// How many servers keep it.
    #[schemars(range(min = 1))]
    pub replicas: i32,
    /// How much each server stores. It cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("the size of a database cannot be changed"))]
    pub storage: String,
    /// The Secret, in the same namespace, whose key `password` is the administrator's password.
    pub secret: String,
}

/// What was last seen of a database
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DatabasePhase>,
    /// How many servers are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// `Synced`: the cluster has been told what is wished. `Available`: all servers are ready.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// How far a database is. A status may have been lost at any time, so it begins anywhere; but what has been started is
/// pending no more, and what is stopped is not started again.
#[derive(Phase, Clone, Debug, PartialEq)]
#[phase(enforce)]
pub enum DatabasePhase {
    /// It waits for its Secret, and nothing has been made.
    #[phase(initial, to(Starting, Running, Stopping))]
    Pending,
    /// Servers are being started or changed.
    #[phase(initial, to(Running, Stopping))]
    Starting,
    /// All servers are ready.
    #[phase(initial, to(Starting, Stopping))]
    Running,
    /// It is being deleted.
    #[phase(initial, terminal)]
    Stopping,
    /// What a newer version wrote.
    #[phase(unknown)]
    Other(String),
}

impl Conditions for DatabaseStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn observed(&mut self, generation: Option<i64>) {
        self.observed_generation = generation;
    }
}

/// A manager with the controller, for all namespaces.
pub(crate) fn manager(client: Client) -> Result<Manager> {
    let manager = Manager::new(client).name(NAME);
    manager
        .controller(Databases)
        .owns::<StatefulSet>()
        .owns::<Service>()
        .refers_to::<PartialObjectMeta<Secret>>(|database: &Database| vec![secret_of(database)])
        .workers(2)
        .start()?;
    Ok(manager)
}

/// The reconciler.
struct Databases;

impl Reconcile<Database> for Databases {
    async fn reconcile(&self, turn: &mut Turn<Database>) -> Result<Next> {
        let Some(database) = turn.latest() else {
            return Ok(Next::Done); // gone, and the garbage collector takes what it owned
        };
        if turn.is_deleting() {
            return stop(turn).await;
        }
        turn.hold(FINALIZER).await?;

        // Of Secrets, only metadata is ever in this process.
        let secrets = turn.store::<PartialObjectMeta<Secret>>()?;
        let Some(secret) = secrets.get(&secret_of(&database)) else {
            let why = "The Secret with the password is not there.";
            turn.condition("Synced", false, "NoSecret", why);
            if !has_begun(&database) {
                enter(turn, DatabasePhase::Pending)?;
            }
            return Ok(Next::Done); // its creation is a trigger
        };
        let told = tell(turn, &database, &secret).await;
        turn.condition_of("Synced", "Applied", &told);
        told
    }
}

fn secret_of(database: &Database) -> ObjectKey {
    ObjectKey::namespaced(database.namespace().unwrap_or_default(), &database.spec.secret)
}

/// Tells the cluster what is wished, and takes note of how the servers are.
async fn tell(
    turn: &mut Turn<Database>,
    database: &Database,
    secret: &Cached<PartialObjectMeta<Secret>>,
) -> Result<Next> {
    turn.apply(children::address(database)).await?;
    let servers = turn
        .apply(children::servers(database, &secret.resource_version()))
        .await?;

    let (ready, all) = children::readiness(&servers);
    turn.status(|status| status.ready_replicas = ready);
    if all {
        turn.condition("Available", true, "ServersReady", "All servers are ready.");
        enter(turn, DatabasePhase::Running)?;
    } else {
        let why = "Servers are being started or changed.";
        turn.condition("Available", false, "ServersNotReady", why);
        enter(turn, DatabasePhase::Starting)?;
    }
    Ok(Next::Done)
}

/// Turns clients away, ends the servers, and lets the database go when all have ended.
async fn stop(turn: &mut Turn<Database>) -> Result<Next> {
    enter(turn, DatabasePhase::Stopping)?;
    turn.condition("Available", false, "Stopping", "It is being deleted.");
    for address in turn.owned::<Service>()? {
        turn.delete(&*address).await?;
    }
    for servers in turn.owned::<StatefulSet>()? {
        if !children::have_ended(&servers) {
            if children::replicas(&servers) > 0 {
                let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
                turn.patch(&*servers, &none).await?;
            }
            return Ok(Next::Done); // what becomes of them is a trigger
        }
    }
    turn.release(FINALIZER).await
}

/// Takes a step of the phase, and tells people of it.
fn enter(turn: &mut Turn<Database>, phase: DatabasePhase) -> Result<()> {
    let name = phase.to_string();
    if turn.phase(|status| &mut status.phase, phase)? {
        turn.event(Note::normal(
            &name,
            "Enter",
            format!("The database is {}.", name.to_lowercase()),
        ));
    }
    Ok(())
}

/// Whether it has been more than pending.
fn has_begun(database: &Database) -> bool {
    let phase = database.status.as_ref().and_then(|status| status.phase.as_ref());
    phase.is_some_and(|phase| *phase != DatabasePhase::Pending)
}
