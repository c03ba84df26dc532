//! Roles and bindings as authorization sees them: read from the store, and as new as the store whenever it is asked.
//!
//! **Invariant:** a decision is never older than the last write that was acknowledged before it was asked for, as long
//! as the store's watches are immediate (checked by `a_write_counts_at_once`). Those of a store that others keep are late
//! by what a message takes, as kube-apiserver's are.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apiserver_auth::rbac::Policy;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_auth::{Attributes, Decision, UserInfo};
use trimtab_apiserver_storage::{Error, EventKind, RangeRequest, Store, WatchRequest, WatchStream};

use super::Authorizer;
use crate::registry::keys;

/// The kinds, and where they are stored.
const KINDS: [(&str, &str); 4] = [
    ("ClusterRole", "clusterroles/"),
    ("ClusterRoleBinding", "clusterrolebindings/"),
    ("Role", "roles/"),
    ("RoleBinding", "rolebindings/"),
];

/// How long to wait after roles and bindings could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Allows what roles and bindings in the store grant, and members of `system:masters` everything.
#[derive(Debug)]
pub struct Rbac {
    store: Arc<dyn Store>,
    live: Mutex<Live>,
}

/// A policy with the watches that keep it up to date.
struct Live {
    policy: Arc<Policy>,
    watches: Vec<Watching>,
    /// A watch has ended: everything must be read again.
    broken: bool,
    reloading: bool,
    /// Told when a watch has something to say, whoever polled it last.
    waker: Waker,
}

struct Watching {
    kind: &'static str,
    prefix: String,
    stream: WatchStream,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Rbac {
    /// Reads what is there. Call [`Rbac::policy`] on it at will: it keeps itself up to date.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn load(store: Arc<dyn Store>) -> Result<Arc<Self>, Error> {
        let live = Mutex::new(Live::load(&*store).await?);
        Ok(Arc::new(Self { store, live }))
    }

    /// The policy as of now. If the watches that it lives by have ended, it is read again; until that is done it
    /// stays as it was.
    pub fn policy(self: &Arc<Self>) -> Arc<Policy> {
        let mut live = self.live.lock();
        live.catch_up();
        if live.broken && !live.reloading {
            live.reloading = true;
            let this = self.clone();
            drop(live);
            let mut reload = Box::pin(async move { this.reload().await });
            // A local store answers at once; for any other one this goes on beside.
            if reload.as_mut().now_or_never().is_none() {
                tokio::spawn(reload);
            }
            live = self.live.lock();
        }
        live.policy.clone()
    }

    /// Keeps up with the store while nobody asks for the policy: some watches go on only while they are polled.
    pub(crate) async fn follow(self: Arc<Self>) {
        std::future::poll_fn(|cx| {
            self.live.lock().waker.clone_from(cx.waker());
            self.policy();
            Poll::<()>::Pending
        })
        .await;
    }

    async fn reload(&self) {
        let fresh = Live::load(&*self.store).await;
        if let Err(error) = &fresh {
            tracing::error!(%error, "cannot read roles and bindings, trying again");
            tokio::time::sleep(PAUSE).await;
        }
        let mut live = self.live.lock();
        let waker = live.waker.clone();
        live.reloading = false;
        if let Ok(fresh) = fresh {
            *live = fresh;
            live.waker.clone_from(&waker);
        }
        drop(live);
        waker.wake();
    }
}

impl Live {
    async fn load(store: &dyn Store) -> Result<Self, Error> {
        let revision = store.revision().await?;
        let mut policy = Policy::default();
        let mut watches = Vec::new();
        for (kind, path) in KINDS {
            let prefix = format!("{}{path}", keys::ROOT);
            let range = store
                .range(RangeRequest::prefix(prefix.clone()).at(revision))
                .await?;
            for kv in range.kvs {
                apply(&mut policy, kind, &kv.value);
            }
            let stream = store
                .watch(WatchRequest::prefix(prefix.clone()).from(revision + 1))
                .await?;
            watches.push(Watching { kind, prefix, stream });
        }
        Ok(Self {
            policy: Arc::new(policy),
            watches,
            broken: false,
            reloading: false,
            waker: Waker::noop().clone(),
        })
    }

    /// Takes in what the watches have to say by now.
    fn catch_up(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        for Watching { kind, prefix, stream } in &mut self.watches {
            while !self.broken
                && let Poll::Ready(next) = stream.poll_next_unpin(&mut cx)
            {
                let Some(Ok(batch)) = next else {
                    self.broken = true;
                    break;
                };
                for event in batch.events {
                    let policy = Arc::make_mut(&mut self.policy);
                    match event.kind {
                        EventKind::Put => apply(policy, kind, &event.kv.value),
                        EventKind::Delete => {
                            let key = String::from_utf8_lossy(&event.kv.key);
                            let path = key.strip_prefix(prefix.as_str()).unwrap_or_default();
                            let (namespace, name) = path.split_once('/').unwrap_or(("", path));
                            policy.delete(kind, namespace, name);
                        }
                    }
                }
            }
        }
    }
}

fn apply(policy: &mut Policy, kind: &str, stored: &[u8]) {
    match serde_json::from_slice::<Value>(stored) {
        Ok(object) => policy.apply(kind, &object),
        Err(error) => tracing::error!(%error, kind, "a stored object cannot be read"),
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
