//! What is decided for Deployments: tables of single decisions, and whole rollouts of which the bounds are checked at every step.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{Plan, Wish, decide};
use super::rollback::{self, ROLLBACK_TO};
use super::sets::{DESIRED, HISTORY, MOST, REVISION, Set};
use super::status::find;
use crate::workload::template;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn deployment(spec: Value) -> Deployment {
    let mut object = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {"replicas": 10, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).expect("a Deployment")
}

fn image(deployment: &mut Deployment, image: &str) {
    let spec = deployment.spec.as_mut().expect("a spec");
    let pod = spec.template.spec.as_mut().expect("a pod");
    pod.containers[0].image = Some(image.to_owned());
}

/// A set of the template with this image.
fn set(name: &str, of: &str, replicas: i32, available: i32) -> Set {
    let mut deployment = deployment(json!({}));
    image(&mut deployment, of);
    Set {
        name: name.into(),
        uid: name.into(),
        created: at(i64::from(name.as_bytes()[0])),
        replicas,
        fingerprint: template::fingerprint(&deployment.spec.expect("a spec").template).into(),
        observed: true,
        known: true,
        actual: replicas,
        ready: available,
        available,
        terminating: Some(0),
        ..Set::default()
    }
}

fn sized(mut set: Set, desired: i32, most: i32) -> Set {
    set.annotations.insert(DESIRED.to_owned(), desired.to_string());
    set.annotations.insert(MOST.to_owned(), most.to_string());
    set
}

fn revised(mut set: Set, revision: &str) -> Set {
    set.annotations.insert(REVISION.to_owned(), revision.to_owned());
    set
}

fn plan(deployment: &Deployment, sets: Vec<Set>, running: bool) -> Plan {
    let wish = Wish::of(deployment, deployment.spec.as_ref().expect("a spec"));
    decide(&wish, sets, |_| running, at(1000))
}

/// The sizes of sets that are there, in the order of their names; a new one's last.
fn sizes(plan: &Plan) -> Vec<i32> {
    let mut sets: Vec<&Set> = plan.sets.iter().collect();
    sets.sort_by_key(|set| (set.place.is_none(), set.name.clone()));
    sets.iter().map(|set| set.replicas).collect()
}

#[test]
fn sets_are_scaled_step_by_step() {
    let rolling = json!({});
    let recreate = json!({"strategy": {"type": "Recreate"}});
    let paused = json!({"paused": true});
    #[rustfmt::skip]
    let cases = vec![
        ("the first set has all", &rolling, vec![], false, vec![10]),
        ("an update begins with the surge, and takes away what may be missing",
            &rolling, vec![set("a", "0", 10, 10)], false, vec![8, 3]),
        ("it goes on as pods come up", &rolling, vec![set("a", "0", 8, 8), set("b", "1", 3, 0)], false, vec![8, 5]),
        ("what is awaited is not spared", &rolling, vec![set("a", "0", 8, 8), set("b", "1", 5, 0)], false, vec![8, 5]),
        ("old ones go as new ones come", &rolling, vec![set("a", "0", 8, 8), set("b", "1", 5, 5)], false, vec![3, 5]),
        ("what is broken goes first", &rolling, vec![set("a", "0", 4, 0), set("b", "2", 4, 4), set("c", "1", 5, 5)], false, vec![0, 3, 5]),
        ("a rollback shrinks what came up badly", &rolling, vec![set("a", "1", 8, 8), set("b", "2", 5, 0)], false, vec![8, 0]),
        ("too large a newest set is cut", &rolling, vec![set("a", "1", 12, 12)], false, vec![10]),
        ("the old end before the new begin", &recreate, vec![set("a", "0", 10, 10)], true, vec![0]),
        ("they still end", &recreate, vec![Set { actual: 0, ..set("a", "0", 0, 0) }], true, vec![0]),
        ("they have ended", &recreate, vec![Set { actual: 0, ..set("a", "0", 0, 0) }], false, vec![0, 10]),
        ("nothing begins while it is paused", &paused, vec![sized(set("a", "0", 10, 10), 10, 13)], false, vec![10]),
        ("but it can be scaled", &paused, vec![sized(set("a", "0", 5, 5), 5, 8)], false, vec![10]),
        ("in proportion, to the surge", &rolling, vec![sized(set("a", "0", 5, 5), 5, 8), sized(set("b", "1", 3, 3), 5, 8)], false, vec![8, 5]),
        ("what is done takes all", &rolling, vec![sized(set("a", "0", 2, 2), 10, 13), sized(set("b", "1", 10, 10), 10, 13)], false, vec![0, 10]),
    ];
    for (why, spec, sets, running, expected) in cases {
        assert_eq!(
            sizes(&plan(&deployment(spec.clone()), sets, running)),
            expected,
            "{why}"
        );
    }
}

#[test]
fn kubernetes_example_of_proportional_scaling() {
    // From its docs: 10 replicas with a surge of 3 and 2 unavailable, in the middle of a bad rollout, become 15.
    let wanted = deployment(json!({"replicas": 15}));
    let sets = vec![
        sized(set("a", "0", 8, 8), 10, 13),
        sized(set("b", "1", 5, 0), 10, 13),
    ];
    assert_eq!(sizes(&plan(&wanted, sets, false)), [11, 7]);
    let sets = vec![
        sized(set("a", "0", 8, 8), 10, 13),
        sized(set("b", "1", 5, 0), 10, 13),
    ];
    let none = deployment(json!({"replicas": 0}));
    assert_eq!(sizes(&plan(&none, sets, false)), [0, 0]);
}

#[test]
fn revisions_are_counted_and_kept() {
    let mut wanted = deployment(json!({}));
    wanted.metadata.annotations = Some(
        [
            ("kept".to_owned(), "x".to_owned()),
            (
                "kubectl.kubernetes.io/last-applied-configuration".to_owned(),
                "{}".to_owned(),
            ),
            (REVISION.to_owned(), "1".to_owned()),
        ]
        .into(),
    );
    let first = plan(&wanted, vec![], false);
    assert_eq!(first.revision.as_deref(), Some("1"));
    let keys: Vec<_> = first.sets[0].annotations.keys().map(String::as_str).collect();
    assert_eq!(keys, [DESIRED, MOST, REVISION, "kept"]);

    // An undo: the template of revision 1 is the newest again.
    let old = revised(set("a", "1", 0, 0), "1");
    let bad = revised(set("b", "2", 10, 10), "2");
    let back = plan(&wanted, vec![old, bad], false);
    assert_eq!(back.revision.as_deref(), Some("3"));
    let again = back
        .sets
        .iter()
        .find(|set| &*set.name == "a")
        .expect("it is there");
    assert_eq!(again.annotations[REVISION], "3");
    assert_eq!(again.annotations[HISTORY], "1");

    // What history does not need goes once all is well; what is left of a rollout stays.
    let mut wanted = deployment(json!({"revisionHistoryLimit": 1}));
    let all = Some(10);
    wanted.status = Some(DeploymentStatus {
        replicas: all,
        updated_replicas: all,
        available_replicas: all,
        observed_generation: Some(1),
        ..DeploymentStatus::default()
    });
    let sets = vec![
        revised(set("a", "x", 0, 0), "1"),
        revised(
            Set {
                observed: false,
                ..set("b", "y", 0, 0)
            },
            "2",
        ),
        revised(set("c", "z", 0, 0), "3"),
        revised(set("d", "1", 10, 10), "4"),
    ];
    assert_eq!(plan(&wanted, sets, false).surplus, [0]);
}

#[test]
fn a_revision_is_rolled_back_to_when_an_annotation_asks() {
    let revisions = || {
        vec![
            revised(set("a", "1", 0, 0), "1"),
            revised(set("b", "2", 0, 0), "2"),
            revised(set("c", "3", 10, 10), "3"),
        ]
    };
    let alone = || vec![revised(set("c", "3", 10, 10), "1")];
    let unnumbered = || vec![set("a", "1", 0, 0), revised(set("c", "3", 10, 10), "1")];
    let done = |revision: i64| {
        format!("Normal DeploymentRollback Rolled back deployment \"web\" to revision {revision}")
    };
    let lost = |why: &str| format!("Warning DeploymentRollbackRevisionNotFound {why}");
    let unknown = || lost("Unable to find the revision to rollback to.");
    let same = "Warning DeploymentRollbackTemplateUnchanged The rollback revision contains the same template as \
                current deployment \"web\"";
    // The template that the Deployment has now, the sets, and what becomes of it: the place of the set, and what is told.
    #[rustfmt::skip]
    let cases = vec![
        ("a revision", "1", "3", revisions(), Some((Some(0), done(1)))),
        ("the one before the newest", "0", "3", revisions(), Some((Some(1), done(2)))),
        ("the one before a template that has no set yet", "0", "4", revisions(), Some((Some(2), done(3)))),
        ("that template itself", "4", "4", revisions(), Some((None, same.to_owned()))),
        ("the newest", "3", "3", revisions(), Some((None, same.to_owned()))),
        ("none that there is", "7", "3", revisions(), Some((None, unknown()))),
        ("none that there can be", "-1", "3", revisions(), Some((None, unknown()))),
        ("the one before the only one", "0", "3", alone(), Some((None, lost("Unable to find last revision.")))),
        ("the one before, without a number", "0", "3", unnumbered(), Some((None, lost("Unable to find last revision.")))),
        ("nothing", "", "3", revisions(), None),
        ("what is no number", "one", "3", revisions(), None),
    ];
    for (why, to, now, sets, expected) in cases {
        let mut wanted = deployment(json!({}));
        image(&mut wanted, now);
        wanted.metadata.annotations = Some([(ROLLBACK_TO.to_owned(), to.to_owned())].into());
        let before = sets.len();
        let decided = plan(&wanted, sets.clone(), false);
        let told = decided.rollback.as_ref().map(|rollback| {
            let note = &rollback.note;
            let text = format!("{:?} {} {}", note.severity, note.reason, note.message);
            (rollback.place, text)
        });
        assert_eq!(told, expected, "{why}");
        let scaled = decided.sets.iter().take(before).filter(|set| {
            let seen = set.place.map(|place| sets[place].replicas);
            seen != Some(set.replicas)
        });
        assert_eq!(scaled.count(), 0, "{why}: nothing else is done");

        // A pause puts it off.
        wanted.spec.as_mut().expect("a spec").paused = Some(true);
        assert_eq!(plan(&wanted, sets, false).rollback, None, "{why}");
    }
}

#[test]
fn what_is_rolled_back_is_the_template_and_the_annotations() {
    let mut wanted = deployment(
        json!({"template": {"metadata": {"labels": {"app": "web", "new": "x"}},
        "spec": {"containers": [{"name": "c", "image": "2"}], "hostNetwork": true}}}),
    );
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration";
    let annotations = [
        (ROLLBACK_TO, "1"),
        (REVISION, "2"),
        (last_applied, "{}"),
        ("cause", "2"),
        ("new", "x"),
    ];
    wanted.metadata.annotations = Some(
        annotations
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    let set = json!({"metadata": {"annotations": {REVISION: "1", DESIRED: "10", "cause": "1", "old": "y"}},
        "spec": {"selector": {}, "template": {"metadata": {"labels": {"app": "web", template::HASH: "h"}},
            "spec": {"containers": [{"name": "c", "image": "1"}], "hostPID": true}}}});
    let set = serde_json::from_value(set).expect("a ReplicaSet");
    let mut object = serde_json::to_value(&wanted).expect("an object");
    json_patch::merge(&mut object, &rollback::patch(&wanted, Some(&set)));
    assert_eq!(
        object["metadata"]["annotations"],
        json!({REVISION: "2", last_applied: "{}", "cause": "1", "old": "y"})
    );
    assert_eq!(
        object["spec"]["template"],
        json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "1"}], "hostPID": true}})
    );

    // If nothing is rolled back, the wish alone goes.
    let only = json!({"metadata": {"annotations": {ROLLBACK_TO: null}}});
    assert_eq!(rollback::patch(&wanted, None), only);
}

#[test]
fn progress_is_told() {
    let told = |deployment: &Deployment, sets: Vec<Set>| {
        let plan = plan(deployment, sets, false);
        let condition = find(&plan.status, "Progressing").cloned();
        let text = condition.map(|c| {
            [
                c.status,
                c.reason.unwrap_or_default(),
                c.message.unwrap_or_default(),
            ]
            .join(" ")
        });
        (
            text.unwrap_or_default(),
            plan.look_again.map(Timestamp::as_second),
        )
    };
    let mut wanted = deployment(json!({}));
    let (text, again) = told(&wanted, vec![]);
    assert!(
        text.starts_with("True NewReplicaSetCreated Created new replica set \"web-"),
        "{text}"
    );
    assert_eq!(again, Some(1601));
    let (text, _) = told(&wanted, vec![set("a", "1", 10, 4)]);
    assert_eq!(text, "True ReplicaSetUpdated ReplicaSet \"a\" is progressing.");
    let (text, again) = told(&wanted, vec![set("a", "1", 10, 10)]);
    assert_eq!(
        text,
        "True NewReplicaSetAvailable ReplicaSet \"a\" has successfully progressed."
    );
    assert_eq!(again, None);

    // Nothing has happened for as long as it may.
    let since = |seconds: i64, reason: &str, status: &str| {
        json!({"observedGeneration": 1, "replicas": 10, "updatedReplicas": 10, "readyReplicas": 4, "availableReplicas": 4,
            "conditions": [{"type": "Progressing", "status": status, "reason": reason, "message": "",
                "lastUpdateTime": at(seconds).to_string(), "lastTransitionTime": at(1).to_string()}]})
    };
    let status = |status: Value| Some(serde_json::from_value(status).expect("a status"));
    wanted.status = status(since(399, "ReplicaSetUpdated", "True"));
    let (text, again) = told(&wanted, vec![set("a", "1", 10, 4)]);
    assert_eq!(
        text,
        "False ProgressDeadlineExceeded ReplicaSet \"a\" has timed out progressing."
    );
    assert_eq!(again, None);
    wanted.status = status(since(500, "ReplicaSetUpdated", "True"));
    let (text, again) = told(&wanted, vec![set("a", "1", 10, 4)]);
    assert_eq!((text.as_str(), again), ("True ReplicaSetUpdated ", Some(1101)));

    // A pause stops the clock, and its end starts it anew.
    let mut paused = deployment(json!({"paused": true}));
    paused.status = wanted.status.clone();
    assert_eq!(
        told(&paused, vec![set("a", "1", 10, 4)]).0,
        "Unknown DeploymentPaused Deployment is paused"
    );
    wanted.status = status(since(1, "DeploymentPaused", "Unknown"));
    assert_eq!(
        told(&wanted, vec![set("a", "1", 10, 4)]).0,
        "Unknown DeploymentResumed Deployment is resumed"
    );

    let careless = deployment(json!({"progressDeadlineSeconds": i32::MAX}));
    assert_eq!(told(&careless, vec![set("a", "1", 10, 4)]).0, "");
}

/// A cluster in little: sets with pods, of which some are available.
struct Model {
    deployment: Deployment,
    sets: Vec<Set>,
    made: u8,
}

impl Model {
    fn wish(&self) -> Wish<'_> {
        Wish::of(&self.deployment, self.deployment.spec.as_ref().expect("a spec"))
    }

    /// How many pods are available once the sets' own controllers have deleted what they are to.
    fn available(&self) -> i32 {
        self.sets.iter().map(|set| set.available.min(set.replicas)).sum()
    }

    fn step(&mut self) {
        let wish = self.wish();
        let plan = decide(&wish, self.sets.clone(), |_| false, at(1000));
        self.deployment.status = Some(plan.status);
        let mut sets = plan.sets;
        for set in &mut sets {
            if set.place.take().is_none() {
                self.made += 1;
                set.uid = set.name.clone();
                set.created = at(i64::from(self.made));
                set.known = true;
            }
        }
        self.sets = sets;
    }

    /// The sets' own controllers make and delete pods; those that are not available go first.
    fn catch_up(&mut self) {
        for set in &mut self.sets {
            set.actual = set.replicas;
            set.available = set.available.min(set.replicas);
            set.ready = set.available;
            set.observed = true;
        }
    }

    /// So many pods become available, or break.
    fn change(&mut self, which: usize, by: i32) {
        let count = self.sets.len().max(1);
        if let Some(set) = self.sets.get_mut(which % count) {
            set.available = (set.available + by).clamp(0, set.actual);
            set.ready = set.available;
        }
    }
}

proptest! {
    /// *Never too many*, *never too few*, and *Done*: through updates, resizes and pods that break, and when they stop, an end.
    #[test]
    fn rollouts_keep_their_bounds_and_end(
        replicas in 1..30_i32, surge in 0..10_i32, unavailable in 0..10_i32,
        steps in prop::collection::vec((0..6_u8, 0..4_usize, 1..8_i32), 1..60),
    ) {
        let limits = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut model = Model { deployment: deployment(json!({"replicas": replicas, "strategy": limits})), sets: vec![], made: 0 };
        for (what, which, by) in steps {
            match what {
                0 => image(&mut model.deployment, &which.to_string()),
                1 => model.catch_up(),
                2 => model.change(which, -by),
                _ => model.change(which, by),
            }
            let (before, available) = (model.sets.clone(), model.available());
            model.step();
            let wish = model.wish();
            let total: i32 = model.sets.iter().map(|set| set.replicas).sum();
            prop_assert!(total <= replicas + wish.max_surge(), "never too many: {total}");
            // What is taken from sets may take available pods with it, as soon as the others do not suffice.
            let taken: i32 = model.sets.iter().map(|set| {
                let was = before.iter().find(|old| old.uid == set.uid).map_or(0, |old| old.replicas.min(old.available));
                (was - set.replicas).max(0)
            }).sum();
            let least = replicas - wish.max_unavailable();
            prop_assert!(taken == 0 || available - taken >= least, "never too few: {available} - {taken} < {least}");
        }
        for _ in 0..200 {
            model.catch_up();
            (0..model.sets.len()).for_each(|at| model.change(at, 1));
            model.step();
        }
        let status = model.deployment.status.clone().unwrap_or_default();
        prop_assert!(model.wish().is_complete(&status), "done: {status:?} {:?}", model.sets);
        let old = model.sets.iter().filter(|set| set.replicas > 0).count();
        prop_assert_eq!(old, 1);
    }
}
