//! The house's own controllers through everything that goes wrong. Each is alone between the faults; the environment has all
//! others, and nodes on which pods run.
//!
//! A test runs a few plans, and a few with several faults at once; `TRIMTAB_PLANS=all cargo test -p trimtab-testing-perturb --test
//! own` runs all.

mod essential;
mod placed;
mod workloads;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use trimtab_testing_perturb::Perturb;
use trimtab_workloads_controllers::{Options, run};

/// These controllers, in the place of the environment's own.
fn controllers(names: Vec<&'static str>) -> Perturb {
    let wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let perturb = Perturb::new(move |client, stop| {
        let mut options = Options::default();
        options.controllers.clone_from(&wanted);
        options.namespace_delay = Duration::ZERO;
        options.root_ca = Some("a certificate".to_owned());
        run(client, options, stop)
    });
    names.iter().fold(perturb, |perturb, name| perturb.without(name))
}

/// This controller in a cluster that has all others, and two nodes.
fn in_a_cluster(name: &'static str) -> Perturb {
    controllers(vec![name])
        .environment(|env| {
            let heartbeats = Duration::from_secs(86_400);
            env.workload_controllers().nodes(2).node_heartbeats(heartbeats)
        })
        .plans(17) // one of each kind
        .several(4)
}

/// Runs the plans. What may be wrong while two processes work at once is as in Kubernetes: that it does not happen is what leaders are
/// elected for.
fn check_but_for_two_at_once(perturb: Perturb, known: &[&str]) {
    for failure in perturb.report().failures {
        let are_two = ["twin@", "zombie@"].iter().any(|two| failure.plan.contains(two));
        let is_known = |wrong: &String| known.iter().any(|known| wrong.starts_with(known));
        assert!(are_two && failure.wrong.iter().all(is_known), "{failure}");
    }
}

fn typed<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of the kind")
}
