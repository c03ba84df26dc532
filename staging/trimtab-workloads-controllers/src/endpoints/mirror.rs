//! The controller that mirrors Endpoints: those that people write for Services without a selector, as EndpointSlices, which is where
//! everybody looks.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use trimtab_client_cache::Cached;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::source::{Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use super::slices::{Family, Groups, MANAGED_BY, Plan, SERVICE};
use super::{carry_out, managed};
use crate::workload::template;

/// The controller's name.
pub(crate) const NAME: &str = "endpointslice-mirroring-controller";

/// How many Endpoints are worked on at once. kube-controller-manager's figure.
const WORKERS: usize = 5;
/// What the label says whose a slice is to keep.
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// The label of Endpoints that are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that are somebody's lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints alone.
const OWN: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// How many addresses of a subset are mirrored. kube-controller-manager's figure.
const MOST: usize = 1000;
/// By whether their addresses are of version 6.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, _: &crate::Options) -> Result<()> {
    let same = |service: &Cached<Service>| vec![service.key().clone()];
    manager
        .controller::<Endpoints, _>(Mirror)
        .named(NAME)
        .reporting_as(NAME)
        .owns::<EndpointSlice>()
        .source(Source::watch_cached::<Service>(Watch::new(), same))
        .workers(WORKERS)
        .start()
        .map(drop)
}

struct Mirror;

impl Reconcile<Endpoints> for Mirror {
    async fn reconcile(&self, turn: &mut Turn<Endpoints>) -> Result<Next> {
        let Some(endpoints) = turn.latest() else {
            return Ok(Next::Done); // what it owns is collected
        };
        let Some(uid) = &endpoints.metadata.uid else {
            return Ok(Next::Done);
        };
        let mirrored = managed(turn, uid, MANAGER)?;
        let service = turn.store::<Service>()?.get(turn.key());
        let by_hand = service.is_some_and(|service| {
            let selector: Option<serde_json::Value> = service.read(["spec", "selector"]).ok().flatten();
            selector.is_none()
        });
        if !by_hand || !is_mirrored(&endpoints.metadata) {
            return turn.delete_all(&mirrored).await.failure.map(|()| Next::Done);
        }
        let decoded = mirrored
            .iter()
            .map(Cached::decode)
            .collect::<Result<Vec<_>, _>>()?;
        let (plan, invalid) = decide(&endpoints, &decoded);
        if invalid > 0 {
            let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            turn.event(Note::warning("InvalidIPAddress", "Mirror", message));
        }
        carry_out(turn, plan, &mirrored).await?;
        Ok(Next::Done)
    }
}

/// Whether Endpoints of a Service without a selector are to be mirrored.
fn is_mirrored(meta: &ObjectMeta) -> bool {
    let skipped = meta.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let lock = meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(LEADER));
    skipped.is_none_or(|skipped| skipped != "true") && !lock
}

/// Which slices there are to be, and how many addresses are none.
fn decide(endpoints: &Endpoints, there: &[Arc<EndpointSlice>]) -> (Plan, usize) {
    let (mut plan, mut invalid) = (Plan::default(), 0);
    let mut by_family = FAMILIES.map(|_| Groups::new());
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let key = json!(ports).to_string();
        for (address, ready) in addresses(subset) {
            match address.ip.parse::<IpAddr>() {
                Ok(ip) => {
                    let groups = &mut by_family[usize::from(ip.is_ipv6())];
                    let group = groups.entry(key.clone());
                    let group = group.or_insert_with(|| (ports.clone(), Vec::new()));
                    group.1.push(endpoint(address, ready));
                }
                Err(_) => invalid += 1,
            }
        }
    }
    let blank = &blank(endpoints);
    for (family, groups) in FAMILIES.into_iter().zip(by_family) {
        let slices = Family {
            blank,
            family,
            there,
            shares: None,
        };
        slices.decide(groups, false, &mut plan);
    }
    (plan, invalid)
}

fn blank(endpoints: &Endpoints) -> ObjectMeta {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|annotation, _| !OWN.contains(&annotation.as_str()));
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: template::owner_of(endpoints).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    ports.collect()
}

/// The addresses of a subset that are mirrored, and whether they are ready.
fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten();
    ready.chain(unready.map(|address| (address, false))).take(MOST)
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_is_found_in_slices() {
        let written = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "u", "labels": {"a": "b"},
                "annotations": {"c": "d", OWN[0]: "{}"}},
            "subsets": [{"addresses": [{"ip": "1.2.3.4"}, {"ip": "::1"}, {"ip": "nonsense"}],
                "notReadyAddresses": [{"ip": "1.2.3.5"}], "ports": [{"port": 80}]}]});
        let endpoints: Endpoints = serde_json::from_value(written).expect("Endpoints");
        let (plan, invalid) = decide(&endpoints, &[]);
        assert_eq!(invalid, 1);
        let [four, six] = &plan.create[..] else {
            panic!("one of each family: {:?}", plan.create);
        };
        assert_eq!((&*four.address_type, &*six.address_type), ("IPv4", "IPv6"));
        let told = |slice: &EndpointSlice| -> Vec<(String, Option<bool>)> {
            let endpoints = slice.endpoints.iter().flatten();
            let told = endpoints.map(|one| {
                (
                    one.addresses[0].clone(),
                    one.conditions.as_ref().and_then(|is| is.ready),
                )
            });
            told.collect()
        };
        assert_eq!(
            told(four),
            [("1.2.3.4".into(), Some(true)), ("1.2.3.5".into(), Some(false))]
        );
        assert_eq!(told(six), [("::1".into(), Some(true))]);
        let meta = &four.metadata;
        assert_eq!(
            json!(meta.labels),
            json!({"a": "b", SERVICE: "db", MANAGED_BY: MANAGER})
        );
        assert_eq!(json!(meta.annotations), json!({"c": "d"}));

        // That is all there is to do, until something changes; and nothing stays of what is gone.
        let there: Vec<_> = plan.create.into_iter().map(Arc::new).collect();
        let (again, _) = decide(&endpoints, &there);
        assert!(
            again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(),
            "{again:?}"
        );
        let empty = Endpoints {
            subsets: None,
            ..endpoints
        };
        assert_eq!(decide(&empty, &there).0.delete, [0, 1]);
    }

    #[test]
    fn locks_and_what_is_not_to_be_mirrored_are_left_alone() {
        let with = |meta| is_mirrored(&serde_json::from_value(meta).expect("metadata"));
        assert!(with(json!({"labels": {SKIP: "false"}})));
        assert!(!with(json!({"labels": {SKIP: "true"}})));
        assert!(!with(json!({"annotations": {LEADER: "{}"}})));
    }
}
