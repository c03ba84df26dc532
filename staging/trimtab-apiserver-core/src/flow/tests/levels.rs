//! Levels at work, on paused time: who waits, for how long, and what comes of those who go away.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};
use trimtab_apiserver_auth::UserInfo;

use crate::flow::level::{Entry, Level, Reason, Seat};
use crate::flow::metrics::SchemaFigures;
use crate::flow::queues::Shape;
use crate::flow::{Digest, Flow, FlowMetrics};
use crate::limits::InFlight;

const QUEUE: Shape = Shape::Queue {
    queues: 1,
    hand: 1,
    length: 2,
};

struct Kit {
    level: Arc<Level>,
    figures: Arc<SchemaFigures>,
}

impl Kit {
    fn new(shape: Shape, limit: u32) -> Self {
        let metrics = FlowMetrics::default();
        Self {
            level: Arc::new(Level::new("l", shape, limit, metrics.level("l", false))),
            figures: metrics.schema("s", "l"),
        }
    }

    fn enter(&self, seats: u32) -> Entry {
        self.level.enter(&self.figures, 1, seats)
    }

    fn seat(&self, seats: u32) -> Seat {
        match self.enter(seats) {
            Entry::In(seat) => seat,
            other => panic!("no seat: {other:?}"),
        }
    }

    /// Seats that are held, and requests that wait.
    fn load(&self) -> (u32, u32) {
        let (load, ..) = self.level.load();
        (load.seats, load.waiting)
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_turn_and_not_for_ever() {
    let kit = Kit::new(QUEUE, 2);
    let (first, second) = (kit.seat(1), kit.seat(1));
    let end = Instant::now() + Duration::from_secs(15);
    let (Entry::Waits(third), Entry::Waits(fourth)) = (kit.enter(1), kit.enter(1)) else {
        panic!("both wait");
    };
    assert!(matches!(kit.enter(1), Entry::Refused(Reason::QueueFull)));
    drop(first);
    let third = third.wait(end).await.expect("it is its turn");
    assert_eq!(kit.load(), (2, 1));
    let waited = Instant::now();
    assert_eq!(fourth.wait(end).await.err(), Some(Reason::TimeOut));
    assert_eq!(waited.elapsed().as_secs(), 15);
    assert_eq!(kit.load(), (2, 0));
    drop((second, third));
    assert_eq!(kit.load(), (0, 0), "Seats kept: all came back");
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_nothing_behind() {
    let kit = Kit::new(QUEUE, 1);
    let first = kit.seat(1);
    let (Entry::Waits(gone), Entry::Waits(next)) = (kit.enter(1), kit.enter(1)) else {
        panic!("both wait");
    };
    drop(gone);
    assert_eq!(kit.load(), (1, 1));
    let Entry::Waits(late) = kit.enter(1) else {
        panic!("there is room again");
    };
    drop(first);
    // It was told to start, and has gone before it heard of it.
    assert_eq!(kit.load(), (1, 1));
    drop(next);
    let end = Instant::now() + Duration::from_secs(1);
    let seat = late.wait(end).await.expect("the seat went on");
    assert_eq!(kit.load(), (1, 0));
    drop(seat);
    assert_eq!(kit.load(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wide_request_waits_for_all_its_seats() {
    let kit = Kit::new(QUEUE, 3);
    let narrow = kit.seat(1);
    let Entry::Waits(wide) = kit.enter(3) else {
        panic!("it waits");
    };
    let Entry::Waits(behind) = kit.enter(1) else {
        panic!("it waits behind, although a seat is free");
    };
    drop(narrow);
    let end = Instant::now() + Duration::from_secs(1);
    let wide = wide.wait(end).await.expect("all are free");
    assert_eq!(kit.load(), (3, 1));
    drop(wide);
    drop(behind.wait(end).await.expect("a seat is free"));
    kit.level.set_limit(1);
    drop(kit.seat(3));
    assert_eq!(kit.load(), (0, 0), "one wider than all runs alone");
}

#[tokio::test(start_paused = true)]
async fn seats_that_are_lent_come_back_when_they_are_needed() {
    let (schemas, levels) = super::objects();
    let flow = Flow::new(InFlight::default(), &schemas, &levels);
    let table = flow.table().expect("it is fair");
    let seats = |name: &str| table.levels[name].level.load().2;
    table.share_out();
    let figures = FlowMetrics::default().schema("s", "workload-low");
    let low = &table.levels["workload-low"].level;
    let held: Vec<Entry> = (0..400).map(|i| low.enter(&figures, i, 1)).collect();
    advance(Duration::from_secs(10)).await;
    table.share_out();
    let (borrowed, lent) = (seats("workload-low"), seats("workload-high"));
    assert!(borrowed > 245 && lent < 98, "{borrowed} {lent}");
    assert!(lent >= 49, "half of it is not lent: {lent}");
    drop(held);
    let high = &table.levels["workload-high"].level;
    let held: Vec<Entry> = (0..200).map(|i| high.enter(&figures, i, 1)).collect();
    advance(Duration::from_secs(10)).await;
    table.share_out();
    assert!(seats("workload-high") >= 98, "{}", seats("workload-high"));
    drop(held);
    let mut all = 0;
    for placed in table.levels.values() {
        assert_eq!(placed.level.load().0.seats, 0);
        all += placed.level.load().2;
    }
    assert!((595..=610).contains(&all), "{all}");
}

#[tokio::test(start_paused = true)]
async fn a_level_keeps_those_who_wait_when_objects_change() {
    let level = json!({"metadata": {"name": "small"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 1,
        "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 5}},
    }}});
    let schema = json!({"metadata": {"name": "small"}, "spec": {
        "matchingPrecedence": 3,
        "priorityLevelConfiguration": {"name": "small"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}],
                   "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
    }});
    let limits = InFlight {
        reading: 1,
        mutating: 0,
        fair: true,
    };
    let flow = Arc::new(Flow::new(
        limits,
        std::slice::from_ref(&schema),
        std::slice::from_ref(&level),
    ));
    let user = UserInfo::anonymous();
    let digest = Digest {
        user: &user,
        verb: "get",
        is_resource: false,
        group: "",
        resource: "",
        subresource: "",
        namespace: "",
        path: "/version",
    };
    let enter = || flow.enter(&digest, |_| 1, || Duration::from_secs(60));
    let (_, first) = enter().await;
    let mut second = Box::pin(enter());
    assert!(futures::poll!(&mut second).is_pending());
    let mut more = level.clone();
    more["spec"]["limited"]["nominalConcurrencyShares"] = 100.into();
    flow.replace(std::slice::from_ref(&schema), &[more]);
    assert!(
        futures::poll!(&mut second).is_pending(),
        "there is one seat for all"
    );
    drop(first);
    let (classified, second) = second.await;
    assert!(second.is_ok());
    assert!(classified.is_some());
    flow.replace(&[], &[]);
    let refused = enter().await.1;
    assert!(refused.is_ok(), "who goes elsewhere now finds a seat there");
}

#[tokio::test(start_paused = true)]
async fn plain_limits_are_for_each_kind_and_not_for_administrators() {
    let limits = InFlight {
        reading: 2,
        mutating: 1,
        fair: false,
    };
    let flow = Flow::new(limits, &[], &[]);
    let (jane, mut admin) = (UserInfo::anonymous(), UserInfo::anonymous());
    admin.groups.push("system:masters".to_owned());
    let enter = async |user: &UserInfo, verb: &'static str| {
        let digest = Digest {
            user,
            verb,
            is_resource: true,
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "",
            path: "",
        };
        flow.enter(&digest, |_| 9, || Duration::from_secs(60)).await.1
    };
    let held = [
        enter(&jane, "get").await,
        enter(&jane, "list").await,
        enter(&jane, "delete").await,
    ];
    assert!(held.iter().all(Result::is_ok));
    for verb in ["get", "create"] {
        assert_eq!(enter(&jane, verb).await.expect_err("too many").retry_after, 1);
        assert!(enter(&admin, verb).await.is_ok());
    }
    drop(held);
    assert!(enter(&jane, "create").await.is_ok());
}
