//! What triggers turns, and which changes do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::cached::{Codec, Form};
use trimtab_client_cache::{Cached, Delta};

use super::server::Server;
use super::widgets::{Widget, manager, run, wish};
use crate::predicate::Predicate;
use crate::source::{Source, Trigger, Watch};
use crate::{Error, Keyed, Next, Reconcile, Result, Turn};

const SOON: Duration = Duration::from_secs(1);

/// A key that is no object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Check {
    Team(String),
    Everything,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team(team) => write!(f, "team {team}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

/// Counts the Secrets of teams, and keeps the count in a ConfigMap of nobody's.
#[derive(Clone, Default)]
struct Census(Arc<Mutex<Vec<Counted>>>);

/// What came up, and why.
type Counted = (Check, Vec<String>);

impl Reconcile<Keyed<Check>> for Census {
    async fn reconcile(&self, turn: &mut Turn<Keyed<Check>>) -> Result<Next> {
        let reasons = turn.reasons().iter().map(str::to_owned).collect();
        self.0.lock().push((turn.key().clone(), reasons));
        let Check::Team(team) = turn.key() else {
            return Ok(Next::Done);
        };
        let secrets = turn.store::<PartialObjectMeta<Secret>>()?.list();
        let count = secrets
            .iter()
            .filter(|secret| secret.label("team").as_deref() == Some(team))
            .count();
        let mut census = ConfigMap::default();
        census.metadata.name = Some(format!("census-{team}"));
        census.metadata.namespace = Some("default".to_owned());
        census.data = Some([("count".to_owned(), count.to_string())].into());
        turn.apply_unowned(census).await?;
        Ok(Next::Done)
    }
}

impl Census {
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.0.lock().drain(..).map(|(key, _)| key.to_string()).collect();
        keys.sort();
        keys
    }
}

fn teams_of(secret: &PartialObjectMeta<Secret>) -> Vec<Check> {
    let team = secret.labels().get("team").cloned().map(Check::Team);
    team.into_iter().chain([Check::Everything]).collect()
}

fn secret(team: &str) -> Value {
    json!({"metadata": {"labels": {"team": team}}, "data": {"big": "c2VjcmV0"}})
}

#[tokio::test(start_paused = true)]
async fn what_is_referred_to_triggers_those_who_refer_to_it() {
    let server = Server::default();
    for (name, secret) in [("a", "s1"), ("b", "s2"), ("c", "s1")] {
        server.put("widgets", name, wish(secret));
    }
    let running = run(&server, |controller| {
        controller
            .refers_to::<Secret>(|widget: &Widget| vec![ObjectKey::namespaced("default", &widget.spec.text)])
            .refers_to_by::<PartialObjectMeta<Secret>>(Watch::new(), |_| Vec::new())
    });
    let woken = async || {
        sleep(SOON).await;
        let seen = std::mem::take(&mut *running.widgets.diary.lock());
        let names: std::collections::BTreeSet<_> = seen.into_iter().map(|seen| seen.name).collect();
        Vec::from_iter(names)
    };
    assert_eq!(woken().await, ["a", "b", "c"]);
    // It is made after those who wait for it.
    server.put("secrets", "s1", secret("red"));
    assert_eq!(woken().await, ["a", "c"]);
    server.put("secrets", "s3", secret("red"));
    assert_eq!(woken().await, Vec::<String>::new());
    server.put("widgets", "a", wish("s2"));
    assert_eq!(woken().await, ["a"]);
    server.put("secrets", "s1", secret("blue"));
    assert_eq!(woken().await, ["c"], "a refers to another one now");
    server.put("secrets", "s2", secret("blue"));
    assert_eq!(woken().await, ["a", "b"]);
    server.delete("secrets", "s2");
    assert_eq!(woken().await, ["a", "b"]);
    running.end().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_controller_without_a_kind_has_keys_of_its_own() {
    let server = Server::default();
    for (name, team) in [("s1", "red"), ("s2", "red"), ("s3", "blue")] {
        server.put("secrets", name, secret(team));
    }
    let (manager, census, stop) = (manager(&server), Census::default(), CancellationToken::new());
    let controller = manager
        .controller(census.clone())
        .named("census")
        .watches(teams_of)
        .watches(|_: &ConfigMap| Vec::new())
        .writes::<ConfigMap>()
        .resync(Duration::from_secs(600))
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        assert_eq!(census.keys(), ["everything", "team blue", "team red"]);
        let count = |team| {
            server.get("configmaps", &format!("census-{team}")).expect("made")["data"]["count"].clone()
        };
        assert_eq!((count("red"), count("blue")), (json!("2"), json!("1")));
        let owners =
            server.get("configmaps", "census-red").expect("made")["metadata"]["ownerReferences"].clone();
        assert_eq!(owners, Value::Null, "it belongs to nobody");

        server.put("secrets", "s2", secret("blue"));
        sleep(SOON).await;
        assert_eq!(
            census.keys(),
            ["everything", "team blue", "team red"],
            "what was and what is"
        );
        assert_eq!((count("red"), count("blue")), (json!("1"), json!("2")));

        controller.trigger(Check::Everything, "a call");
        sleep(SOON).await;
        assert_eq!(census.keys(), ["everything"]);
        sleep(Duration::from_secs(660)).await;
        assert_eq!(census.keys(), ["everything", "team blue", "team red"], "a resync");
        stop.cancel();
    });
    ended.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_refused_when_it_is_described() {
    let server = Server::default();
    let manager = manager(&server);
    let census = Census::default;
    let everything = |_: &Secret| vec![Check::Everything];
    let refusals = [
        manager.controller(census()).watches(everything).start(),
        manager.controller(census()).named("x").start(),
        manager
            .controller(census())
            .named("x")
            .watches(everything)
            .workers(0)
            .start(),
        manager
            .controller(census())
            .named("x")
            .watches(everything)
            .resync(Duration::ZERO)
            .start(),
        manager
            .controller(census())
            .named("x")
            .watches(everything)
            .deadline(Duration::ZERO)
            .start(),
        manager
            .controller(census())
            .named("x")
            .watches(everything)
            .ageing(Duration::ZERO)
            .start(),
    ];
    let words = refusals.map(|refused| refused.expect_err("refused").to_string());
    assert_eq!(
        words,
        [
            r#"controller "" has no kind, and needs a name: add .named(…)"#,
            r#"controller "x" has no kind, and nothing else triggers it: add .watches(…) or .source(…)"#,
            r#"controller "x" has no workers"#,
            r#"controller "x" has no time between resyncs"#,
            r#"controller "x" has a deadline that no turn can meet"#,
            "ageing must be more than zero and at most one day, not 0ns",
        ]
    );
    assert!(manager.cluster("", server.client()).is_err());
    manager.cluster("east", server.client()).expect("a new name");
    let twice = manager.cluster("east", server.client()).expect_err("taken");
    assert_eq!(
        twice.to_string(),
        r#"there is another cluster with the name "east""#
    );
}

#[tokio::test(start_paused = true)]
async fn streams_and_timers_trigger_and_say_what_ails_them() {
    let server = Server::default();
    let (manager, census, stop) = (manager(&server), Census::default(), CancellationToken::new());
    let (sender, mut receiver) = mpsc::channel::<Trigger<Check>>(8);
    let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let answers = Arc::new(Mutex::new(BTreeMap::from([
        (0, Ok(vec![Check::Team("a".to_owned())])),
        (1, Err("the provider is down".to_owned())),
    ])));
    let asked = Arc::new(Mutex::new(0));
    let (answer, count) = (answers.clone(), asked.clone());
    let poll = move || {
        let number = {
            let mut asked = count.lock();
            *asked += 1;
            *asked - 1
        };
        let answer = answer.lock().get(&number).cloned();
        async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    };
    manager
        .controller(census.clone())
        .named("census")
        .source(Source::stream("calls", stream.fuse()))
        .source(Source::every(
            "the provider's list",
            Duration::from_secs(60),
            poll,
        ))
        .watches(|_: &PartialObjectMeta<Secret>| Vec::new())
        .watches(|_: &ConfigMap| Vec::new())
        .writes::<ConfigMap>()
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        let first = census.0.lock().drain(..).collect::<Vec<_>>();
        assert_eq!(first.len(), 1);
        assert_eq!(
            (first[0].0.to_string(), &*first[0].1),
            ("team a".to_owned(), &["the provider's list".to_owned()][..])
        );
        sender
            .send(Trigger::new(Check::Everything, "a call"))
            .await
            .expect("it listens");
        sleep(SOON).await;
        assert_eq!(census.keys(), ["everything"]);
        sleep(Duration::from_secs(200)).await;
        assert_eq!(
            *asked.lock(),
            4,
            "asked again after a failure, and after an answer that did not come"
        );
        stop.cancel();
    });
    ended.expect("a clean end");
    assert!(sender.is_closed(), "the stream has ended with the controller");
}

#[tokio::test(start_paused = true)]
async fn sources_come_and_go_while_the_controller_runs() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("x"));
    sleep(SOON).await;
    let turns = || running.widgets.turns_of("a").len();
    let before = turns();
    let touch = |n: u32| {
        server.put(
            "secrets",
            "s",
            json!({"metadata": {"labels": {"n": n.to_string()}}}),
        )
    };
    touch(1);
    sleep(SOON).await;
    assert_eq!(turns(), before, "nobody watches secrets");
    let to_a = |_: &Secret| vec![ObjectKey::namespaced("default", "a")];
    let id = running.controller.add(Source::watch(Watch::new(), to_a));
    sleep(SOON).await;
    assert_eq!(turns(), before + 1, "what there is is told");
    touch(2);
    sleep(SOON).await;
    assert_eq!(turns(), before + 2);
    assert!(running.controller.remove(id));
    assert!(!running.controller.remove(id), "only once");
    touch(3);
    sleep(SOON).await;
    assert_eq!(turns(), before + 2, "nobody watches any more");
    let again = running.controller.add(Source::watch(Watch::new(), to_a));
    sleep(SOON).await;
    assert_eq!(turns(), before + 3, "and is watched anew");
    assert!(running.controller.remove(again));
    running.end().await.unwrap();
}

/// Turns take a second each; the widget that a user changes does not wait for those that are only listed.
#[tokio::test(start_paused = true)]
async fn what_is_listed_waits_for_what_is_changed() {
    #[derive(Clone, Default)]
    struct Slow(Arc<Mutex<Vec<String>>>);
    impl Reconcile<Widget> for Slow {
        async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
            self.0.lock().push(turn.key().name.clone());
            sleep(Duration::from_millis(100)).await;
            Ok(Next::Done)
        }
    }
    let server = Server::default();
    (0..20).for_each(|n| drop(server.put("widgets", &format!("w{n:02}"), wish("x"))));
    let (manager, slow, stop) = (manager(&server), Slow::default(), CancellationToken::new());
    manager
        .controller(slow.clone())
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(Duration::from_millis(350)).await;
        server.put("widgets", "w19", wish("changed"));
        sleep(Duration::from_secs(5)).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let order = slow.0.lock().clone();
    let place = order
        .iter()
        .position(|name| name == "w19")
        .expect("it had a turn");
    assert!(place <= 5, "{order:?}");
    assert_eq!(order.len(), 20, "each had one turn: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_too_long_fails_and_tells_what_it_saw() {
    struct Stuck;
    impl Reconcile<Widget> for Stuck {
        async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
            turn.condition("Ready", false, "Waiting", "");
            std::future::pending().await
        }
    }
    let server = Server::default();
    server.put("widgets", "a", wish("x"));
    let (manager, stop) = (manager(&server), CancellationToken::new());
    let builder = manager.controller(Stuck).deadline(Duration::from_secs(20));
    builder.start().expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(Duration::from_secs(19)).await;
        assert_eq!(server.log(), [] as [&str; 0]);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(
            server.get("widgets", "a").expect("there")["status"]["conditions"][0]["reason"],
            "Waiting"
        );
        let text = manager.metrics_text();
        assert!(
            text.contains(r#"controller_runtime_reconcile_timeouts_total{controller="widget"} 1"#),
            "{text}"
        );
        stop.cancel();
    });
    assert!(matches!(ended, Err(Error::CutOff(1)) | Ok(())), "{ended:?}");
}

/// Who says `Again` is called again after a backoff, and no failure is told.
#[tokio::test(start_paused = true)]
async fn again_backs_off_without_an_error() {
    #[derive(Clone, Default)]
    struct Patient(Arc<Mutex<Vec<Instant>>>);
    impl Reconcile<Widget> for Patient {
        async fn reconcile(&self, _: &mut Turn<Widget>) -> Result<Next> {
            self.0.lock().push(Instant::now());
            Ok(Next::Again)
        }
    }
    let server = Server::default();
    server.put("widgets", "a", wish("x"));
    let (manager, patient, stop) = (manager(&server), Patient::default(), CancellationToken::new());
    manager
        .controller(patient.clone())
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let turns = patient.0.lock().clone();
    assert_eq!(turns.len(), 8, "5 ms doubled: {turns:?}");
    let text = manager.metrics_text();
    for line in [
        r#"controller_runtime_reconcile_total{controller="widget",result="requeue"} 8"#,
        r#"controller_runtime_reconcile_errors_total{controller="widget"} 0"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

/// All keys, also those that wait for a change after a failure.
#[tokio::test(start_paused = true)]
async fn all_keys_are_looked_at_when_somebody_says_so() {
    #[derive(Clone, Default)]
    struct Stubborn(Arc<Mutex<Vec<String>>>);
    impl Reconcile<Widget> for Stubborn {
        async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
            let reasons: Vec<_> = turn.reasons().iter().collect();
            self.0
                .lock()
                .push(format!("{} {}", turn.key(), reasons.join(" ")));
            match turn.key().name.as_str() {
                "a" => Err(Error::terminal("no good")),
                _ => Ok(Next::Done),
            }
        }
    }
    let server = Server::default();
    for name in ["a", "b"] {
        server.put("widgets", name, wish("x"));
    }
    let (manager, stubborn, stop) = (manager(&server), Stubborn::default(), CancellationToken::new());
    let controller = manager
        .controller(stubborn.clone())
        .start()
        .expect("a good description");
    assert!(controller.trigger_all("too early, and no harm"));
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        assert!(controller.trigger_all("settings"));
        sleep(SOON).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let turns = [
        "default/a listed",
        "default/b listed",
        "default/a settings",
        "default/b settings",
    ];
    assert_eq!(*stubborn.0.lock(), turns);
    assert!(!controller.trigger_all("too late"));
}

fn state(codec: &mut Codec<ConfigMap>, change: Value) -> Cached<ConfigMap> {
    let mut object = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1,
        "labels": {"l": "1"}, "annotations": {"a": "1"}}, "data": {"d": "1"}});
    for (at, value) in change.as_object().expect("pointers and values") {
        *object.pointer_mut(at).expect("a field") = value.clone();
    }
    codec
        .encode_json(object.to_string().as_bytes())
        .expect("an object")
}

#[test]
fn predicates_say_which_changes_matter() {
    type Made = fn() -> Predicate<ConfigMap>;
    let named: [(&str, Made); 6] = [
        ("generation", Predicate::generation),
        ("version", Predicate::resource_version),
        ("labels", Predicate::labels),
        ("annotations", Predicate::annotations),
        ("status", || Predicate::part(["data", "d"])),
        ("beyond", Predicate::beyond_status),
    ];
    let cases = [
        (json!({}), ""),
        (json!({"/metadata/resourceVersion": "2"}), "version"),
        (json!({"/metadata/generation": 2}), "generation beyond"),
        (json!({"/metadata/labels/l": "2"}), "labels beyond"),
        (json!({"/metadata/annotations/a": "2"}), "annotations beyond"),
        (json!({"/data/d": "2"}), "status"),
    ];
    let mut codec = Codec::<ConfigMap>::new(&(), Form::default());
    let old = state(&mut codec, json!({}));
    for (change, expected) in cases {
        let new = state(&mut codec, change.clone());
        let delta = Delta::Updated {
            old: old.clone(),
            new,
        };
        let matter: Vec<_> = named
            .iter()
            .filter(|(_, made)| made().matters(&delta))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(matter.join(" "), expected, "{change}");
    }
    let added = Delta::Added {
        object: old.clone(),
        initial: false,
    };
    let deleted = Delta::Deleted {
        last: old,
        observed: true,
    };
    for delta in [added, deleted] {
        assert!(named.iter().all(|(_, made)| made().matters(&delta)), "{delta:?}");
    }
}

#[test]
fn predicates_combine_as_logic_does() {
    let mut codec = Codec::<ConfigMap>::new(&(), Form::default());
    let delta = Delta::Added {
        object: state(&mut codec, json!({})),
        initial: false,
    };
    let always = |yes: bool| Predicate::<ConfigMap>::new(move |_| yes);
    for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
        let says = |predicate: Predicate<ConfigMap>| predicate.matters(&delta);
        assert_eq!(says(always(a).and(always(b))), a && b);
        assert_eq!(says(always(a).or(always(b))), a || b);
        assert_eq!(says(Predicate::all([always(a), always(b)])), a && b);
        assert_eq!(says(Predicate::any([always(a), always(b)])), a || b);
        assert_eq!(says(always(a).not()), !a);
    }
    assert!(Predicate::<ConfigMap>::all([]).matters(&delta) && !Predicate::any([]).matters(&delta));
}
