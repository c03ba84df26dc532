//! Driven time and seeds: what happens follows from the seed, and time from the test.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trimtab_testing_env::{Change, EnvError, TestEnv};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(CustomResource, Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(group = "example.com", version = "v1", kind = "Toy", namespaced)]
struct ToySpec {
    colour: String,
}

/// A run of everything that the plane does by itself: namespaces emptied, dependents collected, names and addresses given.
async fn run(seed: u64) -> Result<Vec<Change>, EnvError> {
    let env = TestEnv::builder().seed(seed).crd::<Toy>().start().await?;
    env.apply(include_str!("driven.yaml")).await?;
    let (namespaces, toys) = (
        Api::<Namespace>::all(env.client()),
        Api::<Toy>::namespaced(env.client(), "team"),
    );
    let owner = toys.get("owner").await?;
    let owned: Vec<OwnerReference> = kube::Resource::controller_owner_ref(&owner, &())
        .into_iter()
        .collect();
    let pods = Api::<Pod>::namespaced(env.client(), "team");
    for _ in 0..3 {
        let pod: Pod = typed(json!({
            "metadata": {"generateName": "worker-", "ownerReferences": owned},
            "spec": {"containers": [{"name": "worker", "image": "none"}]},
        }));
        pods.create(&PostParams::default(), &pod).await?;
    }
    toys.delete("owner", &DeleteParams::foreground()).await?;
    env.eventually_gone(&toys, "owner").await?;
    namespaces.delete("team", &DeleteParams::default()).await?;
    env.eventually_gone(&namespaces, "team").await?;
    tokio::time::sleep(2 * HOUR).await;
    let changes = env.history().since(0);
    env.shutdown().await?;
    Ok(changes)
}

fn typed<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of the kind")
}

/// A run on a runtime of its own.
fn paused<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(run)
}

/// Times that controllers write among them.
fn told(changes: &[Change]) -> Vec<String> {
    let tell = |change: &Change| {
        let object = change.object().unwrap_or_default();
        format!("{} {:?} {} {object}", change.revision, change.at, change.key)
    };
    changes.iter().map(tell).collect()
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let mut histories = Vec::new();
    for seed in [1, 2, 3] {
        let history = told(&paused(run(seed)).expect("a run"));
        assert!(history.len() > 100, "much happens");
        for again in 0..2 {
            let other = told(&paused(run(seed)).expect("a run"));
            let differs = history.iter().zip(&other).position(|(one, other)| one != other);
            if let Some(at) = differs {
                panic!(
                    "seed {seed}, again {again}, change {at}:\n{}\n{}",
                    history[at], other[at]
                );
            }
            assert_eq!(history.len(), other.len());
        }
        histories.push(history);
    }
    assert_ne!(histories[0], histories[1], "another seed gives another");
}

#[tokio::test(start_paused = true)]
async fn hours_pass_in_a_moment_and_the_server_knows() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    let events: Api<Event> = Api::default_namespaced(env.client());
    let event: Event = typed(json!({
        "metadata": {"name": "brief"},
        "involvedObject": {"kind": "Namespace", "name": "default", "namespace": "default"},
    }));
    let made = events.create(&PostParams::default(), &event).await?;
    tokio::time::sleep(HOUR / 2).await;
    assert!(events.get_opt("brief").await?.is_some(), "it lives for an hour");
    tokio::time::sleep(3 * HOUR).await;
    assert!(events.get_opt("brief").await?.is_none());
    let event: Event = typed(json!({
        "metadata": {"name": "late"},
        "involvedObject": {"kind": "Namespace", "name": "default", "namespace": "default"},
    }));
    let late = events.create(&PostParams::default(), &event).await?;
    let time = |event: &Event| event.metadata.creation_timestamp.as_ref().expect("a time").0;
    let passed = time(&late).duration_since(time(&made));
    assert!((12_595..12_605).contains(&passed.as_secs()), "{passed}");
    env.shutdown().await
}

/// Whatever ticks for nothing would make days long: `cargo test -p trimtab-testing-env --test driven a_day` takes 0.3 s.
#[tokio::test(start_paused = true)]
async fn a_day_in_which_nothing_happens_is_one_in_which_hardly_anything_is_asked() -> Result<(), EnvError> {
    let env = TestEnv::builder().workload_controllers().start().await?;
    tokio::time::sleep(HOUR).await;
    let (changes, began) = (
        env.history().len(),
        env.requests().last().map(|request| request.at),
    );
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!(env.history().len(), changes);
    let asked = env
        .requests()
        .into_iter()
        .filter(|request| Some(request.at) > began);
    let asked: Vec<_> = asked.map(|request| request.path).collect();
    assert!(asked.len() < 100, "{} requests: {asked:?}", asked.len());
    env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn matchers_say_what_is_otherwise() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    env.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '1'}}")
        .await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
    env.eventually_like(&maps, "a", &json!({"data": {"x": "1"}}))
        .await?;
    let gave_up = env
        .eventually_like(&maps, "a", &json!({"data": {"x": "2"}}))
        .await;
    let text = gave_up.expect_err("it is not so").to_string();
    assert!(text.contains("/data/x: should be \"2\", and is \"1\""), "{text}");

    env.consistently(HOUR, &maps, "a", |map| map.data.is_some())
        .await?;
    let later = async {
        tokio::time::sleep(HOUR / 2).await;
        maps.delete("a", &DeleteParams::default()).await
    };
    let (stays, deleted) = tokio::join!(
        env.consistently(HOUR, &maps, "a", |map| map.data.is_some()),
        later
    );
    deleted?;
    let text = stays.expect_err("it is gone").to_string();
    assert!(text.contains("nothing"), "{text}");
    env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn dumps_and_golden_files_tell_of_what_was_made() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    env.apply("{apiVersion: v1, kind: Secret, metadata: {name: made}}")
        .await?;
    let dump = env.dump();
    for part in [
        "kind: Secret",
        "name: made",
        "/api/v1/namespaces/default/secrets/made",
    ] {
        assert!(dump.contains(part), "{part} is in: {dump}");
    }
    assert!(
        !dump.contains("kind: FlowSchema"),
        "what every cluster has is not in: {dump}"
    );

    let golden = format!("{}/tests/golden.yaml", env!("CARGO_MANIFEST_DIR"));
    env.golden(&golden, &["Secret"])?;
    Api::<Secret>::default_namespaced(env.client())
        .delete("made", &DeleteParams::default())
        .await?;
    let error = env
        .golden(&golden, &["Secret"])
        .expect_err("it is gone")
        .to_string();
    assert!(error.contains("Secret default~1made"), "{error}");
    env.shutdown().await
}
