//! The policy as those meet it who create, change and delete.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    Request as ApiRequest,
};
use kube::{CustomResourceExt, Resource};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use trimtab::controller::webhook::{Admitted, Handler, Operation, rule};
use trimtab::testing::{EnvError, TestEnv};

use super::*;
use crate::kit::{self, Outcome, ask, json_of, refused};

/// A website, with a theme and colours that the program does not know of.
fn website(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Website", "metadata": {"name": name},
        "spec": {"host": host, "theme": {"dark": true}, "pages": [
            {"name": "home", "colour": "red"}, {"name": "jobs", "title": "Work here", "colour": "blue"},
        ]},
    })
}

fn deployment(name: &str, images: &[&str]) -> Value {
    let containers = images.iter().enumerate();
    let containers = containers.map(|(i, image)| json!({"name": format!("c{i}"), "image": image}));
    let containers: Vec<Value> = containers.collect();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": containers},
        }},
    })
}

/// The definition as a later version of the program has it, which knows more.
async fn install(env: &TestEnv) -> Result<(), EnvError> {
    let mut definition = json_of(&Website::crd());
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let spec = &mut spec["properties"];
    spec["theme"] = json!({"type": "object", "properties": {"dark": {"type": "boolean"}}});
    spec["pages"]["items"]["properties"]["colour"] = json!({"type": "string"});
    let definition = serde_json::from_value(definition).expect("it is one still");
    env.install_definition(definition).await
}

/// An environment with the program in it.
async fn started() -> Result<(TestEnv, CancellationToken), EnvError> {
    let mut env = TestEnv::start().await?;
    install(&env).await?;
    let program = kit::start(&mut env, &webhooks(), run).await;
    Ok((env, program))
}

#[tokio::test]
async fn what_is_missing_is_filled_in() -> Outcome {
    let (env, _program) = started().await?;
    let client = env.client();
    let made = kit::create::<Website>(
        &client,
        &website("shop", "shop.example.com"),
        &PostParams::default(),
    )
    .await;
    assert_eq!(made.code, 201, "{made:?}");
    let mut whole = website("shop", "shop.example.com")["spec"].clone();
    whole["replicas"] = json!(2);
    whole["pages"][0]["title"] = json!("home");
    assert_eq!(made.body["spec"], whole, "completed, and what is unknown stays");

    // What others apply, replace and patch is completed all the same.
    let kind = ApiResource::erase::<Website>(&());
    let sites: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let more = Patch::Merge(json!({"spec": {"replicas": null, "theme": {"dark": false}}}));
    let patched = sites.patch("shop", &PatchParams::default(), &more).await?;
    assert_eq!(
        (&patched.data["spec"]["replicas"], &patched.data["spec"]["theme"]),
        (&json!(2), &json!({"dark": false}))
    );
    let applied = Patch::Apply(website("blog", "blog.example.com"));
    let applied = sites.patch("blog", &PatchParams::apply("me"), &applied).await?;
    assert_eq!(applied.data["spec"]["replicas"], json!(2));
    let typed: Api<Website> = Api::default_namespaced(client.clone());
    let read = typed.get("blog").await?;
    assert_eq!(
        (read.spec.replicas, read.spec.pages[0].title.as_deref()),
        (Some(2), Some("home"))
    );

    let image = "registry.example.com/shop:1";
    let made =
        kit::create::<Deployment>(&client, &deployment("shop", &[image]), &PostParams::default()).await;
    let pods = &made.body["spec"]["template"]["spec"];
    assert_eq!(pods["automountServiceAccountToken"], json!(false), "{made:?}");
    let mut talks = deployment("talks", &[image]);
    talks["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(true);
    let made = kit::create::<Deployment>(&client, &talks, &PostParams::default()).await;
    let pods = &made.body["spec"]["template"]["spec"];
    assert_eq!(
        pods["automountServiceAccountToken"],
        json!(true),
        "whoever says something is heard"
    );
    Ok(env.shutdown().await?)
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_blamed() -> Outcome {
    let (env, _program) = started().await?;
    let client = env.client();
    let mut twice = website("twice", "shop");
    twice["spec"]["pages"][1]["name"] = json!("home");
    let answer = kit::create::<Website>(&client, &twice, &PostParams::default()).await;
    assert_eq!(
        (answer.code, answer.refusal()),
        (
            422,
            (
                "Invalid",
                "admission webhook \"validate.v1.websites.example.com\" denied the request: Website.example.com \"twice\" is \
         invalid: [spec.host: Invalid value: \"shop\": must have a domain, as www.example.com, \
         spec.pages[1].name: Duplicate value: \"home\"]"
            )
        )
    );
    assert_eq!(
        answer.causes(),
        [
            "spec.host: FieldValueInvalid",
            "spec.pages[1].name: FieldValueDuplicate"
        ]
    );

    let images = [
        "registry.example.com/a",
        "docker.io/b",
        "registry.example.com/c",
        "d",
    ];
    let mut mixed = deployment("mixed", &images);
    mixed["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "i", "image": "e"}]);
    let answer = kit::create::<Deployment>(&client, &mixed, &PostParams::default()).await;
    assert_eq!((answer.code, answer.refusal().0), (422, "Invalid"));
    let places = ["initContainers[0]", "containers[1]", "containers[3]"];
    let causes = places.map(|place| format!("spec.template.spec.{place}.image: FieldValueInvalid"));
    assert_eq!(answer.causes(), causes);
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    assert_eq!(deployments.list(&ListParams::default()).await?.items.len(), 0);
    Ok(env.shutdown().await?)
}

#[tokio::test]
async fn warnings_reach_the_client_whatever_the_answer_is() -> Outcome {
    let (env, _program) = started().await?;
    let client = env.client();
    let warning = "a website without pages shows an error to its visitors";
    for (name, host, code) in [("bare", "shop.example.com", 201), ("wrong", "shop", 422)] {
        let mut bare = website(name, host);
        bare["spec"]["pages"] = json!([]);
        let answer = kit::create::<Website>(&client, &bare, &PostParams::default()).await;
        assert_eq!((answer.code, answer.warnings), (code, vec![warning.to_owned()]));
    }
    let answer = kit::create::<Website>(&client, &website("full", "a.b"), &PostParams::default()).await;
    assert_eq!(answer.warnings, Vec::<String>::new());
    let bare = json!({"spec": {"pages": []}});
    let request = ApiRequest::new(Website::url_path(&(), Some("default")));
    let patch = request.patch("full", &PatchParams::default(), &Patch::Merge(bare))?;
    let answer = ask(&client, patch).await;
    assert_eq!((answer.code, answer.warnings), (200, vec![warning.to_owned()]));
    Ok(env.shutdown().await?)
}

#[tokio::test]
async fn changes_and_deletions_are_judged_by_what_was() -> Outcome {
    let mut env = TestEnv::start().await?;
    install(&env).await?;
    let client = env.client();
    let sites: Api<Website> = Api::default_namespaced(client.clone());
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    // It was there before there was a policy.
    let old = kit::create::<Deployment>(
        &client,
        &deployment("old", &["docker.io/b"]),
        &PostParams::default(),
    )
    .await;
    assert_eq!(old.code, 201);
    let _program = kit::start(&mut env, &webhooks(), run).await;
    let made = kit::create::<Website>(
        &client,
        &website("shop", "shop.example.com"),
        &PostParams::default(),
    )
    .await;
    assert_eq!(made.code, 201);

    let merge = |change: Value| Patch::Merge(change);
    let params = PatchParams::default();
    let moved = sites
        .patch(
            "shop",
            &params,
            &merge(json!({"spec": {"host": "other.example.com"}})),
        )
        .await;
    let words = "admission webhook \"validate.v1.websites.example.com\" denied the request: the host of a website stays: \
                 visitors know it";
    assert_eq!(refused(moved), (403, words.to_owned()));
    sites
        .patch("shop", &params, &merge(json!({"spec": {"replicas": 5}})))
        .await?;

    deployments
        .patch("old", &params, &merge(json!({"spec": {"replicas": 3}})))
        .await?;
    let other = deployment("old", &["docker.io/c"]);
    let other = deployments.patch("old", &params, &Patch::Strategic(other)).await;
    let (code, message) = refused(other);
    assert!(code == 422 && message.contains("docker.io/c"), "{message}");

    let keep = |why: Value| merge(json!({"metadata": {"annotations": {(KEEP): why}}}));
    sites.patch("shop", &params, &keep(json!("it is sold"))).await?;
    let words = "admission webhook \"validate-deletion.v1.websites.example.com\" denied the request: it is to be kept: it is \
                 sold";
    let one = sites.delete("shop", &DeleteParams::default()).await;
    assert_eq!(refused(one.map(|_| ())), (403, words.to_owned()));
    let all = sites
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await;
    assert_eq!(refused(all.map(|_| ())), (403, words.to_owned()));
    sites.patch("shop", &params, &keep(Value::Null)).await?;
    sites.delete("shop", &DeleteParams::default()).await?;
    env.eventually_gone(&sites, "shop").await?;
    Ok(env.shutdown().await?)
}

/// The failure policy decides, and only when nobody answers.
#[tokio::test]
async fn a_program_that_is_gone_stops_what_it_must() -> Outcome {
    let (env, program) = started().await?;
    let client = env.client();
    let stranger = deployment("stranger", &["docker.io/b"]);
    let answer = kit::create::<Deployment>(&client, &stranger, &PostParams::default()).await;
    assert_eq!(answer.code, 422, "it is there");
    let before = kit::create::<Website>(&client, &website("before", "a.b"), &PostParams::default()).await;
    assert_eq!(before.code, 201);
    program.cancel();
    // The connection that there is ends with the program; from then on there is nobody to talk to.
    let sites: Api<Website> = Api::default_namespaced(client.clone());
    let (params, patch) = (
        PatchParams::default(),
        Patch::Merge(json!({"spec": {"replicas": 7}})),
    );
    let refusal = kit::eventually(|| async {
        match sites.patch("before", &params, &patch).await {
            Ok(_) => Err("it is there still"),
            refusal => Ok(refused(refusal)),
        }
    });
    let (code, message) = refusal.await;
    assert_eq!(code, 500);
    assert!(
        message.starts_with(
            "Internal error occurred: failed calling webhook \"default.v1.websites.example.com\""
        ),
        "{message}"
    );
    let deletion = refused(sites.delete("before", &DeleteParams::default()).await.map(|_| ()));
    assert!(
        deletion.0 == 500 && deletion.1.contains("validate-deletion"),
        "{deletion:?}"
    );
    let answer = kit::create::<Deployment>(&client, &stranger, &PostParams::default()).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    assert_eq!(
        answer.body["spec"]["template"]["spec"]["automountServiceAccountToken"],
        Value::Null
    );
    Ok(env.shutdown().await?)
}

/// A webhook that tells what it was asked, and panics on demand.
struct Witness(mpsc::UnboundedSender<(Operation, String, bool)>);

impl Handler for Witness {
    async fn handle(&self, request: &Request) -> Result<Admitted, Refusal> {
        assert!(request.name != "nobody", "there is no such name");
        let told = (request.operation, request.name.clone(), request.dry_run);
        let _nobody_listens = self.0.send(told);
        Ok(Admitted::AsSent)
    }
}

#[tokio::test]
async fn rehearsals_are_told_from_the_real_thing_and_a_panic_is_a_refusal() -> Outcome {
    let (told, mut asked) = mpsc::unbounded_channel();
    let mut env = TestEnv::start().await?;
    install(&env).await?;
    let operations = [Operation::Create, Operation::Update, Operation::Delete];
    let witness = Hook::validating_handler(
        "witness.example.com",
        [rule::<Website>(operations)],
        Witness(told),
    );
    let webhooks = webhooks().hook(witness);
    let _program = kit::start(&mut env, &webhooks, kit::alone).await;
    let client = env.client();
    let sites: Api<Website> = Api::default_namespaced(client.clone());
    let (rehearsal, real) = (
        PostParams {
            dry_run: true,
            ..PostParams::default()
        },
        PostParams::default(),
    );

    let made = kit::create::<Website>(&client, &website("shop", "a.b"), &rehearsal).await;
    assert_eq!(
        (made.code, &made.body["spec"]["replicas"]),
        (201, &json!(2)),
        "it is completed"
    );
    assert!(sites.get_opt("shop").await?.is_none(), "and not written");
    let made = kit::create::<Website>(&client, &website("shop", "a.b"), &real).await;
    assert_eq!(made.code, 201);
    let patch = Patch::Merge(json!({"spec": {"replicas": 9}}));
    sites
        .patch("shop", &PatchParams::default().dry_run(), &patch)
        .await?;
    assert_eq!(sites.get("shop").await?.spec.replicas, Some(2));
    sites.delete("shop", &DeleteParams::default().dry_run()).await?;
    sites.delete("shop", &DeleteParams::default()).await?;
    let expected = [
        (Operation::Create, true),
        (Operation::Create, false),
        (Operation::Update, true),
        (Operation::Delete, true),
        (Operation::Delete, false),
    ];
    for (operation, dry_run) in expected {
        assert_eq!(asked.try_recv(), Ok((operation, "shop".to_owned(), dry_run)));
    }

    let panicked = kit::create::<Website>(&client, &website("nobody", "a.b"), &real).await;
    assert_eq!(
        (panicked.code, panicked.refusal()),
        (
            500,
            (
                "InternalError",
                "admission webhook \"witness.example.com\" denied the request: the webhook panicked; its log says more"
            )
        )
    );
    let next = kit::create::<Website>(&client, &website("somebody", "a.b"), &real).await;
    assert_eq!(next.code, 201, "and the program goes on");
    Ok(env.shutdown().await?)
}
