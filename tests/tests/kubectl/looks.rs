//! Looking at what there is: the forms of `get`, `explain`, `describe`, events, and the server itself.

use super::{Stories, Story};

pub(super) const STORIES: Stories = &[
    ("get", shown_in_every_form),
    ("describe", described),
    ("kinds", made_by_name),
    ("server", the_server_is_known),
];

fn shown_in_every_form(story: &Story) {
    for (name, value) in [("b", "2"), ("a", "1")] {
        story
            .kubectl
            .ok(&["create", "configmap", name, &format!("--from-literal=k={value}")]);
        story
            .kubectl
            .ok(&["label", "configmap", name, "of=story", &format!("rank={value}")]);
    }
    let get = |more: &[&str]| {
        story
            .kubectl
            .ok(&[&["get", "configmaps", "-l", "of=story"], more].concat())
    };
    assert_eq!(get(&["-o", "name"]), "configmap/a\nconfigmap/b\n");
    assert_eq!(
        get(&["-o", "name", "--sort-by={.data.k}"]),
        "configmap/a\nconfigmap/b\n"
    );
    assert_eq!(
        get(&["-o", "jsonpath={range .items[*]}{.metadata.name}={.data.k};{end}"]),
        "a=1;b=2;"
    );
    assert_eq!(
        get(&["-o", "custom-columns=N:.metadata.name,K:.data.k"]),
        "N     K\na     1\nb     2\n"
    );
    assert_eq!(get(&["-o", "go-template={{len .items}}"]), "2");
    assert_eq!(get(&["--no-headers", "--chunk-size=1"]).lines().count(), 2);
    assert!(get(&["-o", "yaml"]).contains("kind: List"));
    assert!(get(&["-L", "rank"]).contains("RANK"));
    assert!(get(&["--field-selector=metadata.name=b", "-o", "name"]).trim() == "configmap/b");
    assert!(get(&["-A"]).contains("NAMESPACE"));
    story.prints(
        &["get", "configmap/a", "configmap/b", "-o", "name"],
        &["configmap/a", "configmap/b"],
    );
    story.is_refused(
        &["get", "configmap", "c"],
        &["Error from server (NotFound): configmaps \"c\" not found"],
    );
    story.prints(&["get", "configmap", "c", "--ignore-not-found"], &[]);
    story.is_refused(
        &["get", "nones"],
        &["the server doesn't have a resource type \"nones\""],
    );
}

fn described(story: &Story) {
    story
        .kubectl
        .ok(&["run", "p", "--image=i", "--labels=app=p", "--port=80"]);
    story.wait("pod/p", "condition=Ready");
    story.prints(
        &["describe", "pod", "p"],
        &[
            "Service Account:  default",
            "Node:",
            "node-",
            "Labels:",
            "app=p",
            "Status:",
            "Running",
            "Image:",
            "Port:",
            "80/TCP",
            "Conditions:",
            "PodScheduled",
            "Volumes:",
            "kube-api-access-",
            "QoS Class:",
            "BestEffort",
            "Events:",
            "Scheduled",
        ],
    );
    story.prints(
        &["events", "--for=pod/p"],
        &[
            "LAST SEEN",
            "Scheduled",
            "Pod/p",
            "Successfully assigned",
            "Started",
        ],
    );
    story.prints(
        &["get", "events", "--field-selector=involvedObject.name=p"],
        &["REASON", "pod/p"],
    );
    story
        .kubectl
        .ok(&["create", "secret", "generic", "s", "--from-literal=word=hidden"]);
    let secret = story.prints(
        &["describe", "secret", "s"],
        &["Type:", "Opaque", "word:  6 bytes"],
    );
    assert!(!secret.contains("hidden"));
    story
        .kubectl
        .ok(&["create", "quota", "q", "--hard=pods=10,configmaps=20"]);
    story.wait("resourcequota/q", "jsonpath={.status.hard.pods}=10");
    story.prints(
        &["describe", "quota", "q"],
        &["Resource", "Used", "Hard", "pods", "1", "10"],
    );
    story.prints(
        &["describe", "namespace", story.namespace],
        &["Status:", "Active", "Resource Quotas", "Name:", "q"],
    );
    story.prints(&["describe", "serviceaccount", "default"], &["Name:", "default"]);
    story.prints(&["debug", "p", "--image=busybox", "--profile=general"], &[]);
    assert_eq!(
        story.value("pod", "p", ".spec.ephemeralContainers[0].image"),
        "busybox"
    );
    for command in [&["logs", "p"][..], &["exec", "p", "--", "ls"]] {
        story.is_refused(command, &["no kubelet runs behind this server"]);
    }
}

/// What `create` makes of a few words, and `get` says of it.
fn made_by_name(story: &Story) {
    for (create, shown) in [
        (
            &["ingress", "i", "--rule=example.com/x=svc:80"][..],
            &["ingress/i", "HOSTS", "example.com"][..],
        ),
        (
            &["service", "nodeport", "n", "--tcp=80:8080"],
            &["service/n", "NodePort", "80:3"],
        ),
        (
            &["service", "externalname", "e", "--external-name=example.com"],
            &["service/e", "ExternalName", "example.com"],
        ),
        (
            &["role", "r", "--verb=get", "--resource=pods"],
            &["role/r", "CREATED AT"],
        ),
        (
            &["secret", "generic", "s", "--from-literal=a=b"],
            &["secret/s", "Opaque", "1"],
        ),
        (&["serviceaccount", "a"], &["serviceaccount/a", "AGE"]),
        (
            &["priorityclass", "of-kubectl", "--value=5"],
            &["priorityclass/of-kubectl", "5"],
        ),
        (
            &[
                "poddisruptionbudget",
                "b",
                "--selector=a=b",
                "--min-available=50%",
            ],
            &["pdb/b", "50%"],
        ),
    ] {
        story.prints(&[&["create"], create].concat(), &[" created"]);
        let (what, columns) = shown.split_first().expect("an object");
        story.prints(&["get", what], columns);
    }
    story.is_refused(
        &["create", "configmap", "Capital"],
        &["metadata.name: Invalid value: \"Capital\""],
    );
    story.is_refused(
        &["create", "role", "r", "--verb=get", "--resource=pods"],
        &["(AlreadyExists)", "\"r\" already exists"],
    );
    story.kubectl.ok(&["delete", "priorityclass", "of-kubectl"]);
}

fn the_server_is_known(story: &Story) {
    story.prints(&["version"], &["Server Version: v1.36"]);
    story.prints(
        &["cluster-info"],
        &[
            "Kubernetes control plane",
            " is running at ",
            "https://127.0.0.1:",
        ],
    );
    story.prints(
        &["api-resources"],
        &[
            "NAME",
            "SHORTNAMES",
            "configmaps",
            "cm",
            "deployments",
            "deploy",
            "apps/v1",
            "Deployment",
        ],
    );
    story.prints(
        &[
            "api-resources",
            "--namespaced=false",
            "--verbs=list",
            "-o",
            "name",
        ],
        &["namespaces\n", "nodes\n"],
    );
    story.prints(
        &["explain", "pod.spec.containers.resources"],
        &[
            "KIND:       Pod",
            "FIELD: resources <ResourceRequirements>",
            "limits\t<map[string]Quantity>",
        ],
    );
    story.prints(
        &["explain", "deployments", "--recursive"],
        &[
            "GROUP:      apps",
            "metadata\t<ObjectMeta>",
            "spec\t<DeploymentSpec>",
            "    replicas\t<integer>",
        ],
    );
    story.is_refused(&["explain", "pod.spec.none"], &["field \"none\" does not exist"]);
    story.prints(
        &["get", "--raw", "/readyz?verbose"],
        &[
            "[+]ping ok",
            "[+]poststarthook/rbac/bootstrap-roles ok",
            "readyz check passed",
        ],
    );
    story.prints(&["get", "--raw", "/metrics/slis"], &["kubernetes_healthcheck"]);
    story.prints(
        &["get", "--raw", "/statusz"],
        &["apiserver statusz", "Binary version: 1.36"],
    );
    story.prints(
        &["get", "--raw", "/flagz"],
        &[
            "apiserver flagz",
            "\nnodes:3\n",
            "\nsecure-port:0\n",
            "\nstorage:memory\n",
        ],
    );
    story.prints(
        &["config", "view", "--minify"],
        &["certificate-authority-data: DATA+OMITTED", "namespace: server"],
    );
    story.prints(&["config", "get-contexts", "-o", "name"], &["trimtab"]);
}
