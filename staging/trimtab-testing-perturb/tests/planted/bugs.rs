//! The controllers. Each takes whether it has its bug.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use trimtab_testing_perturb::{Perturb, Scenario};

use crate::mini::{AtExpiry, Hands, Kind, OF, Result, Seen, Toy, ToySpec, api, control, inform};

/// A kind of bug.
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// What is wrong with a run in which it shows.
    pub(crate) clause: &'static str,
    pub(crate) test: fn(bool) -> Perturb,
}

pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "leaks_what_it_made_before_a_crash",
        clause: "Converges",
        test: leaks,
    },
    Bug {
        name: "makes_it_again_when_the_answer_is_lost",
        clause: "Converges",
        test: makes_again,
    },
    Bug {
        name: "stops_at_what_exists_already",
        clause: "Progress",
        test: stops_at_existing,
    },
    Bug {
        name: "does_the_second_step_only_after_the_first",
        clause: "Progress",
        test: second_step,
    },
    Bug {
        name: "lets_go_before_it_has_cleaned_up",
        clause: "Converges",
        test: lets_go,
    },
    Bug {
        name: "relies_on_a_delete_event",
        clause: "Converges",
        test: delete_event,
    },
    Bug {
        name: "counts_by_events",
        clause: "Converges",
        test: counts,
    },
    Bug {
        name: "acts_on_differences",
        clause: "Progress",
        test: differences,
    },
    Bug {
        name: "deletes_what_its_cache_does_not_know",
        clause: "Converges",
        test: deletes_unknown,
    },
    Bug {
        name: "overwrites_with_old_data",
        clause: "Converges",
        test: overwrites,
    },
    Bug {
        name: "retries_a_conflict_with_old_data_at_once",
        clause: "Quiet",
        test: retries_at_once,
    },
    Bug {
        name: "forgets_what_failed",
        clause: "Progress",
        test: forgets,
    },
    Bug {
        name: "does_not_list_anew",
        clause: "Progress",
        test: deaf,
    },
    Bug {
        name: "gives_a_number_twice",
        clause: "Always: numbers are unique",
        test: numbers,
    },
    Bug {
        name: "fights_over_a_field",
        clause: "Quiet",
        test: fights,
    },
];

// === what they have in common ===

fn toy(name: &str, size: u32) -> Toy {
    Toy::new(name, ToySpec { size })
}

fn child(toy: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(OF.to_owned(), toy.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

fn owned(toy: &Toy, name: &str) -> ObjectMeta {
    ObjectMeta {
        owner_references: toy.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..child(&toy.name_any(), name)
    }
}

fn map(metadata: ObjectMeta, data: &[(&str, String)]) -> ConfigMap {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    ConfigMap {
        metadata,
        data: Some(data.collect()),
        ..ConfigMap::default()
    }
}

fn secret(metadata: ObjectMeta) -> Secret {
    Secret {
        metadata,
        ..Secret::default()
    }
}

/// Creates, and takes one that is there for its own.
async fn ensure<K: Kind>(hands: &Hands, object: &K) -> Result {
    match hands.api::<K>().create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => created.map(drop),
    }
}

async fn remove<K: Kind>(hands: &Hands, name: &str) -> Result {
    match hands.api::<K>().delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop),
    }
}

async fn say_size(hands: &Hands, toy: &Toy) -> Result {
    if toy.status.as_ref().and_then(|status| status.size) == Some(toy.spec.size) {
        return Ok(());
    }
    let patch = json!({"status": {"size": toy.spec.size}});
    let api = hands.api::<Toy>();
    match api
        .patch_status(&toy.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        patched => patched.map(drop),
    }
}

/// A test of a controller that is called with the names of Toys.
fn of<F>(
    reconcile: impl Fn(Hands, String) -> F + Clone + Send + Sync + 'static,
    steps: fn(Scenario) -> Scenario,
) -> Perturb
where
    F: Future<Output = Result> + Send + 'static,
{
    Perturb::new(move |client, _| control(client, true, reconcile.clone()))
        .crd::<Toy>()
        .scenario(steps)
}

/// A Toy comes, and says its size.
fn one(steps: Scenario) -> Scenario {
    steps
        .create(toy("a", 1))
        .until("it says its size", |world| size_of(world, "a") == Some(1))
}

fn size_of(world: &trimtab_testing_env::World, name: &str) -> Option<u32> {
    world.get::<Toy>("default", name)?.status?.size
}

// === intermediate states ===

/// It makes a Secret of a generated name and writes the name down afterwards.
fn leaks(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        if toy.status.as_ref().is_some_and(|status| status.secret.is_some()) {
            return Ok(());
        }
        let made = if bug {
            let metadata = ObjectMeta {
                name: None,
                generate_name: Some(format!("{name}-")),
                ..owned(&toy, "")
            };
            hands
                .api::<Secret>()
                .create(&PostParams::default(), &secret(metadata))
                .await?
                .name_any()
        } else {
            let fixed = format!("{name}-key");
            ensure(&hands, &secret(owned(&toy, &fixed))).await?;
            fixed
        };
        let patch = json!({"status": {"secret": made}});
        let api = hands.api::<Toy>();
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
    };
    of(reconcile, |steps| {
        let has_key = |world: &trimtab_testing_env::World| {
            let toy = world.get::<Toy>("default", "a");
            toy.and_then(|toy| toy.status)
                .is_some_and(|status| status.secret.is_some())
        };
        steps.create(toy("a", 1)).until("it has a key", has_key)
    })
}

/// It makes as many Secrets as it does not see, and takes a lost answer for one that was not made.
fn makes_again(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        let has = |secret: &Secret| secret.labels().get(OF) == Some(&name);
        if hands.secrets.all().iter().any(has) {
            return say_size(&hands, &toy).await;
        }
        for _ in 0..3 {
            let metadata = match bug {
                true => ObjectMeta {
                    name: None,
                    generate_name: Some(format!("{name}-")),
                    ..owned(&toy, "")
                },
                false => owned(&toy, &format!("{name}-key")),
            };
            match hands
                .api::<Secret>()
                .create(&PostParams::default(), &secret(metadata))
                .await
            {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
                Err(_) => {}
            }
        }
        Ok(())
    };
    of(reconcile, one)
}

/// It takes it for an error that what it is about to make is there.
fn stops_at_existing(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        if toy.status.as_ref().is_some_and(|status| status.size.is_some()) {
            return Ok(());
        }
        let object = secret(owned(&toy, &format!("{name}-key")));
        match bug {
            true => drop(
                hands
                    .api::<Secret>()
                    .create(&PostParams::default(), &object)
                    .await?,
            ),
            false => ensure(&hands, &object).await?,
        }
        say_size(&hands, &toy).await
    };
    of(reconcile, one)
}

/// It makes the second child only when it has just made the first.
fn second_step(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        let first = format!("{name}-first");
        let made = hands.maps.get(&first).is_none();
        if made {
            ensure(&hands, &map(owned(&toy, &first), &[])).await?;
        }
        if made || !bug {
            let second = format!("{name}-second");
            if hands.maps.get(&second).is_none() {
                ensure(&hands, &map(owned(&toy, &second), &[])).await?;
            }
        }
        Ok(())
    };
    of(reconcile, |steps| {
        let both = |world: &trimtab_testing_env::World| {
            let there = |name| world.get::<ConfigMap>("default", name).is_some();
            there("a-first") && there("a-second")
        };
        steps.create(toy("a", 1)).until("both are there", both)
    })
}

/// It gives up its finalizer, and then cleans up.
fn lets_go(bug: bool) -> Perturb {
    const FINALIZER: &str = "example.com/toys";
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        let made = format!("made-for-{name}");
        let finalizers = |finalizers: &[&str]| {
            Patch::Merge(
                json!({"metadata": {"finalizers": finalizers, "resourceVersion": toy.resource_version()}}),
            )
        };
        let api = hands.api::<Toy>();
        if toy.metadata.deletion_timestamp.is_some() {
            if bug {
                api.patch(&name, &PatchParams::default(), &finalizers(&[]))
                    .await?;
                return remove::<ConfigMap>(&hands, &made).await;
            }
            remove::<ConfigMap>(&hands, &made).await?;
            return api
                .patch(&name, &PatchParams::default(), &finalizers(&[]))
                .await
                .map(drop);
        }
        if toy.finalizers().is_empty() {
            api.patch(&name, &PatchParams::default(), &finalizers(&[FINALIZER]))
                .await?;
            return Ok(()); // it comes again
        }
        // Owned as well: what a process sends that hangs may arrive when all has been cleaned up.
        let metadata = if bug {
            child(&name, &made)
        } else {
            owned(&toy, &made)
        };
        ensure(&hands, &map(metadata, &[])).await
    };
    of(reconcile, |steps| {
        steps
            .create(toy("a", 1))
            .until("it is made", |world| {
                world.get::<ConfigMap>("default", "made-for-a").is_some()
            })
            .delete::<Toy>("a")
            .until("it is gone", |world| world.count::<Toy>() == 0)
    })
}

// === unobserved states ===

/// It cleans up when it is told that a Toy is gone.
fn delete_event(bug: bool) -> Perturb {
    let controller = move |client: Client| async move {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let told = inform::<Toy>(client.clone(), AtExpiry::ListAnew, move |seen| {
            let _closed = send.send(seen);
        });
        let work = async {
            while let Some(seen) = receive.recv().await {
                let (there, gone) = match seen {
                    Seen::Listed(toys) => (toys, None),
                    Seen::Applied(toy) => (vec![toy], None),
                    Seen::Deleted(toy) => (Vec::new(), Some(toy)),
                };
                for toy in there {
                    let name = format!("made-for-{}", toy.name_any());
                    let metadata = if bug {
                        child(&toy.name_any(), &name)
                    } else {
                        owned(&toy, &name)
                    };
                    while let Err(error) = api::<ConfigMap>(&client)
                        .create(&PostParams::default(), &map(metadata.clone(), &[]))
                        .await
                    {
                        if matches!(&error, kube::Error::Api(status) if status.is_already_exists()) {
                            break;
                        }
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
                if let Some(toy) = gone.filter(|_| bug) {
                    let name = format!("made-for-{}", toy.name_any());
                    while let Err(error) = api::<ConfigMap>(&client)
                        .delete(&name, &DeleteParams::default())
                        .await
                    {
                        if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                            break;
                        }
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
            }
        };
        futures::join!(told, work);
    };
    Perturb::new(move |client, _| {
        let runs = controller(client);
        async move {
            runs.await;
            Ok::<_, Infallible>(())
        }
    })
    .crd::<Toy>()
    .scenario(|steps| {
        steps
            .create(toy("a", 1))
            .until("it is made", |world| {
                world.get::<ConfigMap>("default", "made-for-a").is_some()
            })
            .delete::<Toy>("a")
            .until("it is gone", |world| world.count::<Toy>() == 0)
    })
}

/// It counts Toys by what it is told.
fn counts(bug: bool) -> Perturb {
    let controller = move |client: Client| async move {
        let (send, mut receive) = tokio::sync::watch::channel(0_i64);
        let known = Mutex::new(BTreeSet::new());
        let told = inform::<Toy>(client.clone(), AtExpiry::ListAnew, move |seen| {
            let mut known = known.lock();
            let by_events = match seen {
                Seen::Listed(toys) => {
                    let count = toys.len();
                    if !bug {
                        known.clear();
                    }
                    known.extend(toys.iter().map(|toy| toy.name_any()));
                    i64::try_from(count).unwrap_or_default()
                }
                Seen::Applied(toy) => i64::from(known.insert(toy.name_any())),
                Seen::Deleted(toy) => -i64::from(known.remove(&toy.name_any())),
            };
            let by_state = i64::try_from(known.len()).unwrap_or_default();
            send.send_modify(|count| *count = if bug { *count + by_events } else { by_state });
        });
        let work = async {
            loop {
                let count = *receive.borrow_and_update();
                let counted = map(child("", "count"), &[("toys", count.to_string())]);
                let params = PatchParams::apply("counter").force();
                let mut counted = serde_json::to_value(counted).unwrap_or_default();
                counted["apiVersion"] = "v1".into();
                counted["kind"] = "ConfigMap".into();
                if api::<ConfigMap>(&client)
                    .patch("count", &params, &Patch::Apply(counted))
                    .await
                    .is_err()
                {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    continue;
                }
                // What it has written may be undone, as by a process that hung: done right, it looks at it now and then.
                let again = async {
                    tokio::time::sleep(std::time::Duration::from_secs(if bug {
                        u32::MAX.into()
                    } else {
                        120
                    }))
                    .await;
                };
                tokio::select! {
                    biased;
                    changed = receive.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    () = again => {}
                }
            }
        };
        futures::join!(told, work);
    };
    Perturb::new(move |client, _| {
        let runs = controller(client);
        async move {
            runs.await;
            Ok::<_, Infallible>(())
        }
    })
    .crd::<Toy>()
    .scenario(|steps| {
        let pause = std::time::Duration::from_secs(5);
        steps
            .create(toy("a", 1))
            .wait(pause)
            .create(toy("b", 1))
            .wait(pause)
            .create(toy("c", 1))
            .wait(pause)
            .delete::<Toy>("b")
    })
}

/// It makes what a Toy has become larger by.
fn differences(bug: bool) -> Perturb {
    Perturb::new(move |client, _| {
        let sizes = Arc::new(Mutex::new(std::collections::BTreeMap::<String, u32>::new()));
        control(client, true, move |hands: Hands, name: String| {
            let sizes = sizes.clone();
            async move {
                let Some(toy) = hands.toys.get(&name) else {
                    return Ok(());
                };
                let before = sizes.lock().get(&name).copied();
                let from = match before {
                    Some(before) if bug => before,
                    // What was there when it started has been seen to.
                    None if bug && toy.status.is_some() => toy.spec.size,
                    _ => 0,
                };
                for number in from..toy.spec.size {
                    ensure(&hands, &map(owned(&toy, &format!("{name}-{number}")), &[])).await?;
                }
                sizes.lock().insert(name.clone(), toy.spec.size);
                say_size(&hands, &toy).await
            }
        })
    })
    .crd::<Toy>()
    .scenario(|steps| {
        one(steps)
            .edit::<Toy>("a", |toy| toy.spec.size = 3)
            .until("there are three", |world| {
                world.get::<ConfigMap>("default", "a-2").is_some()
            })
    })
}

/// It deletes Secrets of Toys that it does not see.
fn deletes_unknown(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        if let Some(toy) = hands.toys.get(&name) {
            return say_size(&hands, &toy).await;
        }
        let of_toy = |secret: &Secret| secret.labels().get(OF) == Some(&name);
        for secret in hands.secrets.all().into_iter().filter(of_toy) {
            if !bug && hands.api::<Toy>().get_opt(&name).await?.is_some() {
                continue;
            }
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.uid(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match hands.api::<Secret>().delete(&secret.name_any(), &params).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                deleted => drop(deleted?),
            }
        }
        Ok(())
    };
    of(reconcile, |steps| {
        let given = secret(child("a", "given-by-its-user"));
        steps
            .create(toy("a", 1))
            .create(given)
            .until("it says its size", |world| size_of(world, "a") == Some(1))
    })
}

// === stale states ===

/// It writes a whole Toy as it has it in its cache.
fn overwrites(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(mut toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        let of_toy = |map: &ConfigMap| map.labels().get(OF) == Some(&name);
        let count = hands.maps.all().into_iter().filter(of_toy).count().to_string();
        let annotations = toy.annotations_mut();
        if annotations.insert("example.com/maps".to_owned(), count.clone()) == Some(count) {
            return Ok(());
        }
        let api = hands.api::<Toy>();
        let written = if bug {
            toy.metadata.resource_version = None; // so that there are no conflicts
            toy.metadata.managed_fields = None;
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&toy))
                .await
        } else {
            api.replace(&name, &PostParams::default(), &toy).await
        };
        match written {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            written => written.map(drop),
        }
    };
    of(reconcile, |steps| {
        let counted = |count: &'static str| {
            move |world: &trimtab_testing_env::World| {
                let toy = world.get::<Toy>("default", "a");
                toy.is_some_and(|toy| {
                    toy.spec.size == 2
                        && toy
                            .annotations()
                            .get("example.com/maps")
                            .is_some_and(|is| is == count)
                })
            }
        };
        steps
            .create(toy("a", 1))
            .wait(std::time::Duration::from_secs(5))
            .edit::<Toy>("a", |toy| toy.spec.size = 2)
            .create(map(child("a", "one"), &[]))
            .until("it is counted, and has its size", counted("1"))
    })
}

/// When somebody else was quicker, it tries again with what it has.
fn retries_at_once(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(mut toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        let of_toy = |map: &ConfigMap| map.labels().get(OF) == Some(&name);
        let count = hands.maps.all().into_iter().filter(of_toy).count().to_string();
        if toy
            .annotations_mut()
            .insert("example.com/maps".to_owned(), count.clone())
            == Some(count)
        {
            return Ok(());
        }
        loop {
            match hands
                .api::<Toy>()
                .replace(&name, &PostParams::default(), &toy)
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 && bug => {}
                replaced => return replaced.map(drop),
            }
        }
    };
    of(reconcile, |steps| {
        let counted = |world: &trimtab_testing_env::World| {
            let toy = world.get::<Toy>("default", "a");
            toy.is_some_and(|toy| {
                toy.annotations()
                    .get("example.com/maps")
                    .is_some_and(|is| is == "1")
            })
        };
        steps
            .create(toy("a", 1))
            .wait(std::time::Duration::from_secs(5))
            .edit::<Toy>("a", |toy| toy.spec.size = 2)
            .create(map(child("a", "one"), &[]))
            .until("it is counted", counted)
    })
}

// === a faulty API ===

/// What has failed is not done again before something else happens.
fn forgets(bug: bool) -> Perturb {
    let reconcile = |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        say_size(&hands, &toy).await
    };
    Perturb::new(move |client, _| control(client, !bug, reconcile))
        .crd::<Toy>()
        .scenario(one)
}

/// A watch that cannot be resumed leaves it deaf.
fn deaf(bug: bool) -> Perturb {
    let at_expiry = if bug { AtExpiry::GoOn } else { AtExpiry::ListAnew };
    Perturb::new(move |client: Client, _| async move {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let told = inform::<Toy>(client.clone(), at_expiry, move |seen| {
            let toys = match seen {
                Seen::Listed(toys) => toys,
                Seen::Applied(toy) => vec![toy],
                Seen::Deleted(_) => Vec::new(),
            };
            for toy in toys {
                let _closed = send.send(toy);
            }
        });
        let work = async {
            while let Some(toy) = receive.recv().await {
                let patch = json!({"status": {"size": toy.spec.size}});
                let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
                while api::<Toy>(&client)
                    .patch_status(&toy.name_any(), &params, &patch)
                    .await
                    .is_err()
                {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        };
        futures::join!(told, work);
        Ok::<_, Infallible>(())
    })
    .crd::<Toy>()
    .scenario(one)
}

// === two at once ===

/// It takes the first number that it does not see in use.
fn numbers(bug: bool) -> Perturb {
    let reconcile = move |hands: Hands, name: String| async move {
        let Some(toy) = hands.toys.get(&name) else {
            return Ok(());
        };
        if toy.status.as_ref().is_some_and(|status| status.size.is_some()) {
            return Ok(());
        }
        let toys = hands.toys.all();
        let mine = |map: &ConfigMap| map.labels().get(OF) == Some(&name);
        let used: BTreeSet<u32> = match bug {
            true => toys.iter().filter_map(|toy| toy.status.as_ref()?.size).collect(),
            false => hands
                .maps
                .all()
                .iter()
                .filter(|map| !mine(map))
                .filter_map(number_of)
                .collect(),
        };
        let held = hands
            .maps
            .all()
            .iter()
            .filter(|map| mine(map))
            .find_map(number_of);
        let number = held
            .or_else(|| (1..).find(|number| !used.contains(number)))
            .unwrap_or_default();
        if !bug && held.is_none() {
            // Whoever makes it has the number: of two one is refused, and begins again.
            let object = map(owned(&toy, &format!("number-{number}")), &[]);
            hands
                .api::<ConfigMap>()
                .create(&PostParams::default(), &object)
                .await?;
        }
        let patch =
            json!({"metadata": {"resourceVersion": toy.resource_version()}, "status": {"size": number}});
        let api = hands.api::<Toy>();
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
    };
    of(reconcile, |steps| {
        let pause = std::time::Duration::from_secs(5);
        let both = |world: &trimtab_testing_env::World| {
            size_of(world, "a").is_some() && size_of(world, "b").is_some()
        };
        steps
            .create(toy("a", 0))
            .wait(pause)
            .create(toy("b", 0))
            .until("both have a number", both)
    })
    .always("numbers are unique", |world| {
        let numbers: Vec<u32> = world
            .list::<Toy>()
            .into_iter()
            .filter_map(|toy| toy.status?.size)
            .collect();
        numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len()
    })
    // Which of the two gets which is a matter of chance.
    .may_differ("Toy", "/status/size")
    .may_differ("ConfigMap", "")
}

fn number_of(map: &ConfigMap) -> Option<u32> {
    map.name_any().strip_prefix("number-")?.parse().ok()
}

/// Each process wants its own name in a field.
fn fights(bug: bool) -> Perturb {
    static PROCESSES: AtomicU32 = AtomicU32::new(0);
    Perturb::new(move |client, _| {
        let process = if bug {
            PROCESSES.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let me = format!("process-{process}");
        control(client, true, move |hands: Hands, name: String| {
            let me = me.clone();
            async move {
                let Some(toy) = hands.toys.get(&name) else {
                    return Ok(());
                };
                if toy.annotations().get("example.com/by") == Some(&me) {
                    return Ok(());
                }
                let patch = json!({"metadata": {"annotations": {"example.com/by": me}}});
                let api = hands.api::<Toy>();
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .map(drop)
            }
        })
    })
    .crd::<Toy>()
    .scenario(|steps| {
        let has_name = |world: &trimtab_testing_env::World| {
            let toy = world.get::<Toy>("default", "a");
            toy.is_some_and(|toy| toy.annotations().contains_key("example.com/by"))
        };
        steps.create(toy("a", 1)).until("it has a name", has_name)
    })
    .may_differ("Toy", "/metadata/annotations/example.com~1by")
}
