//! One run: traffic on one side, informers behind faults on the other, and what was recorded of it in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use trimtab::apimachinery::ObjectKey;
use trimtab::client::cache::Form;

use crate::faults::{Control, Faults, Weather};
use crate::history::{InformerMeta, Log, Report, What};
use crate::informers::{How, Informer, Watched, selection, selectors};
use crate::model::{Scope, Tier};
use crate::recorder::{Recorder, named};
use crate::traffic::{LEFT_OUT, Writer, finish, pause};
use crate::world::World;

/// How many write at the same time, and which part of the steps is theirs.
const WRITERS: u64 = 3;
/// The most handlers of one informer.
const HANDLERS: usize = 8;
/// How long it may take until everybody has caught up once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(600);

/// An informer to be started, and started again.
#[derive(Clone)]
struct Wanted {
    meta: InformerMeta,
    form: Form,
}

struct Run<'w> {
    world: &'w World,
    log: Log,
    rng: fastrand::Rng,
    weather: Weather,
    control: Arc<Control>,
    recorder: Recorder,
    metas: Vec<InformerMeta>,
    informers: Vec<(Wanted, Box<dyn Informer>)>,
    handlers: usize,
}

/// Runs so many steps.
///
/// # Errors
/// Something else than the cache failed: a request that nothing disturbed, or the server's own watch.
pub(crate) async fn run(world: &World, seed: u64, steps: u64) -> Result<Report, String> {
    // The informers' own jitter.
    fastrand::seed(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut run = Run {
        world,
        log: Log::default(),
        weather: Weather::of(&mut rng),
        control: Control::new(),
        recorder: Recorder::start(world.client.clone()).await?,
        rng,
        metas: Vec::new(),
        informers: Vec::new(),
        handlers: 0,
    };
    for wanted in wanted(&world.namespaces) {
        run.start(wanted);
    }
    let writers = (0..WRITERS).map(|_| {
        let writer = Writer::new(world, run.log.clone(), run.rng.fork());
        writer.write(steps / (WRITERS + 1))
    });
    let writers: Vec<_> = writers.collect();
    let left = steps - WRITERS * (steps / (WRITERS + 1));
    futures::try_join!(try_join_all(writers), run.direct(left))?;
    run.settle().await?;
    let (entries, acknowledged) = run.log.finish();
    Ok(Report {
        seed,
        steps,
        informers: run.metas,
        entries,
        model: run.recorder.model(),
        acknowledged,
    })
}

/// All kinds of informers: typed and compact, of everything and of selections, of one namespace and of several, of
/// metadata.
fn wanted(namespaces: &[String]) -> Vec<Wanted> {
    let scope = |namespaces: &[String], tier, not_named| Scope {
        namespaces: namespaces.to_vec(),
        tier,
        not_named,
    };
    let (compact, typed) = (Form::Compact { hot: 2 }, Form::Typed);
    let all = [
        ("all, typed", Scope::all(), typed, false),
        ("tier a, compact", scope(&[], Tier::Is("a"), None), compact, false),
        (
            "one namespace, compact",
            scope(&namespaces[..1], Tier::Any, None),
            compact,
            false,
        ),
        (
            "tier a of two namespaces, typed",
            scope(&namespaces[..2], Tier::Is("a"), None),
            typed,
            false,
        ),
        (
            "metadata of all but one name, compact",
            scope(&[], Tier::Any, Some(LEFT_OUT)),
            compact,
            true,
        ),
        (
            "metadata of two namespaces but tier a, typed",
            scope(&namespaces[1..], Tier::IsNot("a"), None),
            typed,
            true,
        ),
    ];
    let named = |(name, scope, form, metadata_only): (&str, _, _, _)| Wanted {
        meta: InformerMeta {
            name: name.to_owned(),
            scope,
            metadata_only,
        },
        form,
    };
    all.into_iter().map(named).collect()
}

impl Run<'_> {
    fn start(&mut self, wanted: Wanted) {
        let id = self.metas.len();
        self.metas.push(wanted.meta.clone());
        let (log, world) = (self.log.clone(), self.world);
        let config = world.config(&mut self.rng);
        let faults = Faults::new(
            world.client.clone(),
            id,
            log.clone(),
            world.pace,
            self.weather.clone(),
            self.control.clone(),
            self.rng.fork(),
        );
        let (client, selection) = (faults.client(), selection(&wanted.meta.scope, wanted.form));
        let mut informer: Box<dyn Informer> = if wanted.meta.metadata_only {
            Box::new(Watched::<PartialObjectMeta<ConfigMap>>::start(
                id, log, client, selection, &config,
            ))
        } else {
            Box::new(Watched::<ConfigMap>::start(id, log, client, selection, &config))
        };
        for how in [How::Prompt, How::Slow, How::SlowResynced, How::Stuck] {
            informer.join(self.handlers, how);
            self.handlers += 1;
        }
        self.informers.push((wanted, informer));
    }

    /// What happens beside the writes.
    async fn direct(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.log.step();
            let one = self.rng.usize(..self.informers.len());
            match self.rng.u8(..100) {
                0..40 => self.informers.iter().for_each(|(_, informer)| informer.look()),
                40..75 => self.take(),
                75..83 => self.join(one),
                83..90 => self.leave(one).await,
                90..94 => self.control.cut(),
                94..99 => self.compact().await?,
                _ => self.restart(one),
            }
            // As writers do, so that none of them is done long before the others.
            sleep(pause(&mut self.rng, self.world.pace)).await;
        }
        Ok(())
    }

    /// Takes a little for each slow handler, or more.
    fn take(&mut self) {
        for (_, informer) in &mut self.informers {
            for (handler, _) in informer.handlers().into_iter().filter(|(_, how)| how.is_slow()) {
                let most = [3, 10, 30][self.rng.usize(..3)];
                informer.take(handler, self.rng.usize(1..most));
            }
        }
    }

    fn join(&mut self, one: usize) {
        let informer = &mut self.informers[one].1;
        if informer.handlers().len() < HANDLERS {
            let how = How::ALL[self.rng.usize(..How::ALL.len())];
            informer.join(self.handlers, how);
            self.handlers += 1;
        }
    }

    async fn leave(&mut self, one: usize) {
        let informer = &mut self.informers[one].1;
        if let Some((handler, _)) = self.rng.choice(informer.handlers()) {
            informer.leave(handler, self.rng.bool()).await;
        }
    }

    /// Ends an informer and starts another of its kind.
    fn restart(&mut self, one: usize) {
        let (wanted, informer) = self.informers.swap_remove(one);
        informer.end();
        self.start(wanted);
    }

    /// The witness must not lose what the server forgets.
    async fn compact(&mut self) -> Result<(), String> {
        let known = self.recorder.version();
        self.world.compact(known.saturating_sub(self.rng.u64(..5))).await;
        Ok(())
    }

    /// Nothing goes wrong any more, and everybody takes what there is.
    async fn settle(&mut self) -> Result<(), String> {
        self.control.calm();
        let last = finish(self.world, &self.log).await?;
        let last = last.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let newest = last
            .iter()
            .map(|(_, mark)| mark.version)
            .max()
            .unwrap_or_default();
        self.recorder.reached(newest).await?;
        let model = self.recorder.model();
        for (wanted, informer) in &self.informers {
            let scope = &wanted.meta.scope;
            let is = model.at(newest, scope);
            let awaited = last.iter().filter(|(key, _)| is.contains_key(key));
            let all = join_all(awaited.map(|(key, mark)| informer.has(key.clone(), mark.version)));
            let in_time = timeout(PATIENCE, all).await;
            let seen = in_time
                .map_err(|_| format!("{} has not caught up: {}", wanted.meta.name, informer.status()))?;
            seen.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        let mut changes = self.log.changes();
        let idle = async {
            while self.informers.iter().any(|(_, informer)| informer.backlog() > 0) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        timeout(PATIENCE, idle)
            .await
            .map_err(|_| "handlers are not called with what waits for them")?;
        // A handler that lets others run asks for more, and so says that it is done, only then.
        sleep(Duration::from_millis(1)).await;
        for (wanted, informer) in &mut self.informers {
            // Nothing can be taken for those that are called.
            for (handler, _) in informer.handlers() {
                informer.take(handler, usize::MAX);
            }
            informer.look();
            let stored = informer.contents()?;
            let server = fresh(self.world, &wanted.meta).await?;
            let id = informer.id();
            self.log.note(id, What::End { server, stored });
        }
        Ok(())
    }
}

/// What the server has, asked with nothing in between.
async fn fresh(world: &World, meta: &InformerMeta) -> Result<BTreeMap<ObjectKey, Value>, String> {
    let mut all = BTreeMap::new();
    for part in meta.scope.parts() {
        let (labels, fields) = selectors(&part);
        let path = match part.namespaces.first() {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/configmaps"),
            None => "/api/v1/configmaps".to_owned(),
        };
        let encoded = |selector: String| selector.replace('!', "%21").replace('=', "%3D");
        let uri = format!(
            "{path}?labelSelector={}&fieldSelector={}",
            encoded(labels),
            encoded(fields)
        );
        let request = Request::get(uri).body(Vec::new()).map_err(|e| e.to_string())?;
        let list: Value = world.client.request(request).await.map_err(|e| e.to_string())?;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
            let key = ObjectKey::namespaced(text("namespace"), text("name"));
            all.insert(key, item.clone());
        }
    }
    Ok(all)
}
