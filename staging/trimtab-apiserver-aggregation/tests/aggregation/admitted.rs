//! What the author of a server has to say about what is written.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};
use trimtab_apiserver_aggregation::kit::{Admission, ApiError, Attributes, ExtensionServer, Operation};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::kit::{World, definition, send};

const NOTES: &str = "/apis/samples.test/v1/namespaces/default/notes";

/// Signs what is created, and keeps what is signed by others.
#[derive(Debug)]
struct Signed;

#[async_trait]
impl Admission for Signed {
    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if attributes.operation == Operation::Create {
            object["metadata"]["annotations"]["by"] = attributes.user.name.as_str().into();
            warnings.push("it is signed".to_owned());
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        _: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let by = old.map(|old| &old["metadata"]["annotations"]["by"]);
        if by.is_some_and(|by| *by != attributes.user.name.as_str()) {
            let resource = attributes.resource.group_resource();
            return Err(ApiError::forbidden(
                &resource,
                &attributes.name,
                "somebody else has signed it",
            ));
        }
        Ok(())
    }
}

#[tokio::test]
async fn plugins_of_ones_own_change_and_refuse() {
    let world = World::new().await;
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = ExtensionServer::builder(world.delegation())
        .stored(definition("Note", "notes", "Namespaced"), store)
        .admission(Signed)
        .start()
        .await
        .expect("starts");
    let ask = |user: &str, method: Method, path: &str, body: Value| {
        let user = UserInfo {
            name: user.to_owned(),
            groups: vec![MASTERS_GROUP.to_owned()],
            ..UserInfo::default()
        };
        let (service, path) = (server.service(user), path.to_owned());
        async move { send(service, method, &path, &[], body.to_string().into()).await }
    };
    let note = json!({"apiVersion": "samples.test/v1", "kind": "Note", "metadata": {"name": "a"}, "spec": {"text": "x"}});
    let made = ask("alice", Method::POST, NOTES, note).await;
    assert_eq!(
        (made.code.as_u16(), &made.json["metadata"]["annotations"]),
        (201, &json!({"by": "alice"}))
    );
    let path = format!("{NOTES}/a");
    for (user, code) in [("bob", 403), ("alice", 200)] {
        let put = ask(user, Method::PUT, &path, made.json.clone()).await;
        assert_eq!(put.code.as_u16(), code, "{}", put.text);
    }
    for (user, code) in [("bob", 403), ("alice", 200)] {
        let gone = ask(user, Method::DELETE, &path, json!({})).await;
        assert_eq!(gone.code.as_u16(), code, "{}", gone.text);
    }
    server.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}
