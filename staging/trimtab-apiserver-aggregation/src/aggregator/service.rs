//! APIServices as they are written: what they register, and how they are ordered.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trimtab_apiserver_core::extensions::version_rank;

/// The group of APIServices.
pub(crate) const GROUP: &str = "apiregistration.k8s.io";
/// Their resource.
pub(crate) const PLURAL: &str = "apiservices";

/// An APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    group_priority: i64,
    version_priority: i64,
    /// Who serves it; `None` when this server does.
    pub(crate) reference: Option<Reference>,
    /// Whether its condition says that it is there.
    pub(crate) is_available: bool,
}

/// The server behind an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    /// The authorities of its certificate (PEM); empty for those of the system.
    pub(crate) authorities: Vec<u8>,
    /// Whether any certificate will do.
    pub(crate) is_insecure: bool,
}

impl Registered {
    /// Reads an APIService; `None` when it has no name. Others cannot be stored.
    pub(crate) fn read(object: &Value) -> Option<Self> {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let service = &spec["service"];
        let reference = service.is_object().then(|| Reference {
            namespace: text(&service["namespace"]),
            name: text(&service["name"]),
            port: service["port"]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(443),
            authorities: STANDARD
                .decode(spec["caBundle"].as_str().unwrap_or_default())
                .unwrap_or_default(),
            is_insecure: spec["insecureSkipTLSVerify"] == true,
        });
        Some(Self {
            name: Some(text(&metadata["name"])).filter(|name| !name.is_empty())?,
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            reference,
            is_available: available(object).is_some_and(|condition| condition["status"] == "True"),
        })
    }

    /// Where its group and version are served.
    pub(crate) fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }
}

/// The condition `Available` of an APIService.
pub(crate) fn available(object: &Value) -> Option<&Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == "Available")
}

/// Groups by the highest priority that any of their versions gives them, and versions by priority, then by their names, as
/// kube-aggregator sorts them.
pub(crate) fn ordered<'a>(all: impl Iterator<Item = &'a Registered>) -> Vec<Vec<&'a Registered>> {
    let mut all: Vec<&Registered> = all.collect();
    all.sort_by_key(|service| (Reverse(service.group_priority), &service.name));
    let mut groups: Vec<Vec<&Registered>> = Vec::new();
    for service in all {
        match groups.iter_mut().find(|group| group[0].group == service.group) {
            Some(group) => group.push(service),
            None => groups.push(vec![service]),
        }
    }
    for group in &mut groups {
        group.sort_by_key(|service| Reverse((service.version_priority, version_rank(&service.version))));
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(group: &str, version: &str, priorities: (i64, i64)) -> Registered {
        let object = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": {"group": group,
            "version": version, "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1}});
        Registered::read(&object).expect("has a name")
    }

    #[test]
    fn groups_and_versions_have_kube_aggregators_order() {
        let all = [
            service("b.io", "v1", (1000, 100)),
            service("a.io", "v1beta1", (1000, 100)),
            service("a.io", "v1", (1000, 100)),
            service("a.io", "v2alpha1", (2000, 100)),
            service("apps", "v1", (17800, 15)),
            service("a.io", "v0", (1000, 200)),
        ];
        let names: Vec<Vec<&str>> = ordered(all.iter())
            .into_iter()
            .map(|group| group.iter().map(|service| service.name.as_str()).collect())
            .collect();
        let wanted = vec![
            vec!["v1.apps"],
            vec!["v0.a.io", "v1.a.io", "v1beta1.a.io", "v2alpha1.a.io"],
            vec!["v1.b.io"],
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let object = json!({"metadata": {"name": "v1.g"}, "spec": {"group": "g", "version": "v1",
            "caBundle": STANDARD.encode("pem"), "service": {"namespace": "n", "name": "s"}},
            "status": {"conditions": [{"type": "Other", "status": "True"}, {"type": "Available", "status": "False"}]}});
        let mut read = Registered::read(&object).expect("has a name");
        let reference = read.reference.take().expect("a Service");
        assert_eq!(
            (
                reference.port,
                reference.authorities.as_slice(),
                reference.is_insecure
            ),
            (443, &b"pem"[..], false)
        );
        assert!(!read.is_available);
        assert_eq!(read.path(), "/apis/g/v1");
        assert_eq!(service("", "v1", (1, 1)).path(), "/api/v1");
        assert_eq!(Registered::read(&json!({})), None);
    }
}
