//! What the page shows in these tests: a program with controllers in all conditions, on paused time.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PostParams};
use tokio::time::{Instant, advance, sleep};
use trimtab::apimachinery::ObjectKey;
use trimtab::client::cache::informer::Handling;
use trimtab::client::cache::{Form, InformerFactory, Selection};
use trimtab::client::workqueue::{Add, Work, WorkQueue};
use trimtab::controller::introspection::{
    ControllerState, Fact, Introspection, Level, Observed, Occasion, Outcome, StatusWrite, Timeline,
    TurnRecord, Verb, Write, WriteResult,
};
use trimtab::testing::TestEnv;

use crate::site::wall;

/// The name and the message of an object whose owner wishes us ill.
pub(crate) const EVIL: &str = "<img src=x onerror=\"document.title='owned'\">";

/// A program that has run for a while. What is held here is in hand.
pub(crate) struct World {
    pub(crate) shown: Introspection,
    pub(crate) begun: Instant,
    pub(crate) websites: Timeline,
    _held: Vec<(Work<ObjectKey>, TurnRecord)>,
}

/// One controller of the world while it is being made.
struct Making {
    begun: Instant,
    queue: WorkQueue<ObjectKey>,
    timeline: Timeline,
}

fn key(name: &str) -> ObjectKey {
    match name.split_once('/') {
        Some((namespace, name)) => ObjectKey::namespaced(namespace, name),
        None => ObjectKey::cluster(name),
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl Making {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            queue: WorkQueue::builder().build().expect("the defaults work"),
            timeline: Timeline::new(),
        }
    }

    fn observed(&self, name: &str, kind: &str, workers: usize) -> Observed {
        Observed::new(name, self.timeline.clone())
            .kind(kind)
            .workers(workers)
            .queue(self.queue.clone())
    }

    fn add(&self, name: &str, add: Add) {
        self.queue.add_with(key(name), add).expect("it is open");
    }

    async fn take(&self, attempt: u32) -> (Work<ObjectKey>, TurnRecord) {
        let work = self.queue.get().await.expect("it is open");
        let occasion = Occasion::of(&work, wall(self.begun)).attempt(attempt);
        let record = self.timeline.begin(work.key(), occasion);
        (work, record)
    }

    /// A whole turn: waits, reconciles, writes, sees its writes, ends.
    async fn turn(&self, name: &str, why: &[&str], attempt: u32, writes: Vec<Write>, outcome: Outcome) {
        for reason in why {
            self.add(name, Add::now().because((*reason).to_owned()));
        }
        advance(secs(0.0042)).await;
        let (work, mut record) = self.take(attempt).await;
        let wrote = writes.iter().any(|write| write.result == WriteResult::Written);
        for write in writes {
            advance(secs(0.0131)).await;
            record.wrote(write);
        }
        record.status(match (&outcome, wrote) {
            (Outcome::Success | Outcome::RequeueAfter { .. }, true) => StatusWrite::Written,
            (Outcome::Success | Outcome::RequeueAfter { .. }, false) => StatusWrite::Unchanged,
            _ => StatusWrite::None,
        });
        advance(secs(0.0054)).await;
        record.reconciled();
        if wrote {
            advance(secs(0.0187)).await;
        }
        record.end(outcome);
        work.done();
    }
}

fn apply(kind: &'static str, name: &str, version: &str) -> Write {
    Write::new(Verb::Apply, kind, name).version(version)
}

/// The turns of one website: made, idle, in trouble, mended.
async fn hello(websites: &Making) {
    let all = |version: &str| {
        vec![
            apply("ConfigMap", "default/hello-page", version),
            apply("Deployment", "default/hello", version),
            apply("Service", "default/hello", version),
        ]
    };
    let same = || all("10482").into_iter().map(Write::unchanged).collect();
    let name = "default/hello";
    websites
        .turn(
            name,
            &["Website default/hello added"],
            1,
            all("10482"),
            Outcome::Success,
        )
        .await;
    advance(secs(0.9)).await;
    let echo = [
        "Deployment default/hello updated",
        "Service default/hello updated",
    ];
    websites.turn(name, &echo, 1, same(), Outcome::Success).await;
    advance(secs(754.0)).await;
    let refused = |attempt: u32| {
        let message = "Deployment.apps \"hello\" is forbidden: exceeded quota: compute, requested: limits.memory=4Gi, \
                       used: limits.memory=14Gi, limited: limits.memory=16Gi";
        let write = Write::new(Verb::Apply, "Deployment", name).refused("forbidden: exceeded quota");
        let outcome = Outcome::Error {
            message: message.to_owned(),
            delay: Duration::from_millis(5 << attempt),
        };
        (
            vec![
                apply("ConfigMap", "default/hello-page", "11873").unchanged(),
                write,
            ],
            outcome,
        )
    };
    for attempt in 1..=3 {
        let (writes, outcome) = refused(attempt);
        let why = if attempt == 1 {
            "Website default/hello updated"
        } else {
            "error: exceeded quota"
        };
        websites.turn(name, &[why], attempt, writes, outcome).await;
        advance(secs(0.05 * f64::from(attempt))).await;
    }
    let delay = Duration::from_millis(40);
    websites
        .turn(
            name,
            &["error: exceeded quota"],
            4,
            Vec::new(),
            Outcome::Conflict { delay },
        )
        .await;
    advance(secs(41.0)).await;
    let again = Outcome::RequeueAfter {
        delay: Duration::from_secs(300),
    };
    websites
        .turn(
            name,
            &["ResourceQuota default/compute updated"],
            5,
            all("11902"),
            again,
        )
        .await;
}

async fn websites(begun: Instant) -> (Making, Vec<(Work<ObjectKey>, TurnRecord)>) {
    let websites = Making::new(begun);
    for number in 0..60 {
        let name = format!("team-{}/site-{number:02}", number % 7);
        let why = format!("Website {name} added");
        let write = apply("Deployment", &name, "9001");
        websites
            .turn(&name, &[&why], 1, vec![write], Outcome::Success)
            .await;
    }
    hello(&websites).await;
    let message = "the reconciler panicked: index out of bounds: the len is 0 but the index is 0".to_owned();
    let delay = Duration::from_secs(20);
    websites
        .turn(
            "team-3/broken",
            &["Website team-3/broken updated"],
            1,
            Vec::new(),
            Outcome::Panic { message, delay },
        )
        .await;
    let terminal = Outcome::Terminal {
        message: "spec.replicas: must be at most 50".to_owned(),
    };
    websites
        .turn(
            "team-5/huge",
            &["Website team-5/huge added"],
            1,
            Vec::new(),
            terminal,
        )
        .await;
    let evil = Outcome::Error {
        message: format!("no such theme: {EVIL}"),
        delay: Duration::from_secs(80),
    };
    let name = format!("default/{EVIL}");
    websites
        .turn(&name, &[&format!("Website {name} added")], 1, Vec::new(), evil)
        .await;

    websites.add("team-1/slow", Add::now().because("Website team-1/slow updated"));
    let (work, mut record) = websites.take(2).await;
    advance(secs(2.0)).await;
    record.wrote(apply("ConfigMap", "team-1/slow-page", "12001"));
    websites.add(
        "team-2/shop",
        Add::now().because("Deployment team-2/shop updated"),
    );
    let (settling, mut settles) = websites.take(1).await;
    settles.wrote(apply("Deployment", "team-2/shop", "12002"));
    settles.reconciled();
    websites.add(
        "team-1/slow",
        Add::now().because("ConfigMap team-1/slow-page updated"),
    );
    websites.add("team-3/broken", Add::after(delay).because("panic"));
    websites.add(
        &name,
        Add::after(Duration::from_secs(80)).because("error: no such theme"),
    );
    websites.add("default/hello", Add::after(Duration::from_secs(300)));
    for number in 0..130 {
        let low = Add::now().priority(-100).because("resync");
        websites.add(&format!("team-{}/site-{number:02}", number % 7), low);
    }
    websites.add("default/blog", Add::now().because("Website default/blog updated"));
    advance(secs(1.4)).await;
    (websites, vec![(work, record), (settling, settles)])
}

/// A program with three controllers that work, one that waits, facts and informers.
pub(crate) async fn world() -> World {
    let begun = Instant::now();
    let shown = Introspection::new("shop-operator");
    let backups = Making::new(begun);
    for number in 0..12 {
        let name = format!("shop/nightly-{number}");
        let again = Outcome::RequeueAfter {
            delay: Duration::from_secs(3600),
        };
        backups
            .turn(&name, &["time"], 1, vec![apply("Job", &name, "700")], again)
            .await;
        backups.add(
            &name,
            Add::after(Duration::from_secs(3600 - number * 120)).because("time"),
        );
    }
    let (websites, held) = websites(begun).await;
    let nodes = Making::new(begun);
    nodes
        .turn(
            "node-1",
            &["Node node-1 updated"],
            1,
            Vec::new(),
            Outcome::Success,
        )
        .await;

    shown.controller(websites.observed("website", "Website.shop.example.com", 4));
    shown.controller(backups.observed("backup", "Backup.shop.example.com", 2));
    shown.controller(nodes.observed("node-labels", "Node", 24));
    let certificates = Making::new(begun);
    shown.controller(
        certificates
            .observed("certificate", "Certificate.cert-manager.io", 1)
            .state(|| ControllerState::Waiting {
                waits_for: "Certificate (the server could not find the requested resource)".to_owned(),
            }),
    );
    shown.facts("Leader election", || {
        vec![
            Fact::new("leader", "shop-operator-6d9f-x2k1q").level(Level::Good),
            Fact::new("term", "14"),
        ]
    });
    shown.facts("Shards", || {
        vec![
            Fact::new("held", "86 of 256"),
            Fact::new("handing over", "3").level(Level::Warning),
        ]
    });
    World {
        shown,
        begun,
        websites: websites.timeline,
        _held: held,
    }
}

/// A program that only has informers, of a real server, and what keeps them going.
pub(crate) async fn informers() -> (Introspection, TestEnv, Box<dyn std::any::Any>) {
    let env = TestEnv::start().await.expect("it starts");
    let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
    for number in 0..20 {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(format!("map-{number}"));
        map.data = Some([("text".to_owned(), "x".repeat(500))].into());
        maps.create(&PostParams::default(), &map)
            .await
            .expect("it is created");
    }
    let factory = InformerFactory::new(env.client());
    let all = factory.informer::<ConfigMap>(Selection::all().without_bookkeeping());
    let told = all.add_handler_with(Handling::named("website"), |_| ());
    let some = factory.informer::<Deployment>(Selection::in_namespaces(["shop", "default"]).labels("app"));
    let nothing = factory.informer::<Secret>(
        Selection::all()
            .labels("this is, no = selector !")
            .form(Form::Typed),
    );
    all.synced().await.expect("it is listed");
    some.synced().await.expect("it is listed");
    let trouble = || nothing.status().reflectors.iter().any(|of| of.trouble.is_some());
    while !trouble() {
        sleep(secs(0.1)).await;
    }
    let shown = Introspection::new("shop-operator");
    shown.informers(move || factory.status());
    (shown, env, Box::new((all, told, some, nothing)))
}
