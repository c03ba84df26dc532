//! Services are filled in, checked and changed as Kubernetes does.

use serde_json::{Value, json};

use super::validate::{validate, validate_update};
use super::{default, drop_dependents};
use crate::strategies::checks::tests::told;

fn service(fields: &Value) -> Value {
    let mut service = json!({"spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}});
    for (field, value) in fields.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    default(&mut service);
    service
}

#[test]
fn errors_are_those_of_kubernetes() {
    let cases: [(Value, &[&str]); 7] = [
        (json!({}), &[]),
        (json!({"ports": []}), &["spec.ports: Required value"]),
        (
            json!({"type": "ExternalName", "clusterIPs": [], "ipFamilies": [], "ipFamilyPolicy": null}),
            &["spec.externalName: Required value"],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}, {"port": 0, "name": "b"}]}),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ],
        ),
        (
            json!({"sessionAffinity": "Often", "type": "Some"}),
            &[
                "spec.sessionAffinity: Unsupported value: \"Often\": supported values: \"ClientIP\", \"None\"",
                "spec.type: Unsupported value: \"Some\": supported values: \"ClusterIP\", \"ExternalName\", \
                 \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["10.0.0.0"]}),
            &[
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. \
                 10.9.8.0/24 or 2001:db8::/64)",
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible \
                 services",
            ],
        ),
        (
            json!({"externalIPs": ["127.0.0.1"], "externalTrafficPolicy": "Cluster"}),
            &[
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
                 ::1/128)",
            ],
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(told(&validate(&service(&fields))), expected, "{fields}");
    }
    let moved = service(&json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}));
    let expected = ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"];
    assert_eq!(told(&validate_update(&moved, &service(&json!({})))), expected);
}

#[test]
fn another_type_drops_what_it_has_no_use_for() {
    let old = service(&json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30001}]}));
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    drop_dependents(&mut new, &old);
    let expected = service(&json!({"type": "ClusterIP"}));
    assert_eq!(new["spec"], expected["spec"]);
    assert_eq!(told(&validate_update(&new, &old)), [""; 0]);
}
