//! The versions as those meet them who write in one and read in another.

use std::pin::pin;

use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use trimtab::controller::webhook::{hub_round_trip, spoke_round_trip};
use trimtab::testing::TestEnv;

use super::*;
use crate::kit::{self, Outcome, refused};

const DEFINITION: &str = "alarms.example.com";

fn alarm(version: &str, name: &str, spec: Value) -> Value {
    let api_version = format!("example.com/{version}");
    json!({"apiVersion": api_version, "kind": "Alarm", "metadata": {"name": name}, "spec": spec})
}

/// The one of `v1` that nothing else can express.
fn workday() -> v1::AlarmSpec {
    v1::AlarmSpec {
        hour: 6,
        minute: 5,
        days: vec!["Monday".to_owned(), "Friday".to_owned()],
        sound: Some("birds".to_owned()),
    }
}

/// An environment in which alarms are stored as `stored`, with the program in it.
async fn started(stored: &str) -> Result<TestEnv, Box<dyn std::error::Error>> {
    let mut env = TestEnv::start().await?;
    env.install_definition(definition(stored)?).await?;
    kit::start(&mut env, &webhooks(), run).await;
    let rehearsal = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let probe = v1alpha1::Alarm::new(
        "probe",
        v1alpha1::AlarmSpec {
            time: "0:00".to_owned(),
        },
    );
    let first: Api<v1alpha1::Alarm> = api(&env);
    kit::eventually(|| first.create(&rehearsal, &probe)).await;
    Ok(env)
}

fn api<K>(env: &TestEnv) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::default_namespaced(env.client())
}

#[test]
fn nothing_is_lost_on_the_way() {
    for days in [vec![], vec!["Sunday".to_owned()]] {
        for sound in [None, Some("birds".to_owned())] {
            let days = days.clone();
            let hub = v1::Alarm::new(
                "a",
                v1::AlarmSpec {
                    hour: 23,
                    minute: 0,
                    days,
                    sound: sound.clone(),
                },
            );
            hub_round_trip::<v1beta1::Alarm>(hub.clone()).expect("nothing is lost");
            hub_round_trip::<v1alpha1::Alarm>(hub).expect("nothing is lost");
            let spec = v1beta1::AlarmSpec {
                hour: 0,
                minute: 59,
                sound,
            };
            spoke_round_trip(v1beta1::Alarm::new("a", spec)).expect("nothing is lost");
        }
    }
    let spec = v1alpha1::AlarmSpec {
        time: "7:30".to_owned(),
    };
    spoke_round_trip(v1alpha1::Alarm::new("a", spec)).expect("nothing is lost");
}

#[tokio::test]
async fn what_is_written_in_one_version_is_read_in_all() -> Outcome {
    let env = started("v1beta1").await?;
    let (first, second, hub) = (
        api::<v1alpha1::Alarm>(&env),
        api::<v1beta1::Alarm>(&env),
        api::<v1::Alarm>(&env),
    );
    let made = hub
        .create(&PostParams::default(), &v1::Alarm::new("work", workday()))
        .await?;
    assert_eq!(made.spec, workday());
    assert_eq!(made.metadata.annotations, None, "the hub keeps nothing");

    let old = first.get("work").await?;
    assert_eq!(old.spec.time, "6:05");
    let kept: Value = serde_json::from_str(&old.annotations()[KEPT])?;
    assert_eq!(kept, json!({"days": ["Monday", "Friday"], "sound": "birds"}));
    let newer = second.get("work").await?;
    assert_eq!((newer.spec.hour, newer.spec.sound.as_deref()), (6, Some("birds")));
    let kept: Value = serde_json::from_str(&newer.annotations()[KEPT])?;
    assert_eq!(kept, json!({"days": ["Monday", "Friday"]}));
    assert_eq!(
        (old.uid(), newer.uid()),
        (made.uid(), made.uid()),
        "it is one object"
    );

    // Whoever uses an old version changes what they see, and loses nothing of the rest.
    let later = Patch::Merge(json!({"spec": {"time": "9:00"}, "metadata": {"labels": {"by": "hand"}}}));
    first.patch("work", &PatchParams::default(), &later).await?;
    let after = hub.get("work").await?;
    assert_eq!(
        after.spec,
        v1::AlarmSpec {
            hour: 9,
            minute: 0,
            ..workday()
        }
    );
    assert_eq!(after.labels()["by"], "hand");
    assert_eq!(after.metadata.annotations, None);

    // A validator is asked about the hub, and its causes name the hub's fields.
    let params = PostParams::default();
    let late = alarm("v1alpha1", "late", json!({"time": "25:00"}));
    let answer = kit::create::<v1alpha1::Alarm>(&env.client(), &late, &params).await;
    assert_eq!(
        (answer.code, answer.causes()),
        (422, vec!["spec.hour: FieldValueInvalid".to_owned()])
    );

    kit::create::<v1alpha1::Alarm>(
        &env.client(),
        &alarm("v1alpha1", "old", json!({"time": "7:30"})),
        &params,
    )
    .await;
    let beta = alarm("v1beta1", "beta", json!({"hour": 8, "minute": 0}));
    kit::create::<v1beta1::Alarm>(&env.client(), &beta, &params).await;
    let times = first.list(&ListParams::default()).await?.items;
    let times: Vec<_> = times
        .iter()
        .map(|alarm| (alarm.name_any(), alarm.spec.time.clone()))
        .collect();
    let expected = [("beta", "8:00"), ("old", "7:30"), ("work", "9:00")];
    assert_eq!(
        times,
        expected.map(|(name, time)| (name.to_owned(), time.to_owned()))
    );
    let hours = hub.list(&ListParams::default()).await?.items;
    let hours: Vec<_> = hours.iter().map(|alarm| alarm.spec.hour).collect();
    assert_eq!(hours, [8, 7, 9]);
    Ok(env.shutdown().await?)
}

#[tokio::test]
async fn watches_tell_in_their_own_version() -> Outcome {
    let env = started("v1").await?;
    let (first, hub) = (api::<v1alpha1::Alarm>(&env), api::<v1::Alarm>(&env));
    let made = hub
        .create(&PostParams::default(), &v1::Alarm::new("work", workday()))
        .await?;
    let before = hub
        .list(&ListParams::default())
        .await?
        .metadata
        .resource_version
        .unwrap_or_default();
    let params = WatchParams::default().timeout(30);
    let (old, new) = (
        first.watch(&params, &before).await?,
        hub.watch(&params, &before).await?,
    );
    let (mut old, mut new) = (pin!(old), pin!(new));

    let later = Patch::Merge(json!({"spec": {"time": "9:10"}}));
    first.patch("work", &PatchParams::default(), &later).await?;
    hub.delete("work", &DeleteParams::default()).await?;
    for event in ["changed", "deleted"] {
        let (old, new) = (old.try_next().await?, new.try_next().await?);
        let (old, new) = match (event, old, new) {
            ("changed", Some(WatchEvent::Modified(old)), Some(WatchEvent::Modified(new))) => (old, new),
            ("deleted", Some(WatchEvent::Deleted(old)), Some(WatchEvent::Deleted(new))) => (old, new),
            (_, old, new) => panic!("{event}: {old:?} {new:?}"),
        };
        assert_eq!(old.spec.time, "9:10");
        assert_eq!(
            new.spec,
            v1::AlarmSpec {
                hour: 9,
                minute: 10,
                ..workday()
            }
        );
        assert_eq!((old.uid(), new.uid()), (made.uid(), made.uid()));
        assert_eq!(
            old.resource_version(),
            new.resource_version(),
            "both are about one change"
        );
    }
    Ok(env.shutdown().await?)
}

/// The way of a cluster from the first version to the last: objects of old, one of which makes no sense.
#[tokio::test]
async fn a_cluster_grows_with_the_kind() -> Outcome {
    let mut env = TestEnv::start().await?;
    env.install::<v1alpha1::Alarm>().await?;
    let first = api::<v1alpha1::Alarm>(&env);
    let at = |time: &str| v1alpha1::AlarmSpec {
        time: time.to_owned(),
    };
    for (name, time) in [("early", "5:00"), ("odd", "at noon")] {
        first
            .create(&PostParams::default(), &v1alpha1::Alarm::new(name, at(time)))
            .await?;
    }

    // The new definition, then the program, then whom to trust.
    let definitions: Api<CustomResourceDefinition> = Api::all(env.client());
    let apply = PatchParams::apply("deployer").force();
    definitions
        .patch(DEFINITION, &apply, &Patch::Apply(definition("v1alpha1")?))
        .await?;
    kit::start(&mut env, &webhooks(), run).await;
    let hub = api::<v1::Alarm>(&env);
    assert_eq!(kit::eventually(|| hub.get("early")).await.spec.hour, 5);

    let words = "conversion webhook for example.com/v1alpha1, Kind=Alarm failed: Alarm.example.com \"odd\" cannot be converted \
                 from v1alpha1 to v1: spec.time is \"at noon\", and should be an hour and a minute, as 7:30";
    assert_eq!(refused(hub.get("odd").await), (500, words.to_owned()));
    let all = refused(hub.list(&ListParams::default()).await);
    assert!(
        all.0 == 500 && all.1.contains("Alarm.example.com \"odd\" cannot be converted"),
        "{all:?}"
    );
    assert_eq!(
        first.get("odd").await?.spec,
        at("at noon"),
        "whoever reads what was written is not hindered"
    );
    // It cannot be changed, since the validator could not be shown what it was; it can be made anew.
    let later = Patch::Merge(json!({"spec": at("12:00")}));
    let (code, message) = refused(first.patch("odd", &PatchParams::default(), &later).await);
    assert!(
        code == 500 && message.contains("spec.time is \"at noon\""),
        "{message}"
    );
    first.delete("odd", &DeleteParams::default()).await?;
    let odd = v1alpha1::Alarm::new("odd", at("12:00"));
    first.create(&PostParams::default(), &odd).await?;
    assert_eq!(hub.list(&ListParams::default()).await?.items.len(), 2);

    // Objects are stored in the last version from now on; those of old are as they were.
    definitions
        .patch(DEFINITION, &apply, &Patch::Apply(definition("v1")?))
        .await?;
    let both = |definition: &CustomResourceDefinition| {
        let stored = definition
            .status
            .as_ref()
            .and_then(|status| status.stored_versions.clone());
        stored.is_some_and(|stored| stored == ["v1alpha1", "v1"])
    };
    env.eventually(&definitions, DEFINITION, both).await?;
    hub.create(&PostParams::default(), &v1::Alarm::new("work", workday()))
        .await?;
    let before: Vec<_> = first.list(&ListParams::default()).await?.items;
    let times: Vec<_> = before.iter().map(|alarm| alarm.spec.time.as_str()).collect();
    assert_eq!(times, ["5:00", "12:00", "6:05"]);
    // To write each as it is has it stored anew; then the old version can go.
    for alarm in hub.list(&ListParams::default()).await?.items {
        hub.replace(&alarm.name_any(), &PostParams::default(), &alarm)
            .await?;
    }
    let only = Patch::Merge(json!({"status": {"storedVersions": ["v1"]}}));
    definitions
        .patch_status(DEFINITION, &PatchParams::default(), &only)
        .await?;
    let after: Vec<_> = first.list(&ListParams::default()).await?.items;
    let same = |a: &v1alpha1::Alarm, b: &v1alpha1::Alarm| (a.uid(), &a.spec) == (b.uid(), &b.spec);
    assert!(
        before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b)),
        "{after:?}"
    );
    Ok(env.shutdown().await?)
}
