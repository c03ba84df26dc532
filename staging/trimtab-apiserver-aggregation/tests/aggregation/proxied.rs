//! What is asked of one server and answered by another.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::kit::{GROUP, World, ask, begin};

const NOTES: &str = "/apis/samples.test/v1/namespaces/default/notes";
const WHO: &str = "/apis/samples.test/v1/whoasks";

fn note(name: &str, text: &str) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Note", "metadata": {"name": name}, "spec": {"text": text}})
}

#[tokio::test]
async fn all_that_a_resource_can_do_is_done_by_the_server_behind() {
    let world = World::new().await;
    let extension = world.extension().start().await.expect("starts");
    let port = extension.address().expect("listens").port();
    world.register(port, extension.certificate_authority()).await;
    assert_eq!(
        world.reason("v1.samples.test", "Passed").await,
        "all checks passed"
    );

    // Discovery, in both forms, and OpenAPI, in both versions.
    let groups = world.get("/apis").await.json;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|g| g["name"].as_str())
        .collect();
    assert_eq!(
        (names.first(), names.last()),
        (Some(&"apiregistration.k8s.io"), Some(&GROUP)),
        "{names:?}"
    );
    let group = world.get("/apis/samples.test").await.json;
    assert_eq!(group["preferredVersion"]["groupVersion"], "samples.test/v1");
    let resources = world.get("/apis/samples.test/v1").await.json;
    assert_eq!(resources["resources"][0]["name"], "notes");
    let aggregated = |answer: &crate::kit::Answer| {
        let items = answer.json["items"].as_array()?;
        let group = items.iter().find(|item| item["metadata"]["name"] == GROUP)?;
        Some(group["versions"][0].clone())
    };
    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    );
    let version = loop {
        let answer = world.send(Method::GET, "/apis", &[accept], Bytes::new()).await;
        // What it serves is asked for once it is known to be there.
        match aggregated(&answer) {
            Some(version) if version["freshness"] == "Current" => break version,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(version["resources"][0]["resource"], "notes", "{version}");
    assert_eq!(
        version["resources"][1]["verbs"],
        json!(["get", "list"]),
        "{version}"
    );
    let entry = world
        .eventually("/openapi/v3", |answer| {
            let entry = answer.json["paths"]["apis/samples.test/v1"]["serverRelativeURL"].as_str();
            entry.map(str::to_owned)
        })
        .await;
    let document = world.get(&entry).await;
    assert!(document.text.contains("What it says."), "{}", document.text);
    world
        .eventually("/openapi/v2", |answer| {
            let path = &answer.json["paths"]["/apis/samples.test/v1/namespaces/{namespace}/notes"];
            (!path.is_null() && !answer.json["paths"]["/api/v1/namespaces/{namespace}/pods"].is_null())
                .then_some(())
        })
        .await;

    // A watch that streams, and changes of all kinds.
    let service = world.server.service();
    let watch = format!("{NOTES}?watch=1");
    let mut watch = begin(service, Method::GET, &watch, &[], Bytes::new())
        .await
        .into_body();
    let made = world.post(NOTES, &note("a", "one")).await;
    assert_eq!(
        (made.code.as_u16(), &made.json["spec"]["times"]),
        (201, &json!(1)),
        "{}",
        made.text
    );
    let invalid = world.post(NOTES, &note("b", "much more than can be said")).await;
    assert_eq!(
        (invalid.code.as_u16(), &invalid.json["reason"]),
        (422, &json!("Invalid")),
        "{}",
        invalid.text
    );
    let path = format!("{NOTES}/a");
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = world
        .send(Method::PATCH, &path, &merge, r#"{"spec":{"text":"two"}}"#.into())
        .await;
    assert_eq!(patched.json["spec"]["text"], "two", "{}", patched.text);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let applied = world
        .send(
            Method::PATCH,
            &format!("{path}?fieldManager=me&force=true"),
            &apply,
            note("a", "three").to_string().into(),
        )
        .await;
    assert_eq!(applied.code.as_u16(), 200, "{}", applied.text);
    assert!(applied.text.contains("\"manager\":\"me\""), "{}", applied.text);
    let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = world.send(Method::GET, NOTES, &table, Bytes::new()).await;
    assert_eq!(
        table.json["rows"][0]["cells"],
        json!(["a", "three"]),
        "{}",
        table.text
    );
    let deleted = world.send(Method::DELETE, &path, &[], Bytes::new()).await;
    assert_eq!(deleted.code.as_u16(), 200, "{}", deleted.text);
    let mut seen = Vec::new();
    let mut text = String::new();
    while seen.len() < 4 {
        let frame = watch.frame().await.expect("goes on").expect("is whole");
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
        seen = text
            .lines()
            .filter(|line| line.ends_with('}'))
            .map(event)
            .collect();
    }
    let wanted = [
        ("ADDED", "one"),
        ("MODIFIED", "two"),
        ("MODIFIED", "three"),
        ("DELETED", "three"),
    ];
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(kind, text)| ((*kind).to_owned(), (*text).to_owned()))
        .collect();
    assert_eq!(seen, wanted);
    extension.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}

fn event(line: &str) -> (String, String) {
    let event: Value = serde_json::from_str(line).expect("a whole line");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&event["type"]), text(&event["object"]["spec"]["text"]))
}

#[tokio::test]
async fn who_asks_is_said_by_the_server_in_front_alone() {
    let world = World::new().await;
    let extension = world.extension().start().await.expect("starts");
    world.registered(&extension).await;
    let spoofed = [
        ("x-remote-user", "mallory"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-a", "b"),
        ("authorization", "Bearer root-token"),
    ];
    let answer = world.send(Method::GET, WHO, &spoofed, Bytes::new()).await;
    let first = &answer.json["items"][0];
    assert_eq!(
        (&first["metadata"]["name"], &first["user"]),
        (&json!("a"), &json!("root")),
        "{}",
        answer.text
    );
    assert_eq!(first["uid"], "root-uid");
    assert_eq!(first["groups"], json!(["system:masters", "system:authenticated"]));
    assert_eq!(
        answer.json["metadata"].get("resourceVersion"),
        None,
        "it is of no time"
    );
    let selected = world.get(&format!("{WHO}?labelSelector=l%3Dx")).await;
    assert_eq!(
        selected.json["items"].as_array().map(Vec::len),
        Some(1),
        "{}",
        selected.text
    );
    let one = world.get(&format!("{WHO}/b")).await;
    assert_eq!(
        (&one.json["kind"], &one.json["user"]),
        (&json!("WhoAsks"), &json!("root"))
    );
    assert_eq!(world.get(&format!("{WHO}/c")).await.code.as_u16(), 404);
    assert_eq!(world.post(WHO, &json!({})).await.code.as_u16(), 405);

    // Alice may not, whichever server she asks; the one behind asks the one in front.
    let alice = [("authorization", "Bearer alice-token")];
    let servers = [
        (world.server.address(), world.server.certificate_authority()),
        (extension.address(), extension.certificate_authority()),
    ]
    .map(|(address, authority)| (address.expect("listens"), authority.to_owned()));
    let refused = "whoasks.samples.test is forbidden: User \"alice\" cannot list resource \"whoasks\" in API group \
                   \"samples.test\" at the cluster scope";
    for (address, authority) in &servers {
        let answer = ask(*address, authority, WHO, &alice).await;
        assert_eq!(
            (answer.code.as_u16(), &answer.json["message"]),
            (403, &json!(refused))
        );
        let answer = ask(*address, authority, WHO, &[("authorization", "Bearer nobodys")]).await;
        assert_eq!(answer.code.as_u16(), 401, "{}", answer.text);
    }
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "who"},
        "rules": [{"apiGroups": [GROUP], "resources": ["whoasks"], "verbs": ["get"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "who"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "alice"}],
        "roleRef": {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "who"}});
    for (kind, object) in [("clusterroles", &role), ("clusterrolebindings", &binding)] {
        let made = world
            .post(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}"), object)
            .await;
        assert_eq!(made.code.as_u16(), 201, "{}", made.text);
    }
    for (address, authority) in &servers {
        let answer = ask(*address, authority, &format!("{WHO}/a"), &alice).await;
        assert_eq!(
            (answer.code.as_u16(), &answer.json["user"]),
            (200, &json!("alice")),
            "{}",
            answer.text
        );
    }
    // Who has found a way around the server in front is nobody, whatever their headers say.
    let (address, authority) = &servers[1];
    let answer = ask(*address, authority, WHO, &spoofed[..3]).await;
    assert_eq!(answer.code.as_u16(), 403, "{}", answer.text);
    assert!(answer.text.contains("system:anonymous"), "{}", answer.text);
    let masked = [
        ("impersonate-user", "root"),
        ("authorization", "Bearer alice-token"),
    ];
    let answer = ask(*address, authority, WHO, &masked).await;
    assert_eq!(answer.code.as_u16(), 403, "{}", answer.text);
    extension.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}
