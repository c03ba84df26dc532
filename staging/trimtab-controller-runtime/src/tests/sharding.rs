//! Replicas that share the keys of a controller.

use std::time::Duration;

use tokio::time::sleep;
use trimtab_client_coordination::sharding::MemberConfig;

use super::server::Server;
use super::widgets::{Running, Widgets, manager, run_in, wish};
use crate::{Error, Manager};

const SOON: Duration = Duration::from_secs(10);
const OBJECTS: usize = 40;

/// A replica of a program whose keys are shared.
fn replica(server: &Server, identity: &str) -> Running {
    let mut member = MemberConfig::new("widgets");
    identity.clone_into(&mut member.identity);
    let manager = manager(server).sharded(member).grace(Duration::from_secs(3));
    run_in(manager, Widgets::of(server), |controller| {
        controller.sharded().workers(4)
    })
}

impl Running {
    /// Whose turns there were so far.
    fn worked_on(&self) -> Vec<String> {
        names()
            .filter(|name| !self.widgets.turns_of(name).is_empty())
            .collect()
    }

    fn forget(&self) {
        self.widgets.diary.lock().clear();
    }

    fn figure(&self, name: &str) -> usize {
        let text = self.manager.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a figure").trim().parse().expect("a number")
    }

    fn partitions(&self) -> usize {
        self.figure(r#"sharding_partitions{name="widgets"}"#)
    }

    fn turns_under_way(&self) -> usize {
        self.figure(r#"controller_runtime_active_workers{controller="widget"}"#)
    }
}

fn names() -> impl Iterator<Item = String> {
    (0..OBJECTS).map(|number| format!("w{number}"))
}

/// Has every object change, and says what each of the replicas has worked on since.
async fn shares(server: &Server, replicas: &[&Running], text: &str) -> Vec<Vec<String>> {
    replicas.iter().for_each(|replica| replica.forget());
    for name in names() {
        server.put("widgets", &name, wish(text));
    }
    sleep(SOON).await;
    for name in names() {
        let child = server.get("configmaps", &name).expect("made");
        assert_eq!(child["data"]["text"], text, "{name}");
    }
    replicas.iter().map(|replica| replica.worked_on()).collect()
}

/// Each key is in one share.
fn assert_shared(shares: &[Vec<String>]) {
    let mut all: Vec<_> = shares.iter().flatten().cloned().collect();
    all.sort();
    let mut expected: Vec<_> = names().collect();
    expected.sort();
    assert_eq!(all, expected, "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_share_the_keys_and_take_over_from_those_who_leave_and_die() {
    let server = Server::default();
    for name in names() {
        server.put("widgets", &name, wish("before"));
    }
    let first = replica(&server, "first");
    sleep(SOON).await;
    assert_eq!(first.worked_on().len(), OBJECTS, "who is alone has all");
    assert_eq!(first.partitions(), 256);

    let second = replica(&server, "second");
    sleep(SOON).await;
    assert!(second.manager.is_ready());
    let of_two = shares(&server, &[&first, &second], "of two").await;
    assert_shared(&of_two);
    assert!(of_two.iter().all(|share| share.len() > OBJECTS / 4), "{of_two:?}");
    assert_eq!(first.partitions() + second.partitions(), 256);

    let third = replica(&server, "third");
    sleep(SOON).await;
    let of_three = shares(&server, &[&first, &second, &third], "of three").await;
    assert_shared(&of_three);
    for (before, after) in of_two.iter().zip(&of_three) {
        assert!(
            after.iter().all(|name| before.contains(name)),
            "only the third gains"
        );
    }

    // Who leaves hands over at once, and what it had is looked at though nothing has changed.
    first.forget();
    second.forget();
    third.end().await.expect("a clean end");
    sleep(Duration::from_secs(3)).await;
    let mut gained = [first.worked_on(), second.worked_on()].concat();
    gained.sort();
    let mut left = of_three[2].clone();
    left.sort();
    assert_eq!(gained, left, "what was the third's, and only that");

    // Who dies is waited for.
    first.forget();
    second.task.abort();
    for name in names() {
        server.put("widgets", &name, wish("alone"));
    }
    sleep(Duration::from_secs(5)).await;
    assert!(first.worked_on().len() < OBJECTS, "the other one may still work");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(first.worked_on().len(), OBJECTS);
    assert_eq!(first.partitions(), 256);
    first.end().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_turn_in_hand_keeps_its_key_from_others() {
    let server = Server::default();
    for name in names() {
        server.put("widgets", &name, wish("x"));
    }
    let first = replica(&server, "first");
    sleep(SOON).await;
    // The caches of the first show its writes late: until then its keys are in hand.
    server.0.lock().lag = Duration::from_secs(8);
    for name in names() {
        server.put("widgets", &name, wish("y"));
    }
    sleep(Duration::from_millis(8_100)).await;
    let second = replica(&server, "second");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(
        second.worked_on(),
        Vec::<String>::new(),
        "all of them are in hand"
    );
    server.0.lock().lag = Duration::ZERO;
    sleep(SOON).await;
    let seconds = second.worked_on().len();
    assert!((OBJECTS / 4..OBJECTS).contains(&seconds), "{seconds}");
    for replica in [first, second] {
        replica.end().await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_end_is_cut_off_before_others_begin() {
    let server = Server::default();
    server.put("widgets", "a", wish("slow"));
    let only = replica(&server, "only");
    sleep(SOON).await;
    assert_eq!((only.turns_under_way(), only.partitions()), (1, 256));
    server.0.lock().unreachable_leases = true;
    sleep(Duration::from_secs(14)).await;
    assert_eq!((only.turns_under_way(), only.partitions()), (0, 0));
    assert_eq!(only.widgets.turns_of("a").len(), 1);
    server.0.lock().unreachable_leases = false;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        (only.turns_under_way(), only.partitions()),
        (1, 256),
        "it has joined again, and looks at what it has gained"
    );
    assert_eq!(only.widgets.turns_of("a").len(), 2);
    let error = only.end().await.expect_err("a turn that hangs");
    assert!(matches!(error, Error::CutOff(1)), "{error}");
}

#[tokio::test]
async fn a_sharded_controller_needs_a_group() {
    let manager = manager(&Server::default());
    let error = manager.controller(Widgets::default()).sharded().start();
    let Err(Error::Invalid(message)) = error else {
        panic!("accepted");
    };
    assert!(message.contains("Manager::sharded"), "{message}");
    let allowed = |manager: &Manager| manager.rules().allow("delete", "coordination.k8s.io", "leases");
    assert!(!allowed(&manager));
    assert!(allowed(&manager.sharded(MemberConfig::new("widgets"))));
}
