//! A program that is started again writes nothing: what it has applied before, and what has held, is known from the objects.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use trimtab::testing::{EnvError, TestEnv};

use crate::kit::ledger::Ledger;
use crate::kit::scenario::Scenario;
use crate::kit::transport;

/// How long everything takes to come to rest, with a margin; the time is paused.
const REST: Duration = Duration::from_secs(600);

macro_rules! programs {
    ($($program:ident asks about $kinds:expr),* $(,)?) => { $(
        #[tokio::test(start_paused = true)]
        async fn $program() -> Result<(), EnvError> {
            writes_nothing_when_it_is_started_again::<crate::$program::Scenario>(&$kinds).await
        }
    )* };
}

programs!(
    // What the server adds to the templates of claims is within one value, so whether it is as wished only an apply can tell.
    database asks about ["statefulsets"],
    // The server stores no empty list, which is said to keep out what others let in.
    policy asks about ["networkpolicies"],
    bucket asks about [],
    website asks about [],
);

async fn writes_nothing_when_it_is_started_again<S: Scenario>(asks_about: &[&str]) -> Result<(), EnvError> {
    let scenario = S::default();
    let mut env = TestEnv::start().await?;
    scenario.prepare(&mut env).await?;
    let ledger = Ledger::default();
    let runs = async |name: &str| {
        let client = transport::client(ledger.of(name).layer(transport::of(env.client())));
        let manager = scenario.manager(client).expect("a good description");
        let stop = CancellationToken::new();
        let life = async {
            if name == "first" {
                for act in scenario.script() {
                    act.perform(&env.client()).await;
                }
            }
            sleep(REST).await;
            assert!(manager.is_ready(), "{name}");
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(manager.run(stop.clone()), life);
        ended.expect("a clean end");
    };
    runs("first").await;
    assert!(!ledger.writes().is_empty(), "there was something to do");
    let before = versions(&env.client(), &scenario.kinds()).await?;
    runs("second").await;
    assert_eq!(before, versions(&env.client(), &scenario.kinds()).await?);
    let expected = |path: &str| path.split('/').any(|part| asks_about.contains(&part));
    let writes = ledger.writes();
    let asked: Vec<_> = writes
        .iter()
        .filter(|entry| entry.who == "second" && !expected(&entry.path))
        .collect();
    assert!(asked.is_empty(), "{asked:?}");
    env.shutdown().await
}

/// The versions of all objects of these kinds.
async fn versions(client: &Client, kinds: &[ApiResource]) -> Result<BTreeMap<String, String>, kube::Error> {
    let mut versions = BTreeMap::new();
    for kind in kinds {
        let api = Api::<DynamicObject>::all_with(client.clone(), kind);
        for object in api.list(&ListParams::default()).await? {
            let meta = object.metadata;
            let name = format!("{} {:?}/{:?}", kind.kind, meta.namespace, meta.name);
            versions.insert(name, meta.resource_version.unwrap_or_default());
        }
    }
    Ok(versions)
}
