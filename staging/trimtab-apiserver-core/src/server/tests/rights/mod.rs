//! Who may do what, cell by cell and request by request, as kube-apiserver has it. The facts are in `matrix.txt` and
//! `requests.txt`, which say how to read them.

mod requests;
mod table;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_auth::{Attributes, UserInfo};
use trimtab_apiserver_storage::{Config, MemoryStore};

use self::table::{Holder, PATH_VERBS, Table, Thing, VERBS};
use crate::ApiServer;
use crate::http::Peer;

const GROUP: &str = "rbac.authorization.k8s.io";
const API: &str = "/apis/rbac.authorization.k8s.io/v1";
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with the namespaces `a` and `b`, which those whom it has tokens for ask, and the administrator.
struct Kit {
    server: ApiServer,
}

impl Kit {
    /// Knows each of these users by a token that is the name.
    async fn new(users: &[&str]) -> Self {
        let mut tokens = StaticTokens::default();
        for name in users {
            let user = UserInfo {
                name: (*name).to_owned(),
                ..UserInfo::default()
            };
            tokens.insert(*name, user);
        }
        let store = Arc::new(MemoryStore::new(Config::default()));
        let server = ApiServer::builder(store).tokens(tokens).start().await;
        let kit = Self {
            server: server.expect("starts"),
        };
        for name in ["a", "b"] {
            kit.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}))
                .await;
        }
        kit
    }

    async fn as_admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let answer = tokio::time::timeout(PATIENCE, self.server.service().oneshot(request)).await;
        let answer = answer.expect("answers in time").expect("answers");
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn create(&self, path: &str, object: &Value) {
        let (code, answer) = self.as_admin("POST", path, object).await;
        assert_eq!(code, 201, "{path} {answer}");
    }

    /// Sends a request over what the network leads to.
    async fn ask(&self, request: Request<Full<Bytes>>) -> (u16, Value) {
        let answer = async {
            let response = self.server.api.answer(request, Peer::default()).await;
            let code = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (code, serde_json::from_slice(&body).unwrap_or_default())
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("answers in time")
    }

    /// Where to write bindings of a namespace, or of all.
    fn bindings(namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{API}/namespaces/{namespace}/rolebindings"),
            None => format!("{API}/clusterrolebindings"),
        }
    }

    /// Gives a user a cluster role, in a namespace or everywhere.
    async fn bind(&self, user: &str, role: &str, namespace: Option<&str>) {
        let binding = json!({
            "metadata": {"name": format!("rights:{user}")},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": GROUP, "name": user}],
        });
        self.create(&Self::bindings(namespace), &binding).await;
    }

    async fn unbind(&self, user: &str, namespace: Option<&str>) {
        let path = format!("{}/rights:{user}", Self::bindings(namespace));
        assert_eq!(self.as_admin("DELETE", &path, &json!({})).await.0, 200, "{path}");
    }

    /// The letters of what the authorizer allows.
    fn allowed(&self, user: &UserInfo, thing: &Thing, namespace: &str) -> String {
        let authorizer = self.server.api.authorizer();
        let verbs = if thing.is_path() {
            &PATH_VERBS[..]
        } else {
            &VERBS[..]
        };
        let allowed = verbs.iter().filter(|(_, verb)| {
            let asked = thing.attributes(verb, namespace);
            authorizer.authorize(user, &asked).allowed
        });
        allowed.map(|(letter, _)| *letter).collect()
    }

    /// What an access review says.
    async fn reviewed(&self, user: &UserInfo, asked: &Attributes) -> bool {
        let mut spec = json!({"user": user.name, "groups": user.groups});
        let text = |value: &str| json!(value);
        if asked.is_resource {
            spec["resourceAttributes"] = json!({
                "verb": text(&asked.verb), "group": text(&asked.group), "resource": text(&asked.resource),
                "subresource": text(&asked.subresource), "namespace": text(&asked.namespace), "name": text(&asked.name),
            });
        } else {
            spec["nonResourceAttributes"] = json!({"verb": text(&asked.verb), "path": text(&asked.path)});
        }
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let (code, answer) = self.as_admin("POST", path, &json!({"spec": spec})).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"]["allowed"] == true
    }
}

fn user(name: &str) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        ..UserInfo::default()
    }
}

/// Where roles allow what they allow: bound everywhere, or in the namespace `a`, and asked in a namespace or in none.
const SCOPES: [(Option<&str>, &str, bool); 6] = [
    (None, "a", true),
    (None, "b", true),
    (None, "", true),
    (Some("a"), "a", true),
    (Some("a"), "b", false),
    (Some("a"), "", false),
];

#[tokio::test]
async fn each_cell_of_the_matrix_is_as_kube_apiserver_has_it() {
    let table = Table::read(include_str!("matrix.txt"));
    let kit = Kit::new(&[]).await;
    let holder = user("holder");
    let mut wrong = Vec::new();
    for (role, cells) in table.roles() {
        // Scope is a matter of bindings: it is asked about with the roles that users are given. All roles are asked
        // about in one.
        let scopes = if table.is_column(role) {
            &SCOPES[..]
        } else {
            &SCOPES[..1]
        };
        for bound_in in [None, Some("a")] {
            let scopes: Vec<_> = scopes.iter().filter(|scope| scope.0 == bound_in).collect();
            if scopes.is_empty() {
                continue;
            }
            kit.bind("holder", role, bound_in).await;
            for (_, asked_in, holds) in scopes {
                for thing in table.things() {
                    let holds = *holds && !(thing.is_path() && bound_in.is_some());
                    let expected = if holds { cells(thing) } else { String::new() };
                    let found = kit.allowed(&holder, thing, asked_in);
                    if found != expected {
                        wrong.push(format!(
                            "{role} {bound_in:?} in {asked_in:?}: {thing} {found}, not {expected}"
                        ));
                    }
                }
            }
            kit.unbind("holder", bound_in).await;
        }
    }
    assert!(
        table
            .things()
            .all(|thing| kit.allowed(&holder, thing, "a").is_empty())
    );
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    kit.server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn those_whom_every_cluster_knows_may_do_what_they_may_with_kube_apiserver() {
    let table = Table::read(include_str!("matrix.txt"));
    let kit = Kit::new(&[]).await;
    let mut wrong = Vec::new();
    for (subject, cells) in table.subjects() {
        let who = match &subject.holder {
            Holder::User(name) => user(name),
            Holder::Group(name) => UserInfo {
                groups: vec![name.clone()],
                ..UserInfo::default()
            },
        };
        for thing in table.things() {
            let (found, expected) = (kit.allowed(&who, thing, &subject.namespace), cells(thing));
            if found != expected {
                wrong.push(format!("{subject:?}: {thing} {found}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    kit.server.shutdown().await.expect("stops");
}

/// An access review asks the same authorizer; a sample shows that it asks it the same.
#[tokio::test]
async fn access_reviews_say_what_the_matrix_says() {
    let table = Table::read(include_str!("matrix.txt"));
    let kit = Kit::new(&[]).await;
    let holder = user("holder");
    for (role, cells) in table.roles().filter(|(role, _)| table.is_column(role)) {
        kit.bind("holder", role, None).await;
        for (number, thing) in table.things().enumerate() {
            let verbs = if thing.is_path() {
                &PATH_VERBS[..]
            } else {
                &VERBS[..]
            };
            let (letter, verb) = verbs[number % verbs.len()];
            let asked = thing.attributes(verb, "a");
            let expected = cells(thing).contains(letter);
            assert_eq!(
                kit.reviewed(&holder, &asked).await,
                expected,
                "{role} {verb} {thing}"
            );
        }
        kit.unbind("holder", None).await;
    }
    kit.server.shutdown().await.expect("stops");
}

/// What is served and not in the matrix has been forgotten there.
#[tokio::test]
async fn the_matrix_has_every_built_in_resource() {
    let table = Table::read(include_str!("matrix.txt"));
    let builtin = crate::crd::builtin();
    for resource in &builtin {
        let whole = Thing::resource(&resource.group, &resource.plural);
        let below = resource.subresources.iter().map(|sub| whole.below(&sub.name));
        for thing in std::iter::once(whole.clone()).chain(below) {
            assert!(
                table.things().any(|known| *known == thing),
                "{thing} is not in matrix.txt"
            );
        }
    }
}
