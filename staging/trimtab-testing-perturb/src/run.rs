//! One run: the controller, its users, a plan, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use trimtab_testing_env::{
    Change, EnvError, History, State, TestEnv, World, differences, name_of, normalised,
};

use crate::journal::{Entry, What};
use crate::perturb::Perturb;
use crate::plan::{Fault, Plan};
use crate::processes::Processes;
use crate::scenario::{Action, Step};
use crate::wire::Shared;

/// Nothing may be changed for so long in the end.
const QUIET: Duration = Duration::from_secs(60);
/// More requests than that in a quiet minute, or writes without effect, are a loop that does not pause.
const MOST_REQUESTS: usize = 600;
const MOST_WRITES: usize = 60;
/// An object may be changed so often as in the run in which nothing goes wrong, and so often more; then it is fought over.
const TIMES_CHANGES: usize = 5;
const MORE_CHANGES: usize = 30;
/// What the controller is given before its users begin.
const START: Duration = Duration::from_secs(1);

/// What came of a run.
pub(crate) struct Run {
    pub(crate) journal: Vec<Entry>,
    /// What is there in the end, without what is different each time.
    pub(crate) state: State,
    pub(crate) orphans: BTreeSet<String>,
    /// How often each object was changed.
    pub(crate) changes: BTreeMap<String, usize>,
    /// What was planned and did not come to pass.
    pub(crate) due: Vec<Fault>,
    pub(crate) any_version: bool,
    /// What is wrong, first of all what came first.
    pub(crate) wrong: Vec<String>,
}

/// What a run is compared with: the end of the one in which nothing went wrong.
pub(crate) struct Expected<'a> {
    pub(crate) state: &'a State,
    pub(crate) orphans: &'a BTreeSet<String>,
    pub(crate) changes: &'a BTreeMap<String, usize>,
}

/// Runs on a runtime of its own, whose time is driven.
pub(crate) fn run(spec: &Perturb, plan: &Plan, expected: Option<Expected<'_>>) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(until_over(spec, plan, expected)),
        Err(error) => broken(format!("no runtime: {error}")),
    }
}

fn broken(why: String) -> Run {
    Run {
        journal: Vec::new(),
        state: State::new(),
        orphans: BTreeSet::new(),
        changes: BTreeMap::new(),
        due: Vec::new(),
        any_version: false,
        wrong: vec![why],
    }
}

async fn until_over(spec: &Perturb, plan: &Plan, expected: Option<Expected<'_>>) -> Run {
    let builder = TestEnv::builder().seed(spec.seed);
    let builder = spec
        .environment
        .iter()
        .fold(builder, |builder, make| make(builder));
    let mut env = match builder.start().await {
        Ok(env) => env,
        Err(error) => return broken(format!("the environment does not start: {error}")),
    };
    if let Err(error) = prepared(spec, &mut env).await {
        return broken(format!("the environment cannot be prepared: {error}"));
    }
    let history = env.history();
    let begun = history.len();
    let server = match &spec.user {
        Some(user) => env.client_as(user),
        None => env.client(),
    };
    let (shared, mut orders) = Shared::new(server, plan);
    let mut processes = Processes::new(spec.controller.clone(), shared.clone());
    let mut users = Users {
        spec,
        env: &env,
        shared: &shared,
        history: &history,
        begun,
        world: World::default(),
        seen: 0,
    };
    let ended = tokio::select! {
        biased;
        why = processes.run(&mut orders) => Err(why),
        ended = users.all(expected.as_ref()) => ended,
    };
    drop(processes);
    let changes = history.since(0);
    let mut wrong = Vec::from_iter(violated(spec, &changes, begun));
    wrong.extend(ended.err());
    let (state, orphans) = end(spec, &changes, begun);
    let mut often = BTreeMap::<String, usize>::new();
    for change in changes.iter().skip(begun).filter(|change| counts(&change.key)) {
        *often.entry(change.key.clone()).or_default() += 1;
    }
    if let Some(expected) = expected {
        let others = orphans.difference(expected.orphans);
        wrong.extend(others.map(|orphan| format!("Nothing left: {orphan}")));
        for (key, count) in &often {
            let usual = expected.changes.get(key).copied().unwrap_or_default();
            if *count > MORE_CHANGES + TIMES_CHANGES * usual {
                wrong.push(format!(
                    "Quiet: {key} was changed {count} times, and usually is {usual} times"
                ));
            }
        }
    }
    Run {
        journal: shared.journal(),
        state,
        orphans,
        changes: often,
        due: shared.due(),
        any_version: shared.any_version(),
        wrong,
    }
}

async fn prepared(spec: &Perturb, env: &mut TestEnv) -> Result<(), EnvError> {
    for definition in &spec.definitions {
        env.install_definition(definition()).await?;
    }
    for manifests in &spec.manifests {
        env.apply(manifests).await?;
    }
    for prepare in &spec.prepare {
        prepare(env).await?;
    }
    Ok(())
}

/// Plays the users of a run.
struct Users<'a> {
    spec: &'a Perturb,
    env: &'a TestEnv,
    shared: &'a Shared,
    history: &'a History,
    begun: usize,
    /// What there is, as far as it has been looked at.
    world: World,
    seen: usize,
}

impl Users<'_> {
    async fn all(&mut self, expected: Option<&Expected<'_>>) -> Result<(), String> {
        self.begin_step();
        sleep(START).await;
        for step in &self.spec.scenario.steps {
            self.begin_step();
            self.shared.note(0, What::Step(step.text.clone()));
            let done = timeout(self.spec.patience, self.step(step)).await;
            done.unwrap_or_else(|_| Err(format!("not so within {:?}", self.spec.patience)))
                .map_err(|why| format!("Progress: users cannot {}: {why}", step.text))?;
        }
        self.shared.note(0, What::Step("have done all".to_owned()));
        self.rest(expected).await
    }

    fn begin_step(&mut self) {
        self.catch_up();
        let last = self
            .history
            .since(self.seen.saturating_sub(1))
            .last()
            .map(|change| change.revision);
        self.shared.step(last.unwrap_or_default());
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.action {
            Action::Act(act) => act(self.env.client()).await,
            Action::Wait(pause) => {
                sleep(*pause).await;
                Ok(())
            }
            Action::Until(is) => loop {
                self.catch_up();
                if is(&self.world) {
                    return Ok(());
                }
                self.history.longer_than(self.seen).await;
            },
        }
    }

    fn catch_up(&mut self) {
        for change in self.history.since(self.seen) {
            self.world.apply(&change);
            self.seen += 1;
        }
    }

    /// *Converges* and *Quiet*: waits until nothing is changed for a while and all is as it should be.
    async fn rest(&self, expected: Option<&Expected<'_>>) -> Result<(), String> {
        let end_of_patience = Instant::now() + self.spec.patience;
        loop {
            let (changes, entries) = (self.history.len(), self.shared.journal().len());
            sleep(QUIET).await;
            let changed = self.history.since(changes);
            let changed: Vec<_> = changed.iter().filter(|change| counts(&change.key)).collect();
            let is_over = Instant::now() >= end_of_patience;
            // What is not as it should be says more than that something is changed still, as by a node that says that it lives.
            if is_over || changed.is_empty() {
                let differences = expected.map_or(Vec::new(), |expected| {
                    let (state, _) = end(self.spec, &self.history.since(0), self.begun);
                    difference(expected.state, &state)
                });
                if !differences.is_empty() {
                    if is_over {
                        return Err(format!("Converges: {}", differences.join("\n             ")));
                    }
                    continue;
                }
            }
            if let Some(change) = changed.last() {
                if is_over {
                    let text = format!(
                        "Quiet: after {:?} things are changed still, {} at the end",
                        self.spec.patience, change.key
                    );
                    return Err(text);
                }
                continue;
            }
            return self.is_calm(entries);
        }
    }

    /// *Quiet*, of what has no effect.
    fn is_calm(&self, entries: usize) -> Result<(), String> {
        let journal = self.shared.journal();
        let asked = journal[entries..].iter().filter_map(|entry| match &entry.what {
            What::Asked {
                point, aside: false, ..
            } => Some(point),
            _ => None,
        });
        let (mut all, mut writes) = (0, 0);
        for point in asked {
            all += 1;
            writes += usize::from(point.sort() == crate::point::Sort::Write);
        }
        if all > MOST_REQUESTS || writes > MOST_WRITES {
            return Err(format!(
                "Quiet: {writes} writes without effect, and {all} requests, in {QUIET:?} in which nothing changed"
            ));
        }
        Ok(())
    }
}

/// The first moment at which an invariant did not hold.
fn violated(spec: &Perturb, changes: &[Change], begun: usize) -> Option<String> {
    if spec.invariants.is_empty() {
        return None;
    }
    let mut world = World::default();
    for (number, change) in changes.iter().enumerate() {
        world.apply(change);
        if number < begun {
            continue;
        }
        for (name, holds) in &spec.invariants {
            if let Err(why) = holds(&world) {
                let is = change
                    .object()
                    .map_or("gone".to_owned(), |object| object.to_string());
                let (at, key) = (change.at.as_secs_f64(), &change.key);
                return Some(format!(
                    "Always: {name}: {why}\n  when, at {at:.3} s, {key} became: {is}"
                ));
            }
        }
    }
    None
}

/// Whether changes of the object count. What says how controllers are, and the server's own, do not.
fn counts(key: &str) -> bool {
    let aside = [
        "events/",
        "leases/",
        "flowschemas/",
        "prioritylevelconfigurations/",
        "ranges/",
    ];
    !aside.iter().any(|prefix| key.starts_with(prefix))
}

/// What is there of what has been changed, without what is different each time; and what should not be there in any case.
fn end(spec: &Perturb, changes: &[Change], begun: usize) -> (State, BTreeSet<String>) {
    let (mut first, mut world) = (BTreeMap::<&str, Value>::new(), World::default());
    for (number, change) in changes.iter().enumerate() {
        let before = world.apply(change);
        if number >= begun && counts(&change.key) {
            first.entry(&change.key).or_insert(before.unwrap_or_default());
        }
    }
    let changed = || first.keys().filter_map(|key| world.objects().get(*key));
    let orphans = orphans(&world, changed());
    // What is as it was, but for times perhaps, is as if nobody had changed it: the longer a run, the more often a node says that it
    // lives.
    let otherwise = first.iter().filter_map(|(key, before)| {
        let object = world.objects().get(*key)?;
        (before.is_null() || normalised([before]) != normalised([object])).then_some(object)
    });
    let mut state = normalised(otherwise);
    let gone = first
        .iter()
        .filter(|(key, before)| !before.is_null() && !world.objects().contains_key(**key));
    state.extend(gone.map(|(_, before)| (name_of(before), Value::Null)));
    for (kind, pointer) in &spec.differences {
        let prefix = format!("{kind} ");
        if pointer.is_empty() {
            state.retain(|name, _| !name.starts_with(&prefix));
        }
        let of_kind = state.iter_mut().filter(|(name, _)| name.starts_with(&prefix));
        of_kind.for_each(|(_, object)| remove(object, pointer));
    }
    (state, orphans)
}

fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, field)) = pointer.rsplit_once('/') else {
        return;
    };
    let field = field.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&field)),
        Some(Value::Array(items)) => {
            if let Some(at) = field.parse().ok().filter(|at| *at < items.len()) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

/// *Nothing left*: objects whose owners are all gone, or that wait to go.
fn orphans<'a>(world: &World, changed: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let uids: BTreeSet<&str> = world
        .objects()
        .values()
        .filter_map(|object| object["metadata"]["uid"].as_str())
        .collect();
    let mut orphans = BTreeSet::new();
    for object in changed {
        let metadata = &object["metadata"];
        let name = name_of(object);
        if let Some(owners) = metadata["ownerReferences"]
            .as_array()
            .filter(|owners| !owners.is_empty())
        {
            let lives = |owner: &Value| uids.contains(owner["uid"].as_str().unwrap_or_default());
            if !owners.iter().any(lives) {
                orphans.insert(format!("{name} is there, and all of its owners are gone"));
            }
        }
        if !metadata["deletionTimestamp"].is_null() {
            orphans.insert(format!(
                "{name} is deleted, and waits for {}",
                metadata["finalizers"]
            ));
        }
    }
    orphans
}

/// How two states differ.
pub(crate) fn difference(expected: &State, is: &State) -> Vec<String> {
    let names: BTreeSet<&String> = expected.keys().chain(is.keys()).collect();
    let mut lines = Vec::new();
    for name in names {
        match (expected.get(name), is.get(name)) {
            (Some(expected), Some(is)) => {
                lines.extend(
                    differences(expected, is)
                        .into_iter()
                        .map(|line| format!("{name} {line}")),
                );
            }
            (Some(_), None) => lines.push(format!("{name} should be there, and is not")),
            (None, Some(_)) => lines.push(format!("{name} should not be there, and is")),
            (None, None) => {}
        }
    }
    lines
}
