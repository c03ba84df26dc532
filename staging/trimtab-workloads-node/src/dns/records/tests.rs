//! Questions and answers of a small cluster.

use serde_json::{Value, json};

use super::*;

fn records() -> Records {
    let mut records = Records::new("Cluster.Local.");
    let service = |name: &str, spec: Value| -> Service {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}))
            .expect("a service")
    };
    let ports =
        json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 9}]);
    records.set_service(&service(
        "web",
        json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5", "fd00::5"], "ports": ports}),
    ));
    records.set_service(&service(
        "db",
        json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}),
    ));
    records.set_service(&service("empty", json!({"clusterIP": "None"})));
    records.set_service(&service(
        "other",
        json!({"type": "ExternalName", "externalName": "Example.com."}),
    ));
    records.set_slice(&slice(
        "db-1",
        "db",
        "IPv4",
        &[
            ("10.1.0.1", "db-0", true),
            ("10.1.0.2", "", true),
            ("10.1.0.3", "db-2", false),
        ],
    ));
    records.set_slice(&slice("db-2", "db", "IPv6", &[("fd01::1", "db-0", true)]));
    records
}

fn slice(name: &str, service: &str, family: &str, endpoints: &[(&str, &str, bool)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, hostname, ready)| json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {SERVICE_NAME: service}},
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))
    .expect("a slice")
}

/// The answers in one line each; `none` for a name without them, `no name` and `not ours`.
fn ask(records: &Records, name: &str, kind: Kind) -> Vec<String> {
    let told = |data: &Data| match data {
        Data::Address(address) => address.to_string(),
        Data::Srv { port, weight, target } => format!("0 {weight} {port} {target}"),
        Data::Cname(other) | Data::Ptr(other) | Data::Ns(other) | Data::Txt(other) => other.clone(),
        Data::Soa => "soa".to_owned(),
    };
    match records.answer(name, kind) {
        Answer::Found { answers, .. } if answers.is_empty() => vec!["none".to_owned()],
        Answer::Found { answers, .. } => answers.iter().map(|(_, data)| told(data)).collect(),
        Answer::NoName => vec!["no name".to_owned()],
        Answer::NotOurs => vec!["not ours".to_owned()],
    }
}

#[test]
fn names_are_answered_as_the_specification_has_it() {
    let records = records();
    let cases: &[(&str, Kind, &[&str])] = &[
        ("web.ns.svc.cluster.local.", Kind::A, &["10.0.0.5"]),
        ("WEB.ns.SVC.cluster.local", Kind::Aaaa, &["fd00::5"]),
        ("web.ns.svc.cluster.local", Kind::Txt, &["none"]),
        ("web.other.svc.cluster.local", Kind::A, &["no name"]),
        ("nobody.ns.svc.cluster.local", Kind::A, &["no name"]),
        (
            "_http._tcp.web.ns.svc.cluster.local",
            Kind::Srv,
            &["0 100 80 web.ns.svc.cluster.local"],
        ),
        (
            "_dns._udp.web.ns.svc.cluster.local",
            Kind::Srv,
            &["0 100 53 web.ns.svc.cluster.local"],
        ),
        ("_dns._tcp.web.ns.svc.cluster.local", Kind::Srv, &["no name"]),
        ("_http._tcp.web.ns.svc.cluster.local", Kind::A, &["none"]),
        ("_tcp.web.ns.svc.cluster.local", Kind::A, &["none"]),
        ("db.ns.svc.cluster.local", Kind::A, &["10.1.0.1", "10.1.0.2"]),
        ("db.ns.svc.cluster.local", Kind::Aaaa, &["fd01::1"]),
        ("db-0.db.ns.svc.cluster.local", Kind::A, &["10.1.0.1"]),
        ("db-0.db.ns.svc.cluster.local", Kind::Aaaa, &["fd01::1"]),
        ("10-1-0-2.db.ns.svc.cluster.local", Kind::A, &["10.1.0.2"]),
        // Not ready: not there.
        ("db-2.db.ns.svc.cluster.local", Kind::A, &["no name"]),
        (
            "_http._tcp.db.ns.svc.cluster.local",
            Kind::Srv,
            &[
                "0 100 8080 10-1-0-2.db.ns.svc.cluster.local",
                "0 100 8080 db-0.db.ns.svc.cluster.local",
            ],
        ),
        ("empty.ns.svc.cluster.local", Kind::A, &["no name"]),
        ("other.ns.svc.cluster.local", Kind::A, &["example.com"]),
        ("other.ns.svc.cluster.local", Kind::Cname, &["example.com"]),
        ("10-9-8-7.ns.pod.cluster.local", Kind::A, &["10.9.8.7"]),
        ("10-9-8-7.nowhere.pod.cluster.local", Kind::A, &["no name"]),
        ("dns-version.cluster.local", Kind::Txt, &["1.1.0"]),
        ("cluster.local", Kind::Soa, &["soa"]),
        ("cluster.local", Kind::A, &["none"]),
        ("svc.cluster.local", Kind::A, &["none"]),
        ("ns.svc.cluster.local", Kind::A, &["none"]),
        ("nowhere.svc.cluster.local", Kind::A, &["no name"]),
        ("5.0.0.10.in-addr.arpa.", Kind::Ptr, &["web.ns.svc.cluster.local"]),
        (
            "1.0.1.10.in-addr.arpa",
            Kind::Ptr,
            &["db-0.db.ns.svc.cluster.local"],
        ),
        ("2.0.1.10.in-addr.arpa", Kind::Ptr, &["no name"]),
        (
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            Kind::Ptr,
            &["web.ns.svc.cluster.local"],
        ),
        ("example.com", Kind::A, &["not ours"]),
        ("notcluster.local", Kind::A, &["not ours"]),
        ("a.b.c.d.e.ns.svc.cluster.local", Kind::A, &["no name"]),
        (".", Kind::Ns, &["not ours"]),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(&records, name, *kind), *expected, "{name} {kind:?}");
    }
    let Answer::Found { beside, .. } = records.answer("_http._tcp.db.ns.svc.cluster.local", Kind::Srv) else {
        panic!("there are targets");
    };
    assert_eq!(beside.len(), 3, "addresses come with the targets");
}

#[test]
fn names_follow_what_they_are_names_of() {
    let mut records = records();
    let name = "db-0.db.ns.svc.cluster.local";
    records.set_slice(&slice("db-1", "db", "IPv4", &[("10.1.0.9", "db-0", true)]));
    records.remove_slice(&ObjectKey::namespaced("ns", "db-2"));
    assert_eq!(ask(&records, name, Kind::A), ["10.1.0.9"]);
    assert_eq!(ask(&records, "9.0.1.10.in-addr.arpa", Kind::Ptr), [name]);
    assert_eq!(ask(&records, "1.0.1.10.in-addr.arpa", Kind::Ptr), ["no name"]);
    for service in ["db", "web", "empty", "other"] {
        records.remove_service(&ObjectKey::namespaced("ns", service));
    }
    assert_eq!(ask(&records, name, Kind::A), ["no name"]);
    assert_eq!(ask(&records, "ns.svc.cluster.local", Kind::A), ["no name"]);
    assert_eq!(ask(&records, "5.0.0.10.in-addr.arpa", Kind::Ptr), ["no name"]);
}
