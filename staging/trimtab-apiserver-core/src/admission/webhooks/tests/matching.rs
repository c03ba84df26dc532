//! Rules and selectors against requests, without servers.

use proptest::prelude::*;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_apiserver_auth::UserInfo;

use super::super::hook::Hook;
use crate::admission::dynamic::{
    NamespaceLabels, Rule, is_exempt, namespace_labels, objects_match, rule_matches, sight,
};
use crate::registry::ResourceTable;
use crate::registry::hooks::{Attributes, Operation};

/// A request as `OPERATION GROUP/VERSION/RESOURCE[/SUBRESOURCE] [NAMESPACE]`.
fn request(text: &str) -> Attributes {
    let mut words = text.split(' ');
    let operation = match words.next() {
        Some("CREATE") => Operation::Create,
        Some("UPDATE") => Operation::Update,
        Some("DELETE") => Operation::Delete,
        _ => Operation::Connect,
    };
    let path: Vec<&str> = words.next().unwrap_or_default().split('/').collect();
    let table = ResourceTable::new(crate::crd::builtin());
    let resource = table.get(path[0], path[1], path[2]).expect(text);
    Attributes {
        operation,
        resource,
        subresource: path.get(3).copied().unwrap_or_default().to_owned(),
        namespace: words.next().unwrap_or_default().to_owned(),
        name: "n".to_owned(),
        user: UserInfo::default(),
        dry_run: false,
        options: Value::Null,
        deadline: None,
    }
}

/// A rule as `OPERATIONS GROUPS VERSIONS RESOURCES SCOPE`, lists with commas; `core` is the group without a name.
fn rule(text: &str) -> Rule {
    let lists: Vec<Vec<String>> = text
        .split(' ')
        .map(|list| list.split(',').map(|item| item.replace("core", "")).collect())
        .collect();
    let [operations, groups, versions, resources, scope] = lists.try_into().expect("five lists");
    Rule {
        operations,
        groups,
        versions,
        resources,
        scope: scope.concat(),
        names: Vec::new(),
    }
}

#[test]
fn rules_cover_what_their_lists_name() {
    for (stated, asked, expected) in [
        ("* * * *,*/* *", "CREATE /v1/pods ns", true),
        ("CREATE core v1 pods *", "CREATE /v1/pods ns", true),
        ("CREATE core v1 pods *", "UPDATE /v1/pods ns", false),
        ("CREATE,UPDATE core v1 pods *", "UPDATE /v1/pods ns", true),
        ("CONNECT core v1 pods/exec *", "CONNECT /v1/pods/exec ns", true),
        ("* apps v1 pods *", "CREATE /v1/pods ns", false),
        ("* core v1beta1 pods *", "CREATE /v1/pods ns", false),
        (
            "* core,apps v1,v2 deployments *",
            "DELETE apps/v1/deployments ns",
            true,
        ),
        // A resource is not what lies below it, nor the other way round.
        ("* core v1 pods *", "UPDATE /v1/pods/status ns", false),
        ("* core v1 pods/status *", "UPDATE /v1/pods ns", false),
        ("* core v1 pods/status *", "UPDATE /v1/pods/status ns", true),
        ("* core v1 pods/* *", "UPDATE /v1/pods/status ns", true),
        ("* core v1 pods/* *", "UPDATE /v1/pods ns", true),
        ("* core v1 * *", "UPDATE /v1/pods ns", true),
        ("* core v1 * *", "UPDATE /v1/pods/status ns", false),
        ("* * * */status *", "UPDATE apps/v1/deployments/status ns", true),
        ("* * * */status *", "UPDATE apps/v1/deployments/scale ns", false),
        ("* * * */* *", "UPDATE apps/v1/deployments ns", true),
        // Namespaces are of the cluster, though requests for them have one.
        ("* * * * Namespaced", "CREATE /v1/pods ns", true),
        ("* * * * Cluster", "CREATE /v1/pods ns", false),
        ("* * * * Namespaced", "CREATE /v1/nodes", false),
        ("* * * * Cluster", "CREATE /v1/nodes", true),
        ("* * * * Namespaced", "UPDATE /v1/namespaces ns", false),
        ("* * * * Cluster", "UPDATE /v1/namespaces ns", true),
    ] {
        let (rule, asked_of) = (rule(stated), request(asked));
        assert_eq!(
            rule_matches(&rule, &asked_of.resource, &asked_of),
            expected,
            "{stated}: {asked}"
        );
    }
}

/// What a hook with these rules sees of a request: version and kind.
fn seen(hook: Value, asked: &str) -> Option<String> {
    let hooks = Hook::all(&json!({"metadata": {"name": "c"}, "webhooks": [hook]}));
    let table = ResourceTable::new(crate::crd::builtin());
    let (hook, asked) = (&hooks[0], request(asked));
    let sight = sight(&hook.rules, hook.equivalents, &asked, &table.snapshot())?;
    let (group, version) = (&sight.resource.group, &sight.resource.version);
    Some(format!("{group}/{version} {}", sight.kind.kind))
}

#[test]
fn other_versions_of_the_same_objects_match_unless_told_exactly() {
    let hook = |policy: &str, group: &str, version: &str, resource: &str| {
        let rule = json!({"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]});
        json!({"matchPolicy": policy, "rules": [rule]})
    };
    let (autoscalers, scalers) = (
        "horizontalpodautoscalers",
        "UPDATE autoscaling/v1/horizontalpodautoscalers",
    );
    for (hook, asked, expected) in [
        (
            hook("Equivalent", "autoscaling", "v2", autoscalers),
            scalers,
            Some("autoscaling/v2 HorizontalPodAutoscaler"),
        ),
        (hook("Exact", "autoscaling", "v2", autoscalers), scalers, None),
        (
            hook("Exact", "autoscaling", "v1", autoscalers),
            scalers,
            Some("autoscaling/v1 HorizontalPodAutoscaler"),
        ),
        (
            hook("Equivalent", "autoscaling", "*", autoscalers),
            scalers,
            Some("autoscaling/v1 HorizontalPodAutoscaler"),
        ),
        (
            hook("Equivalent", "events.k8s.io", "v1", "events"),
            "CREATE /v1/events ns",
            Some("events.k8s.io/v1 Event"),
        ),
        (
            hook(
                "Equivalent",
                "autoscaling",
                "v2",
                "horizontalpodautoscalers/status",
            ),
            "UPDATE autoscaling/v1/horizontalpodautoscalers/status ns",
            Some("autoscaling/v2 HorizontalPodAutoscaler"),
        ),
        (
            hook("Equivalent", "apps", "v1", "deployments/scale"),
            "UPDATE apps/v1/deployments/scale ns",
            Some("apps/v1 Scale"),
        ),
        (
            hook("Equivalent", "apps", "v1", "deployments"),
            "CREATE /v1/pods ns",
            None,
        ),
    ] {
        assert_eq!(seen(hook, asked).as_deref(), expected, "{asked}");
    }
}

#[test]
fn namespace_selectors_look_at_the_namespace_or_at_nothing() {
    for (asked, expected) in [
        ("CREATE /v1/pods ns", NamespaceLabels::Of("ns")),
        ("DELETE /v1/pods ns", NamespaceLabels::Of("ns")),
        ("CREATE /v1/nodes", NamespaceLabels::None),
        ("CREATE /v1/namespaces ns", NamespaceLabels::Object),
        ("UPDATE /v1/namespaces ns", NamespaceLabels::Object),
        ("DELETE /v1/namespaces ns", NamespaceLabels::Of("ns")),
        ("UPDATE /v1/namespaces/status ns", NamespaceLabels::Of("ns")),
    ] {
        assert_eq!(namespace_labels(&request(asked)), expected, "{asked}");
    }
}

#[test]
fn object_selectors_look_at_both_states() {
    let selector = LabelSelector::parse("a=b").expect("parses");
    let object = |value: &str| json!({"metadata": {"labels": {"a": value}}});
    let (yes, no) = (object("b"), object("c"));
    let (update, connect) = (request("UPDATE /v1/pods ns"), request("CONNECT /v1/pods/exec ns"));
    for (attributes, new, old, expected) in [
        (&update, Some(&yes), Some(&no), true),
        (&update, Some(&no), Some(&yes), true),
        (&update, Some(&no), Some(&no), false),
        (&update, None, Some(&yes), true),
        (&update, None, None, false),
        (&connect, Some(&yes), None, false),
    ] {
        assert_eq!(objects_match(&selector, attributes, new, old), expected);
    }
    let everything = LabelSelector::default();
    assert!(objects_match(&everything, &connect, Some(&no), None));
}

#[test]
fn configurations_of_webhooks_are_exempt() {
    let group = "admissionregistration.k8s.io";
    for plural in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ] {
        assert!(is_exempt(&request(&format!("UPDATE {group}/v1/{plural}"))));
    }
    assert!(!is_exempt(&request("UPDATE /v1/pods ns")));
}

#[test]
fn webhooks_of_one_name_are_told_apart() {
    let hook = |name: &str| json!({"name": name});
    let configuration = json!({"metadata": {"name": "c"}, "webhooks": [hook("a"), hook("b"), hook("a")]});
    let ids: Vec<String> = Hook::all(&configuration).iter().map(|h| h.id.clone()).collect();
    assert_eq!(ids, ["c/a/0", "c/b/0", "c/a/1"]);
}

fn list(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(words, 0..=words.len())
        .prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

proptest! {
    /// A star stands for everything: a rule with a list replaced by one covers all that it covered before, and the
    /// rule of nothing but stars covers everything.
    #[test]
    fn a_star_never_covers_less(
        operations in list(&["CREATE", "UPDATE", "DELETE", "CONNECT"]),
        groups in list(&["", "apps", "autoscaling"]),
        versions in list(&["v1", "v2"]),
        resources in list(&["pods", "pods/status", "pods/*", "*/status", "*", "nodes", "deployments"]),
        scope in proptest::sample::select(&["*", "Namespaced", "Cluster"][..]),
        widened in 0..5usize,
        asked in proptest::sample::select(&[
            "CREATE /v1/pods ns", "UPDATE /v1/pods/status ns", "DELETE /v1/nodes", "UPDATE /v1/namespaces ns",
            "CONNECT /v1/pods/exec ns", "CREATE apps/v1/deployments ns", "UPDATE apps/v1/deployments/scale ns",
        ][..]),
    ) {
        let asked = request(asked);
        let star = |text: &str| vec![text.to_owned()];
        let narrow = Rule { operations, groups, versions, resources, scope: scope.to_owned(), names: Vec::new() };
        let mut wide = narrow.clone();
        match widened {
            0 => wide.operations = star("*"),
            1 => wide.groups = star("*"),
            2 => wide.versions = star("*"),
            3 => wide.resources = star("*/*"),
            _ => wide.scope = "*".to_owned(),
        }
        let covers = |rule: &Rule| rule_matches(rule, &asked.resource, &asked);
        prop_assert!(!covers(&narrow) || covers(&wide));
        let everything = Rule {
            operations: star("*"), groups: star("*"), versions: star("*"), resources: star("*/*"), scope: "*".to_owned(),
            names: Vec::new(),
        };
        prop_assert!(covers(&everything));
    }
}

#[test]
fn hooks_are_read_with_what_is_usual() {
    let hook = &Hook::all(&json!({"metadata": {"name": "c"}, "webhooks": [{"name": "h"}]}))[0];
    assert!(hook.equivalents && !hook.may_fail && !hook.again);
    assert_eq!(hook.timeout, std::time::Duration::from_secs(10));
    assert_eq!(hook.namespaces.as_ref().map(LabelSelector::is_empty), Ok(true));
}
