//! Allocation of what must be unique in a cluster: the IP addresses and node ports of services.
//!
//! What is held is written into the store in the service's own transaction, one key for each address and port. So an
//! address is held exactly as long as the service that has it, across crashes, restarts and several servers. What is
//! left to `repair` are services that a kube-apiserver on the same etcd has written or deleted, which keeps its
//! own books.
//!
//! - *Exclusive*: no two services hold the same address or port (two protocols of one service share a port).
//! - *Released*: what a service no longer has, or took with it when it was deleted, can be allocated again.
//! - *Dry*: a dry run answers with what would be allocated and holds nothing.

mod ranges;
mod repair;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Compare, Op, RangeRequest, Store};

pub use ranges::{InvalidRange, IpRange, PortRange};

use crate::ambient::Entropy;
use crate::registry::hooks::{Allocation, Allocators, Attributes};
use crate::registry::{keys, meta, storage};
use service::{Family, Held};

/// How many random picks are tried before the whole range is looked through.
const PICKS: usize = 8;

/// Allocates the IP addresses and node ports of services.
#[derive(Debug)]
pub struct ServiceAllocators {
    store: Arc<dyn Store>,
    addresses: Vec<IpRange>,
    ports: PortRange,
    entropy: Entropy,
}

/// What a service gains and loses by a write.
#[derive(Debug)]
struct Change {
    gained: BTreeSet<Held>,
    lost: BTreeSet<Held>,
    owner: String,
}

impl Allocation for Change {
    fn conditions(&self) -> Vec<Compare> {
        self.gained
            .iter()
            .map(|held| Compare::ModRevision(held.key().into(), 0))
            .collect()
    }

    fn changes(&self) -> Vec<Op> {
        let put = |held: &Held| Op::Put {
            key: held.key().into(),
            value: self.owner.clone().into_bytes().into(),
            ttl: None,
        };
        self.gained
            .iter()
            .map(put)
            .chain(self.lost.iter().map(Held::delete))
            .collect()
    }
}

impl ServiceAllocators {
    /// Allocates from these ranges, of which the first is the default; at most one for each IP version.
    pub fn new(store: Arc<dyn Store>, addresses: Vec<IpRange>, ports: PortRange) -> Self {
        Self {
            store,
            addresses,
            ports,
            entropy: Entropy::default(),
        }
    }

    /// The same, picking at random by this.
    #[must_use]
    pub(crate) fn by(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    fn range(&self, family: Family) -> Option<&IpRange> {
        self.addresses.iter().find(|range| range.family() == family)
    }

    fn families(&self) -> Vec<Family> {
        self.addresses.iter().map(IpRange::family).collect()
    }

    async fn is_free(&self, held: &Held) -> Result<bool, ApiError> {
        let response = self
            .store
            .range(RangeRequest::key(held.key()))
            .await
            .map_err(|e| storage::error(&e))?;
        Ok(response.kvs.is_empty())
    }

    /// A free one of `range`, none of `taken`: a random one, or the first, or none.
    async fn pick(
        &self,
        random: impl Fn() -> Option<Held>,
        all: impl Iterator<Item = Held>,
        taken: &BTreeSet<Held>,
    ) -> Result<Option<Held>, ApiError> {
        for _ in 0..PICKS {
            let Some(held) = random() else { break };
            if !taken.contains(&held) && self.is_free(&held).await? {
                return Ok(Some(held));
            }
        }
        let request = RangeRequest::prefix(keys::ROOT.to_owned() + service::PREFIX);
        let response = self.store.range(request).await.map_err(|e| storage::error(&e))?;
        let used: BTreeSet<_> = response.kvs.iter().map(|kv| kv.key.clone()).collect();
        let free = |held: &Held| !taken.contains(held) && !used.contains(held.key().as_bytes());
        Ok({ all }.find(free))
    }

    /// Completes `clusterIPs`: one address for each family of the service.
    async fn allocate_addresses(&self, service: &mut Value, old: &BTreeSet<Held>) -> Result<(), ApiError> {
        let name = meta::name(service).to_owned();
        let families = service::families(service);
        let mut addresses = service::cluster_ips(service);
        for (index, family) in families.into_iter().enumerate() {
            let Some(range) = self.range(family) else { continue };
            match addresses.get(index) {
                None => {
                    let held = self
                        .pick(
                            || range.random(&self.entropy).map(Held::Ip),
                            range.all().map(Held::Ip),
                            old,
                        )
                        .await?;
                    let Some(Held::Ip(ip)) = held else {
                        return Err(ApiError::internal(
                            "failed to allocate a serviceIP: range is full",
                        ));
                    };
                    addresses.push(ip.to_string());
                }
                Some(text) => {
                    let Ok(ip) = text.parse() else { continue };
                    let held = Held::Ip(ip);
                    let why = if old.contains(&held) {
                        continue;
                    } else if !range.contains(ip) {
                        "the provided network does not match the current range"
                    } else if !self.is_free(&held).await? {
                        "provided IP is already allocated"
                    } else {
                        continue;
                    };
                    let at = FieldPath::new("spec").child("clusterIPs");
                    let text = format!("failed to allocate IP {ip}: {why}");
                    return Err(invalid(&name, FieldError::invalid(&at, json!(addresses), text)));
                }
            }
        }
        service["spec"]["clusterIP"] = json!(addresses.first());
        service["spec"]["clusterIPs"] = json!(addresses);
        Ok(())
    }

    /// Fills in the node ports that the service needs, and checks those that it names.
    async fn allocate_ports(&self, service: &mut Value, old: &BTreeSet<Held>) -> Result<(), ApiError> {
        let name = meta::name(service).to_owned();
        let mut taken = old.clone();
        taken.extend(service::held(service));
        for (index, path) in service::node_ports(service).into_iter().enumerate() {
            let at = path.field(index);
            match path.get(service) {
                Some(port) => {
                    let held = Held::Port(port);
                    let why = if old.contains(&held) {
                        continue;
                    } else if !self.ports.contains(port) {
                        format!(
                            "provided port is not in the valid range. The range of valid ports is {}",
                            self.ports
                        )
                    } else if !self.is_free(&held).await? {
                        "provided port is already allocated".to_owned()
                    } else {
                        continue;
                    };
                    return Err(invalid(&name, FieldError::invalid(&at, port, why)));
                }
                None => {
                    if let Some(port) = path.shared(service) {
                        path.set(service, port);
                        continue;
                    }
                    let random = || Some(Held::Port(self.ports.random(&self.entropy)));
                    let held = self
                        .pick(random, self.ports.all().map(Held::Port), &taken)
                        .await?;
                    let Some(Held::Port(port)) = held else {
                        return Err(ApiError::internal("failed to allocate a nodePort: range is full"));
                    };
                    taken.insert(Held::Port(port));
                    path.set(service, port);
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Allocators for ServiceAllocators {
    fn concerns(&self, attributes: &Attributes) -> bool {
        is_services(&attributes.resource) && attributes.subresource.is_empty()
    }

    async fn allocate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Box<dyn Allocation>>, ApiError> {
        if !self.concerns(attributes) || !object["spec"].is_object() {
            return Ok(None);
        }
        if let Some(old) = old {
            service::keep_allocated(object, old);
        }
        service::sync_cluster_ips(object, old);
        service::init_families(object, old, &self.families())
            .map_err(|errors| ApiError::invalid(&kind(), meta::name(object), &errors))?;
        let before = old.map(service::held).unwrap_or_default();
        if service::needs_cluster_ip(object) {
            self.allocate_addresses(object, &before).await?;
        }
        self.allocate_ports(object, &before).await?;
        let after = service::held(object);
        let change = Change {
            gained: after.difference(&before).cloned().collect(),
            lost: before.difference(&after).cloned().collect(),
            owner: format!("{}/{}", attributes.namespace, meta::name(object)),
        };
        Ok(Some(Box::new(change)))
    }

    fn release(&self, resource: &Resource, object: &Value) -> Vec<Op> {
        if !is_services(resource) {
            return Vec::new();
        }
        service::held(object).iter().map(Held::delete).collect()
    }

    fn released(&self, _: &Resource, _: &Value) {}
}

fn is_services(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

fn kind() -> GroupKind {
    GroupKind::new("", "Service")
}

fn invalid(name: &str, error: FieldError) -> ApiError {
    ApiError::invalid(&kind(), name, &[error])
}
