//! Roles and bindings as authorization sees them: read from the store, and as new as the store whenever it is asked.
//!
//! **Invariant:** a decision is never older than the last write that was acknowledged before it was asked for, as long
//! as the store's watches are immediate (checked by `a_write_counts_at_once`). Those of a store that others keep are late
//! by what a message takes, as kube-apiserver's are.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apiserver_auth::rbac::Policy;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_auth::{Attributes, Decision, UserInfo};
use trimtab_apiserver_storage::{Error, Store};

use super::Authorizer;
use crate::registry::followed::{Followed, View};
use crate::registry::keys;

/// The kinds, and where they are stored.
const KINDS: [(&str, &str); 4] = [
    ("ClusterRole", "clusterroles/"),
    ("ClusterRoleBinding", "clusterrolebindings/"),
    ("Role", "roles/"),
    ("RoleBinding", "rolebindings/"),
];

/// Allows what roles and bindings in the store grant, and members of `system:masters` everything.
#[derive(Debug)]
pub struct Rbac {
    followed: Arc<Followed<Live>>,
}

/// The policy, shared with those who decide by it.
#[derive(Default)]
struct Live(Arc<Policy>);

impl View for Live {
    fn put(&mut self, kind: usize, _: &str, object: Value) {
        Arc::make_mut(&mut self.0).apply(KINDS[kind].0, &object);
    }

    fn delete(&mut self, kind: usize, path: &str) {
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        Arc::make_mut(&mut self.0).delete(KINDS[kind].0, namespace, name);
    }
}

impl Rbac {
    /// Reads what is there. Call [`Rbac::policy`] on it at will: it keeps itself up to date.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn load(store: Arc<dyn Store>) -> Result<Arc<Self>, Error> {
        let prefixes = KINDS.map(|(_, path)| format!("{}{path}", keys::ROOT));
        let followed = Followed::load(store, prefixes.to_vec()).await?;
        Ok(Arc::new(Self { followed }))
    }

    /// The policy as of now. If the watches that it lives by have ended, it is read again; until that is done it
    /// stays as it was.
    pub fn policy(self: &Arc<Self>) -> Arc<Policy> {
        self.followed.look(|live| live.0.clone())
    }

    /// Keeps up with the store while nobody asks for the policy: some watches go on only while they are polled.
    pub(crate) async fn follow(self: Arc<Self>) {
        self.followed.clone().follow().await;
    }
}

impl Authorizer for Arc<Rbac> {
    fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision {
        if user.is_in(MASTERS_GROUP) {
            return Decision::allow("");
        }
        self.policy().authorize(user, request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trimtab_apiserver_storage::{Config, MemoryStore, Op, Txn};

    use super::*;

    async fn run(store: &dyn Store, op: Op) -> u64 {
        store
            .txn(Txn {
                success: vec![op],
                ..Txn::default()
            })
            .await
            .expect("writes")
            .revision
    }

    fn put(key: &str, object: &Value) -> Op {
        Op::Put {
            key: format!("/registry/{key}").into(),
            value: object.to_string().into(),
            ttl: None,
        }
    }

    #[tokio::test]
    async fn a_write_counts_at_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Config::default()));
        let rbac = Rbac::load(store.clone()).await.expect("loads");
        let alice = UserInfo {
            name: "alice".into(),
            ..UserInfo::default()
        };
        let request = Attributes {
            verb: "get".into(),
            resource: "pods".into(),
            namespace: "x".into(),
            is_resource: true,
            ..Attributes::default()
        };
        let allowed = || rbac.authorize(&alice, &request).allowed;
        assert!(!allowed());
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let role = json!({"metadata": {"name": "r", "namespace": "x"}, "rules": rules});
        run(&*store, put("roles/x/r", &role)).await;
        let binding = json!({
            "metadata": {"name": "b", "namespace": "x"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "alice"}],
        });
        run(&*store, put("rolebindings/x/b", &binding)).await;
        assert!(allowed());
        let revision = run(
            &*store,
            Op::Delete {
                key: "/registry/rolebindings/x/b".into(),
            },
        )
        .await;
        // Even when the watches have been cut off.
        run(&*store, put("roles/x/other", &role)).await;
        store.compact(revision + 1).await.expect("compacts");
        assert!(!allowed());
        run(&*store, put("rolebindings/x/b", &binding)).await;
        assert!(allowed());
    }
}
