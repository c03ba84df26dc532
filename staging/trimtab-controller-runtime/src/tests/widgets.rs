//! The controller under test: each Widget has a ConfigMap with its text, and a status that says so.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, ResourceExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_derive::Phase;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::reflector;

use super::server::Server;
use crate::{Conditions, ControllerBuilder, Error, Manager, Next, Reconcile, Result, Turn};

#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Widget",
    namespaced,
    status = "WidgetStatus",
    schema = "disabled"
)]
pub(super) struct WidgetSpec {
    pub(super) text: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WidgetStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<Life>,
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
}

#[derive(Phase, Clone, Debug, PartialEq, Eq)]
#[phase(crate = "trimtab_apimachinery_meta")]
pub(super) enum Life {
    #[phase(initial, to(Running))]
    Pending,
    #[phase(terminal)]
    Running,
}

impl Conditions for WidgetStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

/// A widget with this text has no ConfigMap.
pub(super) const NO_CHILD: &str = "text 3";
pub(super) const FINALIZER: &str = "example.com/hold";

/// What a turn saw when it began.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) name: String,
    pub(super) attempt: u32,
    /// The versions of the widget and of its ConfigMap.
    pub(super) versions: [Option<u64>; 2],
    /// How much had been written to the server by then.
    pub(super) writes: usize,
}

/// The reconciler, with a diary.
#[derive(Clone, Default)]
pub(super) struct Widgets {
    pub(super) server: Server,
    pub(super) diary: Arc<Mutex<Vec<Seen>>>,
}

impl Widgets {
    /// With an empty diary.
    pub(super) fn of(server: &Server) -> Self {
        Self {
            server: server.clone(),
            ..Self::default()
        }
    }

    fn note(&self, turn: &Turn<Widget>) -> Result<()> {
        let version = |version: Option<String>| version.map(|version| version.parse().expect("a number"));
        let widget = turn.latest().and_then(|widget| widget.resource_version());
        let child = turn
            .store::<ConfigMap>()?
            .get(turn.key())
            .map(|child| child.resource_version().into_owned());
        self.diary.lock().push(Seen {
            at: Instant::now(),
            name: turn.key().name.clone(),
            attempt: turn.attempt(),
            versions: [version(widget), version(child)],
            writes: self.server.0.lock().writes.len(),
        });
        Ok(())
    }

    pub(super) fn turns_of(&self, name: &str) -> Vec<Seen> {
        self.diary
            .lock()
            .iter()
            .filter(|seen| seen.name == name)
            .cloned()
            .collect()
    }
}

impl Reconcile<Widget> for Widgets {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        self.note(turn)?;
        let Some(widget) = turn.latest() else {
            return Ok(Next::Done);
        };
        if turn.is_deleting() {
            for child in turn.owned::<ConfigMap>()? {
                turn.delete(&*child).await?;
            }
            return turn.release(FINALIZER).await;
        }
        let text = widget.spec.text.clone();
        match &*text {
            "panic" => panic!("asked for"),
            "slow" => std::future::pending().await,
            "fail" => return Err(Error::other("asked for")),
            "terminal" => return Err(Error::terminal("asked for")),
            _ => {}
        }
        turn.hold(FINALIZER).await?;
        turn.status(|status| status.seen = Some(text.clone()));
        turn.condition("Ready", true, "Made", "");
        if text == NO_CHILD {
            for child in turn.owned::<ConfigMap>()? {
                turn.delete(&*child).await?;
            }
            return Ok(Next::Done);
        }
        turn.apply(child(&widget.name_any(), &text)).await?;
        if text == "fail late" {
            return Err(Error::other("asked for"));
        }
        Ok(Next::Done)
    }
}

pub(super) fn child(name: &str, text: &str) -> ConfigMap {
    let mut child = ConfigMap::default();
    child.metadata.name = Some(name.to_owned());
    child.data = Some([("text".to_owned(), text.to_owned())].into());
    child
}

pub(super) fn wish(text: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"text": text}})
}

/// A manager for a server that does not stream lists.
pub(super) fn manager(server: &Server) -> Manager {
    let config = reflector::Config {
        streamed_lists: false,
        ..reflector::Config::default()
    };
    Manager::new(server.client()).name("widgets").watching(config)
}

/// A manager that runs until `stop`.
pub(super) struct Running {
    pub(super) widgets: Widgets,
    pub(super) manager: Arc<Manager>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<Result<()>>,
    pub(super) controller: crate::Controller<ObjectKey>,
}

pub(super) fn run(
    server: &Server,
    more: impl FnOnce(ControllerBuilder<'_, Widget, Widgets>) -> ControllerBuilder<'_, Widget, Widgets>,
) -> Running {
    run_again(Widgets::of(server), more)
}

/// A new process, with an old diary.
pub(super) fn run_again(
    widgets: Widgets,
    more: impl FnOnce(ControllerBuilder<'_, Widget, Widgets>) -> ControllerBuilder<'_, Widget, Widgets>,
) -> Running {
    run_in(manager(&widgets.server), widgets, more)
}

/// A process of another kind: this manager, with the controller.
pub(super) fn run_in(
    manager: Manager,
    widgets: Widgets,
    more: impl FnOnce(ControllerBuilder<'_, Widget, Widgets>) -> ControllerBuilder<'_, Widget, Widgets>,
) -> Running {
    let builder = more(manager.controller(widgets.clone()).owns::<ConfigMap>());
    let controller = builder.start().expect("a good description");
    let manager = Arc::new(manager);
    let stop = CancellationToken::new();
    let (runner, token) = (manager.clone(), stop.clone());
    let task = tokio::spawn(async move { runner.run(token).await });
    Running {
        widgets,
        manager,
        stop,
        task,
        controller,
    }
}

impl Running {
    pub(super) async fn end(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.expect("no panic")
    }
}
