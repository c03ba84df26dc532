//! Runs a Kubernetes controller through the faults that break controllers, inside a unit test.
//!
//! Depend on the facade `trimtab-testing` instead of this crate, with the feature `perturb`; its paths are the stable ones.
//!
//! # The first test
//!
//! It runs in under a second, built for debugging; this very text is compiled and run by `cargo test --doc`.
//!
//! ```
//! use std::time::Duration;
//!
//! use k8s_openapi::api::core::v1::{ConfigMap, Secret};
//! use kube::api::{Api, ListParams, PostParams};
//! use kube::{Client, Resource as _};
//! # mod trimtab_testing { pub mod perturb { pub use trimtab_testing_perturb::*; } }
//! use trimtab_testing::perturb::Perturb;
//!
//! /// Keeps a Secret for each ConfigMap.
//! async fn controller(client: Client) -> Result<(), kube::Error> {
//!     let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
//!     let secrets: Api<Secret> = Api::default_namespaced(client);
//!     loop {
//!         for map in maps.list(&ListParams::default()).await? {
//!             let mut secret = Secret::default();
//!             secret.metadata.name = map.metadata.name.clone();
//!             secret.metadata.owner_references = map.owner_ref(&()).map(|owner| vec![owner]);
//!             match secrets.create(&PostParams::default(), &secret).await {
//!                 Err(kube::Error::Api(status)) if status.is_already_exists() => {}
//!                 made => drop(made?),
//!             }
//!         }
//!         tokio::time::sleep(Duration::from_secs(5)).await;
//!     }
//! }
//!
//! // #[test] fn secrets_are_kept() {
//! let mut map = ConfigMap::default();
//! map.metadata.name = Some("a".to_owned());
//! Perturb::new(|client, _stop| controller(client))
//!     .scenario(|users| {
//!         users
//!             .create(map)
//!             .until("it has a Secret", |world| world.get::<Secret>("default", "a").is_some())
//!             .delete::<ConfigMap>("a")
//!             .until("the Secret is gone", |world| world.count::<Secret>() == 0)
//!     })
//!     .always("at most one Secret", |world| world.count::<Secret>() <= 1)
//!     .plans(8)
//!     .check();
//! ```
//!
//! [`Perturb::new`] takes what starts the controller: a closure with a `kube::Client`. It need not be of this house: what goes wrong
//! goes wrong in the client's transport. [`Scenario`] is what its users do, and what they wait for. [`Perturb::check`]
//! does the rest:
//!
//! 1. It runs controller and scenario once, on a control plane in the process and on paused time, and writes down each read, each
//!    write and each notification.
//! 2. It runs them again and again, each time from the beginning, and each time something goes wrong at one of those points.
//! 3. It compares the ends, and tells the story of the first run that went wrong.
//!
//! # What goes wrong
//!
//! | trouble | at | what happens |
//! |---|---|---|
//! | `crash-before`, `crash-after` | writes | the process dies before the write is sent, or after it was done, and starts again |
//! | `skip` | notifications | the watch ends and has to list anew: the state is there, the edge is not |
//! | `hold` | notifications | this one watch tells nothing for 30 seconds, and then of each object the last state alone |
//! | `down` | notifications | the process dies and is down for 30 seconds |
//! | `lag` | notifications | nothing is told for 30 seconds |
//! | `back` | writes | the process dies after it, and its next lists are of an older time, where they ask for any version (`resourceVersion=0`) |
//! | `conflict`, `throttle`, `error` | writes, reads | 409, 429 with a `Retry-After` of a second, 500; nothing is done |
//! | `timeout`, `lost` | writes | 504, or a broken connection, after it was done |
//! | `slow` | writes, reads | the answer takes 20 seconds |
//! | `cut`, `expired` | watches | the watch ends and can be resumed, or cannot be opened (410) |
//! | `zombie` | writes | the process hangs, another takes over, and after 30 seconds the write arrives |
//! | `twin` | writes | two processes run beside each other for two minutes |
//!
//! All of this real servers, networks and machines do. Requests about Events, Leases and reviews of access are left in peace, as are the
//! scenario's users.
//!
//! # What is wrong with a run
//!
//! | clause | what holds |
//! |---|---|
//! | *Progress* | users get what they wait for, within [15 minutes](Perturb::patience) of the test's time |
//! | *Converges* | in the end there is what there is when nothing goes wrong, but for UIDs, versions, times, generated names, and what [may differ](Perturb::may_differ) |
//! | *Quiet* | then nothing is changed for a minute, nothing asks without a pause, and nothing has been changed many times more often than usual |
//! | *Always* | what the author [says](Perturb::always) holds after each change that the server commits |
//! | *Nothing left* | no object has lost all of its owners, and none waits to be deleted, unless that is so too when nothing goes wrong |
//! | *Lives* | processes do not end by themselves again and again |
//!
//! # When it fails
//!
//! The test panics with the story: what was wrong, what the controller saw and did around the fault (with a `+` where that was
//! unusual), and the line that does it again:
//!
//! ```text
//! the controller fails when timeout@create:secrets/default/a-*#1
//!
//!   Converges: Secret default/a-<1> should not be there, and is
//!
//!   What happened; + is what did not happen in the run in which nothing went wrong:
//!
//!         1.000 s  users: create Toy a
//!         1.000 s  process 1 saw    added:toys.example.com/default/a#1
//!         1.000 s  process 1 FAULT  timeout@create:secrets/default/a-*#1
//!         1.000 s  process 1 asked  create:secrets/default/a-*#1 -> 504
//!   +     1.000 s  process 1 asked  create:secrets/default/a-*#2 -> 201
//!
//!   To see it again, put this in the place of `.check()`:
//!
//!       .replay("timeout@create:secrets/default/a-*#1");
//! ```
//!
//! A plan names its point by what is done to which object for which time, so it means the same after a change of the code. Plans of
//! [several](Perturb::several) faults are made smaller as long as they fail.
//!
//! # What to do about it
//!
//! | found by | the usual reason | the usual cure |
//! |---|---|---|
//! | `crash-after`, `timeout`, `lost` at a create | a generated name, and the record of it written later | a name that follows from the owner; what exists already is one's own |
//! | `crash-after` between two writes | the second step hangs on having done the first | each step looks at what is there |
//! | `skip`, `down` | work on an event: counted, compared with the one before, deletion seen | the work follows from the state; owner references and finalizers instead of delete events |
//! | `hold`, `lag` | something written or deleted on the word of a cache | the UID and version as preconditions; a read before a deletion |
//! | `conflict` | the same write again | read again, decide again, after a backoff |
//! | `zombie`, `twin` | check, then act | let the server decide: create what may exist once, write with a version |
//!
//! # How many
//!
//! A test runs 64 plans unless it says [otherwise](Perturb::plans), taken from all kinds and all over the run; one takes a tenth of a
//! second. `TRIMTAB_PLANS=all cargo test` runs all. The same [seed](Perturb::seed) gives the same runs; controllers that iterate over
//! maps with random hashes differ from run to run all the same, and a plan that does not come to its point then changes
//! nothing ([`Report::reached`]).

mod journal;
mod perturb;
mod plan;
mod point;
mod processes;
mod run;
mod scenario;
mod story;
mod watch;
mod wire;

pub use perturb::{Failure, Perturb, Report};
pub use scenario::{Object, Scenario};
