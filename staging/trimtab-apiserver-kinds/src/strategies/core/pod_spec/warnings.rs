//! What users are warned of in pod specs that are accepted.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldPath, names};

use crate::strategies::checks::{int, items, text};
use crate::strategies::fields::quantity;

/// Labels of nodes that are no longer set, and what to use instead.
const OLD_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

/// Kinds of volumes that no longer work, or soon will not.
pub(in crate::strategies::core) const OLD_VOLUMES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn old_label(name: &str) -> Option<&'static str> {
    OLD_LABELS
        .iter()
        .find(|(old, _)| *old == name)
        .map(|(_, why)| *why)
}

/// What to warn of in a term that selects nodes; `values` says whether those are looked at, which else are refused.
pub(in crate::strategies::core) fn node_term_warnings(
    term: &Value,
    values: bool,
    at: &FieldPath,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, expression) in items(&term["matchExpressions"]).iter().enumerate() {
        let (key, at) = (text(&expression["key"]), at.child("matchExpressions").index(i));
        warnings.extend(old_label(key).map(|why| format!("{}: {key} is {why}", at.child("key"))));
        for (i, value) in items(&expression["values"]).iter().enumerate().filter(|_| values) {
            let at = at.child("values").index(i);
            let wrong = names::label_value(text(value));
            warnings.extend(
                wrong
                    .iter()
                    .map(|why| format!("{at}: {} is invalid, {why}", text(value))),
            );
        }
    }
    warnings
}

/// What to warn of in a pod spec; `at` is the path of the spec.
pub(in crate::strategies) fn pod_spec_warnings(spec: &Value, at: &FieldPath) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        let path = at.child("nodeSelector").key(key);
        warnings.extend(old_label(key).map(|why| format!("{path}: {why}")));
    }
    let nodes = at.child("affinity").child("nodeAffinity");
    let (required, preferred) = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    );
    let affinity = &spec["affinity"]["nodeAffinity"];
    let path = nodes.child(required).child("nodeSelectorTerms");
    for (i, term) in items(&affinity[required]["nodeSelectorTerms"]).iter().enumerate() {
        warnings.extend(node_term_warnings(term, false, &path.index(i)));
    }
    for (i, term) in items(&affinity[preferred]).iter().enumerate() {
        let at = nodes.child(preferred).index(i).child("preference");
        warnings.extend(node_term_warnings(&term["preference"], true, &at));
    }
    for (i, constraint) in items(&spec["topologySpreadConstraints"]).iter().enumerate() {
        let at = at.child("topologySpreadConstraints").index(i);
        let key = text(&constraint["topologyKey"]);
        let path = at.child("topologyKey");
        warnings.extend(old_label(key).map(|why| format!("{path}: {key} is {why}")));
        if constraint["labelSelector"].is_null() {
            warnings.push(matches_nothing(&at.child("labelSelector")));
        }
    }
    for (i, volume) in items(&spec["volumes"]).iter().enumerate() {
        let at = at.child("volumes").index(i);
        let old = OLD_VOLUMES.iter().filter(|(kind, _)| !volume[*kind].is_null());
        warnings.extend(old.map(|(kind, why)| format!("{}: {why}", at.child(kind))));
    }
    warnings.extend(items(&spec["volumes"]).iter().flat_map(overlaps));
    warnings.extend(repeated(spec, at, "hostAliases", "ip"));
    warnings.extend(repeated(spec, at, "imagePullSecrets", "name"));
    for (i, secret) in items(&spec["imagePullSecrets"]).iter().enumerate() {
        if text(&secret["name"]).is_empty() {
            let at = at.child("imagePullSecrets").index(i).child("name");
            warnings.push(format!("{at}: invalid empty name \"\""));
        }
    }
    warnings.extend(containers(spec, at));
    if int(&spec["terminationGracePeriodSeconds"]) < 0 {
        let at = at.child("terminationGracePeriodSeconds");
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        warnings.push(format!("{at}: {why}"));
    }
    warnings.extend(neighbours(spec, &at.child("affinity")));
    warnings
}

/// A path in a volume, and what is there.
struct Placed<'a> {
    path: &'a str,
    /// Empty where it goes without saying.
    source: String,
}

impl Placed<'_> {
    fn is_over(&self, other: &Self) -> bool {
        let below = |outer: &str, inner: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let named = !self.path.is_empty() && !other.path.is_empty();
        named && (below(self.path, other.path) || below(other.path, self.path))
    }
}

impl std::fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.path)?;
        match self.source.as_str() {
            "" => Ok(()),
            source => write!(f, " ({source})"),
        }
    }
}

/// The items of a source of a volume.
fn placed<'a>(list: &'a Value, source: &str) -> Vec<Placed<'a>> {
    let place = |item: &'a Value| Placed {
        path: text(&item["path"]),
        source: source.to_owned(),
    };
    items(list).iter().map(place).collect()
}

/// What one source of a projected volume puts where.
fn projected(source: &Value) -> Vec<Placed<'_>> {
    let one = |path: &'static str, of: &str| Placed {
        path: text(&source[of][path]),
        source: String::new(),
    };
    let named = |path: &'static str, of: &str, named: String| Placed {
        source: named,
        ..one(path, of)
    };
    for (of, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if !source[of]["items"].is_null() {
            return placed(
                &source[of]["items"],
                &format!("{kind} {:?}", text(&source[of]["name"])),
            );
        }
    }
    if !source["downwardAPI"]["items"].is_null() {
        return placed(&source["downwardAPI"]["items"], "DownwardAPI");
    }
    if !source["serviceAccountToken"].is_null() {
        let name = "ServiceAccountToken".to_owned();
        return vec![named("path", "serviceAccountToken", name)];
    }
    if let bundle @ Value::Object(_) = &source["clusterTrustBundle"] {
        let name = ["name", "signerName"].map(|field| text(&bundle[field]));
        let name = if bundle["name"].is_null() {
            name[1]
        } else {
            name[0]
        };
        return vec![named(
            "path",
            "clusterTrustBundle",
            format!("ClusterTrustBundle {name:?}"),
        )];
    }
    let parts = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let parts = parts.map(|(path, part)| named(path, "podCertificate", part.to_owned()));
    parts.into_iter().filter(|part| !part.path.is_empty()).collect()
}

/// Paths of a volume that lie in each other's way, and projected sources that are none.
fn overlaps(volume: &Value) -> Vec<String> {
    let name = text(&volume["name"]);
    let mut warnings = Vec::new();
    let mut look =
        |what: &str, paths: Vec<Placed<'_>>| {
            let mut seen: Vec<Placed<'_>> = Vec::new();
            for mut placed in paths {
                placed.path = placed.path.trim_end_matches('/');
                let over = seen.iter().filter(|other| placed.is_over(other));
                warnings.extend(over.map(|other| {
                    format!("volume {name:?} ({what}): overlapping paths: {placed} with {other}")
                }));
                seen.push(placed);
            }
        };
    for (kind, named, what) in [
        ("configMap", "name", "ConfigMap"),
        ("secret", "secretName", "Secret"),
    ] {
        let source = &volume[kind];
        if !source["items"].is_null() {
            look(
                &format!("{what} {:?}", text(&source[named])),
                placed(&source["items"], ""),
            );
        }
    }
    look("DownwardAPI", placed(&volume["downwardAPI"]["items"], ""));
    let sources = items(&volume["projected"]["sources"]);
    look("Projected", sources.iter().flat_map(projected).collect());
    let empty = |source: &&Value| {
        source
            .as_object()
            .is_none_or(|fields| fields.values().all(Value::is_null))
    };
    let none = sources.iter().filter(empty);
    warnings.extend(none.map(|_| format!("volume {name:?} (Projected) has no sources provided")));
    warnings
}

fn matches_nothing(at: &FieldPath) -> String {
    format!("{at}: a null labelSelector results in matching no pod")
}

/// Elements of a list that have the same key.
fn repeated(spec: &Value, at: &FieldPath, list: &str, key: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let all = items(&spec[list]).iter().enumerate();
    let again = all.filter(|(_, item)| !seen.insert(text(&item[key])));
    again
        .map(|(i, item)| {
            let at = at.child(list).index(i).child(key);
            format!("{at}: duplicate {key} {:?}", text(&item[key]))
        })
        .collect()
}

fn containers(spec: &Value, at: &FieldPath) -> Vec<String> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let all: Vec<(FieldPath, &Value)> = lists
        .iter()
        .flat_map(|list| {
            items(&spec[*list])
                .iter()
                .enumerate()
                .map(move |(i, c)| (list, i, c))
        })
        .map(|(list, i, container)| (at.child(list).index(i), container))
        .collect();
    let mut warnings = Vec::new();
    for (at, container) in &all {
        for (resource, part) in [
            ("memory", "limits"),
            ("memory", "requests"),
            ("ephemeral-storage", "limits"),
            ("ephemeral-storage", "requests"),
        ] {
            let amount = container["resources"][part].get(resource).and_then(quantity);
            if let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) {
                let at = at.child("resources").child(part).key(resource);
                let amount = amount.to_string();
                warnings.push(format!(
                    "{at}: fractional byte value {amount:?} is invalid, must be an integer"
                ));
            }
        }
        warnings.extend(hidden_variables(container, &at.child("env")));
    }
    warnings.extend(ports(&all));
    warnings
}

fn hidden_variables(container: &Value, at: &FieldPath) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = HashSet::new();
    for (i, variable) in items(&container["env"]).iter().enumerate() {
        let (name, value) = (text(&variable["name"]), text(&variable["value"]));
        if seen.insert(name) {
            continue;
        }
        // One that is made of the former is fine.
        let former = format!("$({name})");
        if !variable["valueFrom"].is_null() || value == former || !value.contains(&former) {
            let why = format!("hides previous definition of {name:?}, which may be dropped when using apply");
            warnings.push(format!("{}: {why}", at.index(i)));
        }
    }
    warnings
}

fn ports(containers: &[(FieldPath, &Value)]) -> Vec<String> {
    let all: Vec<(FieldPath, &Value)> = containers
        .iter()
        .flat_map(|(at, container)| {
            let ports = items(&container["ports"]).iter().enumerate();
            ports.map(move |(i, port)| (at.child("ports").index(i), port))
        })
        .collect();
    let mut warnings = Vec::new();
    for (i, (at, port)) in all.iter().enumerate() {
        let host = |port: &Value| (text(&port["hostIP"]).to_owned(), int(&port["hostPort"]));
        let (ip, number) = host(port);
        if !ip.is_empty() && number == 0 {
            // Kubernetes shows its own struct.
            let shown = format!(
                "{{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                text(&port["name"]),
                int(&port["containerPort"]),
                text(&port["protocol"])
            );
            warnings.push(format!("{at}: hostIP set without hostPort: {shown}"));
        }
        let same = |other: &Value| {
            int(&other["containerPort"]) == int(&port["containerPort"])
                && other["protocol"] == port["protocol"]
        };
        for (other_at, other) in all.iter().take(i).filter(|(_, other)| same(other)) {
            let (other_ip, other_number) = host(other);
            let how = if ip == other_ip && number == other_number {
                "duplicate"
            } else if number == 0 || other_number == 0 {
                "overlapping"
            } else if number == other_number && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            warnings.push(format!("{at}: {how} port definition with {other_at}"));
        }
    }
    let mut names: HashMap<&str, &FieldPath> = HashMap::new();
    for (at, port) in all.iter().filter(|(_, port)| !text(&port["name"]).is_empty()) {
        let name = text(&port["name"]);
        match names.get(name) {
            Some(first) => warnings.push(format!(
                "{at}: duplicate port name {name:?} with {first}, services and probes that select ports by name will \
                 use {first}"
            )),
            None => drop(names.insert(name, at)),
        }
    }
    warnings
}

/// Terms about other pods that match none.
fn neighbours(spec: &Value, at: &FieldPath) -> Vec<String> {
    let mut warnings = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (required, preferred) = (
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        );
        let (of, at) = (&spec["affinity"][kind], at.child(kind));
        for (i, term) in items(&of[required]).iter().enumerate() {
            if term["labelSelector"].is_null() {
                warnings.push(matches_nothing(
                    &at.child(required).index(i).child("labelSelector"),
                ));
            }
        }
        for (i, term) in items(&of[preferred]).iter().enumerate() {
            if term["podAffinityTerm"]["labelSelector"].is_null() {
                let at = at.child(preferred).index(i).child("podAffinityTerm");
                warnings.push(matches_nothing(&at.child("labelSelector")));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_are_warned_of_what_they_hardly_mean() {
        let port = json!({"containerPort": 80, "protocol": "TCP", "name": "http"});
        let spec = json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux", "kubernetes.io/os": "linux"},
            "imagePullSecrets": [{"name": "a"}, {"name": "a"}],
            "containers": [
                {"ports": [port], "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"},
                    {"name": "A", "value": "3"}], "resources": {"limits": {"memory": "100m"}}},
                {"ports": [port]}
            ]
        });
        let expected = [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[1].ports[0]: duplicate port name \"http\" with spec.containers[0].ports[0], services and \
             probes that select ports by name will use spec.containers[0].ports[0]",
        ];
        assert_eq!(pod_spec_warnings(&spec, &FieldPath::new("spec")), expected);
    }
}
