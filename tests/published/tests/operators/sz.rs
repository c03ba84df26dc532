//! sz-rust-operator 0.7.0, on kube 0.95: a custom resource that is to have a Deployment and a Service.
//!
//! Its `Reconciler::reconcile` says `Created` where there is no Deployment, and creates none (src/controller.rs); what it is told of
//! a deletion, and of what there is when it starts, it does nothing about.

use kube_of_sz::CustomResourceExt as _;
use published_operators::client_of;
use serde_json::json;
use sz_rust_operator::controller::run_controller;
use sz_rust_operator::crd::SzRustApp;
use trimtab_testing::perturb::Perturb;

use crate::{count, create, fails_by_itself};

#[test]
fn deployments_are_said_to_be_created_and_are_not() {
    let definition = serde_json::to_string(&SzRustApp::crd()).expect("a definition");
    let app = json!({
        "apiVersion": "sz-rust.dev/v1", "kind": "SzRustApp", "metadata": {"name": "a"}, "spec": {"image": "none"},
    });
    let perturb = Perturb::new(|client, _| run_controller(client_of!(kube_of_sz, client)))
        .manifests(&definition)
        .scenario(|users| {
            users
                .act("create a SzRustApp", move |client| create(client, app.clone()))
                .until("it has a Deployment", |world| count(world, "Deployment") == 1)
        });
    let wrong = fails_by_itself(perturb);
    assert!(
        wrong.contains("Progress: users cannot wait until it has a Deployment"),
        "{wrong}"
    );
    assert!(
        wrong.contains("process 1 asked  get:deployments.apps/default/a#1 -> 404")
            && !wrong.contains("create:"),
        "{wrong}"
    );
}
