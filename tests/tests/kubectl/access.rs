//! Who one is and what one may do: `auth`, tokens, certificates.

use super::{Stories, Story};

pub(super) const STORIES: Stories = &[
    ("can-i", asked_what_one_may_do),
    ("reconcile", roles_are_reconciled),
    ("aggregate", roles_are_aggregated),
    ("tokens", tokens_are_issued),
    ("certificates", certificates_are_approved_and_denied),
];

fn asked_what_one_may_do(story: &Story) {
    story.prints(
        &["auth", "whoami"],
        &["Username", "kubernetes-admin", "system:masters"],
    );
    story.prints(
        &["auth", "whoami", "--as=bob", "--as-group=devs", "--as-uid=7"],
        &["Username", "bob", "UID", "7", "[devs system:authenticated]"],
    );
    story.prints(&["auth", "can-i", "create", "pods"], &["yes"]);
    let may = |args: &[&str]| {
        let output = story
            .kubectl
            .run(&[&["auth", "can-i"], args, &["--as=bob"]].concat());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(may(&["list", "pods"]), "no");
    story.kubectl.ok(&[
        "create",
        "role",
        "r",
        "--verb=get,list",
        "--resource=pods,pods/log",
    ]);
    story
        .kubectl
        .ok(&["create", "rolebinding", "r", "--role=r", "--user=bob"]);
    for (args, answer) in [
        (&["list", "pods"][..], "yes"),
        (&["get", "pods", "--subresource=log"], "yes"),
        (&["get", "pods", "--subresource=exec"], "no"),
        (&["list", "pods", "-n", "default"], "no"),
        (&["list", "pods", "--all-namespaces"], "no"),
        (&["get", "/version"], "yes"),
        (&["get", "/metrics"], "no"),
    ] {
        assert_eq!(may(args), answer, "{args:?}");
    }
    story.prints(
        &["auth", "can-i", "--list", "--as=bob"],
        &[
            "Resources",
            "Non-Resource URLs",
            "selfsubjectreviews.authentication.k8s.io",
            "pods",
            "[get list]",
            "[/api/*]",
        ],
    );
    story.is_refused(
        &["get", "secrets", "--as=bob"],
        &["secrets is forbidden: User \"bob\" cannot list resource \"secrets\" in API group \"\" in the namespace"],
    );
    story.is_refused(
        &[
            "create",
            "rolebinding",
            "more",
            "--clusterrole=edit",
            "--user=bob",
            "--as=bob",
        ],
        &["User \"bob\" cannot create resource \"rolebindings\""],
    );
}

fn roles_are_reconciled(story: &Story) {
    let manifest = |verb: &str| {
        let namespace = story.namespace;
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: r, namespace: {namespace}}}\n\
             rules: [{{apiGroups: [''], resources: [pods], verbs: [{verb}]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: r, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}}]\n"
        )
    };
    let file = story.file("rbac.yaml", &manifest("get"));
    let reconcile = ["auth", "reconcile", "-f", file.as_str()];
    story.prints(
        &reconcile,
        &[
            "role.rbac.authorization.k8s.io/r reconciled",
            "rolebinding.rbac.authorization.k8s.io/r",
        ],
    );
    story.file("rbac.yaml", &manifest("list"));
    story.prints(&reconcile, &["r reconciled"]);
    assert_eq!(story.value("role", "r", ".rules[*].verbs[*]"), "get list");
    story
        .kubectl
        .ok(&[&reconcile[..], &["--remove-extra-permissions"]].concat());
    assert_eq!(story.value("role", "r", ".rules[*].verbs[*]"), "list");
}

/// The controller of aggregated roles adds what users define to the roles that everybody is given.
fn roles_are_aggregated(story: &Story) {
    let role = story.file(
        "role.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: templates, labels: {\
         rbac.authorization.k8s.io/aggregate-to-edit: 'true'}}\n\
         rules: [{apiGroups: [''], resources: [podtemplates], verbs: [get, create]}]\n",
    );
    for name in ["view", "edit", "admin"] {
        story.kubectl.ok(&[
            "create",
            "rolebinding",
            name,
            &format!("--clusterrole={name}"),
            &format!("--user={name}er"),
        ]);
    }
    let may = |user: &str, verb: &str| {
        let user = format!("--as={user}er");
        let asked = ["auth", "can-i", verb, "podtemplates", user.as_str()];
        let output = story.kubectl.run(&asked);
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    assert!(!may("edit", "get"));
    story.kubectl.ok(&["apply", "-f", &role]);
    for user in ["edit", "admin"] {
        trimtab_tests::eventually(
            || format!("{user} gets nothing"),
            || may(user, "create").then_some(()),
        );
        assert!(may(user, "get") && !may(user, "delete"));
    }
    assert!(!may("view", "get"), "not to those who look");
    story.kubectl.ok(&["delete", "-f", &role]);
    trimtab_tests::eventually(
        || "the role keeps what is gone".to_owned(),
        || (!may("edit", "get")).then_some(()),
    );
}

fn tokens_are_issued(story: &Story) {
    story.kubectl.ok(&["create", "serviceaccount", "robot"]);
    let token = story.kubectl.ok(&["create", "token", "robot", "--duration=10m"]);
    assert_eq!(token.trim().split('.').count(), 3, "header, claims and signature");
    let name = format!("system:serviceaccount:{}:robot", story.namespace);
    // The administrator's certificate would say who asks: it is left at home.
    let config = std::fs::read_to_string(story.dir.join("kubeconfig")).expect("a kubeconfig");
    let without: Vec<&str> = config.lines().filter(|line| !line.contains("client-")).collect();
    let file = story.file("robot/kubeconfig", &without.join("\n"));
    let robot = trimtab_tests::Kubectl::new(std::path::Path::new(&file)).expect("there is a kubectl");
    let as_robot = |args: &[&str]| robot.run(&[args, &["--token", token.trim()]].concat());
    let printed = as_robot(&["auth", "whoami"]);
    super::in_order(
        &String::from_utf8_lossy(&printed.stdout),
        &["auth", "whoami"],
        &[&name, "system:serviceaccounts"],
    );
    assert!(!as_robot(&["get", "pods"]).status.success());
    let binding = format!("--serviceaccount={}:robot", story.namespace);
    story
        .kubectl
        .ok(&["create", "rolebinding", "robot", "--clusterrole=view", &binding]);
    assert!(as_robot(&["get", "pods"]).status.success());
    story.is_refused(
        &["create", "token", "robot", "--duration=1s"],
        &["spec.expirationSeconds"],
    );
}

fn certificates_are_approved_and_denied(story: &Story) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "carol");
    let request = params
        .serialize_request(&key)
        .expect("a request")
        .pem()
        .expect("is text");
    let file = story.file("csr.pem", &request);
    let encoded = std::process::Command::new("base64")
        .args(["-w0", &file])
        .output()
        .expect("base64 starts");
    let encoded = String::from_utf8_lossy(&encoded.stdout).into_owned();
    for name in ["wanted", "unwanted"] {
        let manifest = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
             spec: {{request: {encoded}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
        );
        let file = story.file(name, &manifest);
        story.kubectl.ok(&["create", "-f", &file]);
    }
    story.prints(
        &["get", "csr", "wanted"],
        &["SIGNERNAME", "kubernetes.io/kube-apiserver-client", "Pending"],
    );
    story.prints(
        &["certificate", "approve", "wanted"],
        &["certificatesigningrequest.certificates.k8s.io/wanted approved"],
    );
    story.prints(&["certificate", "deny", "unwanted"], &["unwanted denied"]);
    story.prints(&["get", "csr"], &["unwanted", "Denied", "wanted", "Approved"]);
    story.prints(
        &["describe", "csr", "wanted"],
        &["Requesting User:", "kubernetes-admin", "Common Name:", "carol"],
    );
}
