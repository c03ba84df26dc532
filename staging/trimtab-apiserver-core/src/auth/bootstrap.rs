//! Writes the roles and bindings that a cluster starts with.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apiserver_auth::rbac::bootstrap_objects;
use trimtab_apiserver_storage::{Compare, Error, KeyValue, Op, RangeRequest, Store, Txn};

use crate::ambient::Ambient;
use crate::registry::{keys, meta};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// How many objects one transaction writes: etcd takes 128 operations by default, and may need two for each.
const AT_ONCE: usize = 60;

/// Writes what is missing, and adds missing rules to roles that have not opted out of being updated. What others have
/// added stays.
pub(super) async fn ensure(store: &dyn Store, ambient: &Ambient) -> Result<(), Error> {
    let now = ambient.timestamp();
    loop {
        let mut stored = read(store).await?;
        let mut missing: Vec<(Compare, Op)> = Vec::new();
        for mut object in bootstrap_objects() {
            let key = Bytes::from(key(&object));
            let stored = stored.remove(&key);
            let revision = stored.as_ref().map_or(0, |kv| kv.mod_revision);
            object = match stored.map(|kv| serde_json::from_slice::<Value>(&kv.value)) {
                None => {
                    meta::set(&mut object, "uid", ambient.entropy.uid());
                    meta::set(&mut object, "creationTimestamp", now.as_str());
                    object
                }
                Some(Ok(stored)) => match updated(stored, &object) {
                    Some(stored) => stored,
                    None => continue,
                },
                Some(Err(error)) => {
                    tracing::error!(key = %key.escape_ascii(), %error, "a stored object cannot be read");
                    continue;
                }
            };
            let put = Op::Put {
                key: key.clone(),
                value: object.to_string().into(),
                ttl: None,
            };
            missing.push((Compare::ModRevision(key, revision), put));
        }
        let mut alone = true;
        for some in missing.chunks(AT_ONCE) {
            let (compare, success) = some.iter().cloned().unzip();
            let txn = Txn {
                compare,
                success,
                failure: Vec::new(),
            };
            alone &= store.txn(txn).await?.succeeded;
        }
        // Otherwise another server is starting beside this one: what is missing now?
        if alone {
            return Ok(());
        }
    }
}

/// All roles and bindings that are there.
async fn read(store: &dyn Store) -> Result<BTreeMap<Bytes, KeyValue>, Error> {
    let mut all = BTreeMap::new();
    for path in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let request = RangeRequest::prefix(format!("{}{path}/", keys::ROOT));
        let kvs = store.range(request).await?.kvs;
        all.extend(kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
    }
    Ok(all)
}

fn key(object: &Value) -> String {
    let path = match object["kind"].as_str().unwrap_or_default() {
        "ClusterRole" => "clusterroles",
        "ClusterRoleBinding" => "clusterrolebindings",
        "Role" => "roles",
        _ => "rolebindings",
    };
    let (namespace, name) = (meta::namespace(object), meta::name(object));
    if namespace.is_empty() {
        format!("{}{path}/{name}", keys::ROOT)
    } else {
        format!("{}{path}/{namespace}/{name}", keys::ROOT)
    }
}

/// The stored object with what it lacks, if it lacks anything.
fn updated(mut stored: Value, wanted: &Value) -> Option<Value> {
    if stored.pointer(&format!(
        "/metadata/annotations/{}",
        AUTO_UPDATE.replace('/', "~1")
    )) == Some(&json!("false"))
    {
        return None;
    }
    let field = if wanted.get("roleRef").is_some() {
        "subjects"
    } else {
        "rules"
    };
    let have = stored
        .get(field)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let want = wanted
        .get(field)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let missing: Vec<Value> = want.into_iter().filter(|item| !have.contains(item)).collect();
    if missing.is_empty() {
        return None;
    }
    stored[field] = Value::from([have, missing].concat());
    Some(stored)
}

#[cfg(test)]
mod tests {
    use trimtab_apiserver_storage::{Config, MemoryStore};

    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_written_once_and_what_others_added_stays() {
        let store = MemoryStore::new(Config::default());
        ensure(&store, &Ambient::default()).await.expect("writes");
        let revision = store.revision().await.expect("known");
        ensure(&store, &Ambient::default())
            .await
            .expect("has nothing to do");
        assert_eq!(store.revision().await.expect("known"), revision);

        let key = "/registry/clusterroles/system:kube-dns";
        let read = async || {
            let kv = store
                .range(RangeRequest::key(key))
                .await
                .expect("reads")
                .kvs
                .remove(0);
            serde_json::from_slice::<Value>(&kv.value).expect("JSON")
        };
        let mut role = read().await;
        let own = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["own"]});
        role["rules"] = json!([own]);
        let op = Op::Put {
            key: key.into(),
            value: role.to_string().into(),
            ttl: None,
        };
        store
            .txn(Txn {
                success: vec![op],
                ..Txn::default()
            })
            .await
            .expect("writes");
        ensure(&store, &Ambient::default()).await.expect("writes");
        let rules = read().await["rules"].as_array().expect("rules").clone();
        assert!(rules.len() > 1 && rules.contains(&own));
    }
}
