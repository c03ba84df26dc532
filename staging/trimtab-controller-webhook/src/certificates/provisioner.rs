//! Keeps a program's certificates: makes them, renews them, shows them, and makes their authorities known.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_controller_runtime::rbac::Rule;
use trimtab_controller_runtime::serving::Certificates;

use super::error::ProvisionError;
use super::injection::{Injection, Kinds};
use super::material::Material;
use super::rotation::{Lifetimes, advance};
use super::secret::Place;
use crate::target::Target;
use crate::webhooks::Webhooks;

/// How often the Secret and the configurations are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How long to wait after a failure, at first; twice as long after each further one, up to [`LOOK`].
const RETRY: Duration = Duration::from_secs(1);
/// How long the API server has to answer all that is asked of it in one go.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a Secret that others write at the same time is tried.
const TRIES: usize = 5;

/// Makes and renews the certificates of a program's webhooks. Clones are the same.
///
/// In a Secret they are shared by replicas, and outlive them: whoever is first makes them, the others read them. Its
/// type is `kubernetes.io/tls`, with the authorities in `ca.crt` and the newest one's key in `ca.key`. Whoever can read it can
/// pose as the webhooks.
#[derive(Clone)]
pub struct Provisioner {
    place: Place,
    target: Target,
    names: Vec<String>,
    lifetimes: Lifetimes,
    clock: Clock,
    injection: Option<Injection>,
    shared: Arc<Shared>,
}

/// What clones share.
#[derive(Default)]
struct Shared {
    certificates: Certificates,
    /// The authorities, PEM.
    bundle: Mutex<Option<String>>,
    /// The authorities that were made known the last time.
    injected: Mutex<Option<String>>,
    /// What went wrong the last time, if it did.
    trouble: Mutex<Option<String>>,
}

/// What tells the time that certificates are dated by: the system's clock, or a test's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

// === impl Provisioner ===

impl Provisioner {
    /// Keeps certificates in this process alone, for one replica and for tests. Whoever calls has to be told the authorities
    /// after each start, by [`Provisioner::injecting`] or [`Provisioner::ca_bundle`].
    pub fn in_memory(target: &Target) -> Self {
        Self::new(Place::Memory(Arc::default()), target)
    }

    /// Keeps certificates in a Secret, which is made if it is not there. One that is empty is filled, one that holds
    /// something else is left alone.
    pub fn in_secret(client: Client, secret: ObjectKey, target: &Target) -> Self {
        Self::new(Place::Secret { client, key: secret }, target)
    }

    fn new(place: Place, target: &Target) -> Self {
        Self {
            place,
            target: target.clone(),
            names: target.names().iter().map(|name| plain(name)).collect(),
            lifetimes: Lifetimes::default(),
            clock: Clock::system(),
            injection: None,
            shared: Arc::default(),
        }
    }

    /// Makes the authorities known in the configurations and definitions that these webhooks have in the cluster: in all
    /// entries that point to the target, and in no others.
    #[must_use]
    pub fn injecting(self, client: Client, webhooks: &Webhooks) -> Self {
        let kinds = Kinds {
            mutating: webhooks.hooks().iter().any(|hook| hook.mutates),
            validating: webhooks.hooks().iter().any(|hook| !hook.mutates),
        };
        let (target, definitions) = (self.target.clone(), webhooks.definitions());
        Self {
            injection: Some(Injection::new(
                client,
                target,
                webhooks.name(),
                kinds,
                &definitions,
            )),
            ..self
        }
    }

    /// Further names that certificates are to have: host names and IP addresses.
    #[must_use]
    pub fn also_named(mut self, names: impl IntoIterator<Item = String>) -> Self {
        for name in names.into_iter().map(|name| plain(&name)) {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
        self
    }

    /// Other lifetimes.
    ///
    /// # Errors
    /// [`ProvisionError::Lifetimes`] if there would be a time without a certificate that is trusted: a third of an
    /// authority's life must be as long as a certificate's and the overlap together, and a third of a certificate's as long
    /// as the overlap.
    pub fn lifetimes(self, lifetimes: Lifetimes) -> Result<Self, ProvisionError> {
        lifetimes.check()?;
        Ok(Self { lifetimes, ..self })
    }

    /// Another clock.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// What a listener shows: nothing before the first [`Provisioner::refresh`].
    pub fn certificates(&self) -> Certificates {
        self.shared.certificates.clone()
    }

    /// The authorities that callers have to trust, PEM: none before the first [`Provisioner::refresh`]. They change, months
    /// before they have to.
    pub fn ca_bundle(&self) -> Option<String> {
        self.shared.bundle.lock().clone()
    }

    /// Makes or renews what has to be, shows what there is now, and makes the authorities known. Dropping the future
    /// half way is as a failure.
    ///
    /// # Errors
    /// [`ProvisionError`]. What was made before the failure stays; to try again goes on from there.
    pub async fn refresh(&self) -> Result<(), ProvisionError> {
        let refreshed = async {
            let bundle = self.renew().await?;
            if let Some(injection) = &self.injection {
                injection.inject(&bundle).await?;
                *self.shared.injected.lock() = Some(bundle);
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(PATIENCE, refreshed).await;
        let outcome = in_time.unwrap_or(Err(ProvisionError::Late(PATIENCE)));
        *self.shared.trouble.lock() = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    /// What a program with these certificates needs to be allowed: its Secret, and the configurations and definitions in which
    /// it makes its authorities known, all of them by their names.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = self.place.rules();
        rules.extend(self.injection.iter().flat_map(Injection::rules));
        rules
    }

    /// Refreshes every minute, and sooner after a failure, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut retry = RETRY;
        let refreshing = async {
            loop {
                let wait = match self.refresh().await {
                    Ok(()) => {
                        retry = RETRY;
                        LOOK
                    }
                    Err(error) => {
                        let wait = retry;
                        retry = LOOK.min(retry * 2);
                        tracing::warn!(%error, ?wait, "the certificates of webhooks are not in order; trying again");
                        wait
                    }
                };
                tokio::time::sleep(wait).await;
            }
        };
        stop.run_until_cancelled(refreshing).await;
    }

    /// What went wrong the last time that it was refreshed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().clone()
    }

    /// Whether authorities were made known, if that is to be done.
    pub(crate) fn is_known(&self) -> bool {
        self.injection.is_none() || self.shared.injected.lock().is_some()
    }

    /// The clock that certificates are dated by.
    pub(crate) fn dated_by(&self) -> Clock {
        self.clock.clone()
    }

    /// Makes certificates now if that needs nobody else.
    pub(crate) async fn prepare(&self) -> Result<(), ProvisionError> {
        match self.place {
            Place::Memory(_) => self.renew().await.map(|_| ()),
            Place::Secret { .. } => Ok(()),
        }
    }

    /// Makes or renews what has to be and shows it. Returns the authorities.
    async fn renew(&self) -> Result<String, ProvisionError> {
        for _ in 0..TRIES {
            let found = self.place.read().await?;
            let trusted = self.is_trusted(found.material.as_ref().map(Material::bundle));
            let now = self.clock.now();
            let next = advance(
                found.material.as_ref(),
                &self.names,
                &self.lifetimes,
                now,
                trusted,
            )?;
            let material = match (next, found.material.clone()) {
                (None, Some(current)) => current,
                (None, None) => continue,
                (Some(next), _) => {
                    if !self.place.write(found, &next).await? {
                        continue; // another replica was first: what it wrote is read now
                    }
                    next
                }
            };
            let (certificate, key) = (material.certificate.as_bytes(), material.key.as_bytes());
            let shown = self.shared.certificates.replace(certificate, key);
            shown.map_err(|error| ProvisionError::Unusable(error.to_string()))?;
            let bundle = material.bundle();
            *self.shared.bundle.lock() = Some(bundle.clone());
            return Ok(bundle);
        }
        Err(ProvisionError::Contended(self.place.to_string()))
    }

    /// Whether whoever calls knows these authorities, as far as that can be said.
    fn is_trusted(&self, bundle: Option<String>) -> bool {
        self.injection.is_none() || *self.shared.injected.lock() == bundle
    }
}

impl fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioner")
            .field("place", &self.place)
            .field("names", &self.names)
            .field("lifetimes", &self.lifetimes)
            .finish_non_exhaustive()
    }
}

/// A name as certificates have it, so that the same name is not missed in one again and again.
fn plain(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.to_lowercase(),
    }
}

// === impl Clock ===

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    /// A function's.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
