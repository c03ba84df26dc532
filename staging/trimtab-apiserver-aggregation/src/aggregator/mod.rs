//! Follows APIServices, and tells the core what others serve.

mod check;
mod convert;
mod documents;
mod register;
mod remote;
pub(crate) mod service;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use trimtab_apiserver_core::extensions::{
    Backend, Extensions, Files, Group, Identity, Picture, ServerTrust, Version, Within, identity_from_pem,
    outward_config,
};
use trimtab_apiserver_core::registry::keys;
use trimtab_apiserver_storage::{Error, Event, EventKind, RangeRequest, WatchRequest, WatchStream};

use self::register::Known;
use self::remote::Remote;
use self::service::{GROUP, PLURAL, Registered, ordered};

/// How long to wait after APIServices could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// What an aggregator is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The certificate and the key (PEM) by which other servers know this one, and believe it who asks; `None` for nothing that
    /// they would believe.
    pub proxy_client: Option<(String, String)>,
    /// The files of that certificate and key; they are read again when they change.
    pub proxy_client_files: Option<(PathBuf, PathBuf)>,
    /// Whether a redirect by another server is refused with 502, instead of being passed on to the client.
    pub rejects_redirects: bool,
    /// Whether APIServices are written for what the server has itself.
    pub registers: bool,
}

/// Passes requests on to other servers, as APIServices say. Give one to each server, by
/// [`extensions`](trimtab_apiserver_core::server::Builder::extensions).
#[derive(Debug)]
pub struct Aggregator {
    identity: Option<Identity>,
    /// The files that it is of, if it is of some, and what was in them.
    files: Vec<(PathBuf, String)>,
    rejects_redirects: bool,
    registers: bool,
}

/// The APIServices of one server, followed.
struct Following {
    within: Within,
    identity: Option<Identity>,
    rejects_redirects: bool,
    prefix: String,
    known: BTreeMap<String, Arc<Value>>,
    registered: BTreeMap<String, Registered>,
    remotes: BTreeMap<String, (Arc<Remote>, AbortOnDropHandle<()>)>,
    /// Some remote knows more than before.
    told: Arc<Notify>,
    upgraded: TaskTracker,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            proxy_client: None,
            proxy_client_files: None,
            rejects_redirects: true,
            registers: true,
        }
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// An aggregator.
    ///
    /// # Errors
    ///
    /// A text that says why the certificate or the key cannot be used.
    pub fn new(config: Config) -> Result<Self, String> {
        let shown = config.proxy_client.as_ref();
        let identity = shown.map(|(certificate, key)| identity_from_pem(certificate, key));
        let (certificate, key) = config.proxy_client.clone().unwrap_or_default();
        let files = config
            .proxy_client_files
            .map(|(of_certificate, of_key)| vec![(of_certificate, certificate), (of_key, key)]);
        Ok(Self {
            identity: identity.transpose()?,
            files: files.unwrap_or_default(),
            rejects_redirects: config.rejects_redirects,
            registers: config.registers,
        })
    }
}

#[async_trait]
impl Extensions for Aggregator {
    async fn start(self: Arc<Self>, within: Within) -> Result<BoxFuture<'static, ()>, String> {
        let table = within.registry.resources().snapshot();
        let resource = table
            .any_version(GROUP, PLURAL)
            .ok_or("there is no resource for APIServices")?;
        let identity = self.identity.as_ref().map(same);
        let files = Files::new(self.files.clone());
        let mut following = Following {
            prefix: keys::collection_prefix(resource, ""),
            within: within.clone(),
            identity,
            rejects_redirects: self.rejects_redirects,
            known: BTreeMap::new(),
            registered: BTreeMap::new(),
            remotes: BTreeMap::new(),
            told: Arc::default(),
            upgraded: TaskTracker::new(),
        };
        let watch = following.load().await.map_err(|error| error.to_string())?;
        following.publish();
        let registers = self.registers;
        Ok(Box::pin(async move {
            let (sender, receiver) = watch::channel(Arc::new(following.known.clone()));
            let upgraded = following.upgraded.clone();
            tokio::select! {
                biased;
                () = within.stop.cancelled() => {}
                () = following.follow(watch, sender, files) => {}
                () = register::keep(within.clone(), receiver, registers) => {}
            }
            // They end by themselves, by the same token.
            upgraded.close();
            upgraded.wait().await;
        }))
    }
}

// === impl Following ===

impl Following {
    /// Reads all APIServices, and watches them from there on.
    async fn load(&mut self) -> Result<WatchStream, Error> {
        let store = self.within.registry.store().clone();
        let response = store.range(RangeRequest::prefix(self.prefix.clone())).await?;
        let from = response.revision + 1;
        let watch = store
            .watch(WatchRequest::prefix(self.prefix.clone()).from(from))
            .await?;
        let prefix = self.prefix.len();
        let all = response.kvs.iter().filter_map(|kv| {
            let name = std::str::from_utf8(kv.key.get(prefix..)?).ok()?;
            Some((name.to_owned(), read(name, &kv.value)?))
        });
        self.known = all.collect();
        self.take_in();
        Ok(watch)
    }

    /// Keeps up with all changes. It never ends.
    async fn follow(mut self, mut watch: WatchStream, known: watch::Sender<Known>, mut files: Files) {
        let told = self.told.clone();
        loop {
            tokio::select! {
                biased;
                batch = watch.next() => match batch {
                    Some(Ok(batch)) => {
                        if batch.events.is_empty() {
                            continue;
                        }
                        batch.events.iter().for_each(|event| self.change(event));
                        self.take_in();
                    }
                    _ => watch = self.reload().await,
                },
                () = told.notified() => {
                    self.publish();
                    continue;
                }
                texts = files.changed() => {
                    self.identify(&texts);
                    continue;
                }
            }
            self.publish();
            known.send_replace(Arc::new(self.known.clone()));
        }
    }

    /// From now on other servers know this one by this certificate and key, if they can be used.
    fn identify(&mut self, texts: &[String]) {
        let [certificate, key] = texts else { return };
        let usable = identity_from_pem(certificate, key).and_then(|identity| {
            // One of the two may not be there yet.
            outward_config(ServerTrust::Anyone, Some(same(&identity)), &[])?;
            Ok(identity)
        });
        match usable {
            Ok(identity) => {
                for (remote, _) in self.remotes.values() {
                    remote.identify(&identity);
                }
                self.identity = Some(identity);
                tracing::info!("the certificate of the front proxy has been read again");
            }
            Err(error) => tracing::warn!(
                error,
                "a new certificate of the front proxy cannot be used, the one before it is shown"
            ),
        }
    }

    async fn reload(&mut self) -> WatchStream {
        loop {
            match self.load().await {
                Ok(watch) => return watch,
                Err(error) => tracing::error!(%error, "APIServices cannot be read, trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn change(&mut self, event: &Event) {
        let name = event.kv.key.get(self.prefix.len()..).map(std::str::from_utf8);
        let Some(Ok(name)) = name else { return };
        let object = match event.kind {
            EventKind::Put => read(name, &event.kv.value),
            EventKind::Delete => None,
        };
        match object {
            Some(object) => drop(self.known.insert(name.to_owned(), object)),
            None => drop(self.known.remove(name)),
        }
    }

    /// Has a worker for each APIService that another server serves, and none for others.
    fn take_in(&mut self) {
        let read = self.known.values().filter_map(|object| Registered::read(object));
        self.registered = read.map(|service| (service.name.clone(), service)).collect();
        let registered = &self.registered;
        self.remotes.retain(|name, (remote, _)| {
            let now = registered
                .get(name)
                .and_then(|service| service.reference.as_ref());
            now == Some(remote.reference())
        });
        for (name, service) in &self.registered {
            let Some(reference) = &service.reference else {
                continue;
            };
            if let Some((remote, _)) = self.remotes.get(name) {
                remote.update(service);
                continue;
            }
            let remote = Arc::new(Remote::new(
                service.clone(),
                reference.clone(),
                &self.within,
                self.identity.as_ref(),
                self.rejects_redirects,
                &self.upgraded,
                &self.told,
            ));
            let task = AbortOnDropHandle::new(tokio::spawn(remote.clone().work()));
            self.remotes.insert(name.clone(), (remote, task));
        }
    }

    /// Tells the core what there is.
    fn publish(&self) {
        let mut openapi: BTreeMap<String, (Value, Arc<dyn Backend>)> = BTreeMap::new();
        let mut openapi_v2 = Vec::new();
        let mut groups = Vec::new();
        for services in ordered(self.registered.values()) {
            let mut versions = Vec::new();
            for service in &services {
                let remote = self.remotes.get(&service.name).map(|(remote, _)| remote);
                versions.push(Version {
                    name: service.version.clone(),
                    elsewhere: remote.map(Remote::elsewhere),
                });
                let Some(remote) = remote else { continue };
                let documents = remote.documents();
                for (path, entry) in documents.openapi {
                    openapi.insert(path, (entry, remote.clone()));
                }
                openapi_v2.extend(documents.openapi_v2);
            }
            groups.push(Group {
                name: services.first().map(|s| s.group.clone()).unwrap_or_default(),
                versions,
            });
        }
        self.within.served.set(Picture::new(groups, openapi, openapi_v2));
    }
}

fn same((chain, key): &Identity) -> Identity {
    (chain.clone(), key.clone_key())
}

fn read(name: &str, stored: &[u8]) -> Option<Arc<Value>> {
    match serde_json::from_slice::<Value>(stored) {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            tracing::error!(%error, name, "a stored APIService cannot be read");
            None
        }
    }
}
