//! Nodes: taints, cordons, and drains that heed budgets.

use super::{NODE_OF_ONE as NODE, Stories, Story};

pub(super) const STORIES: Stories = &[("nodes", a_node_is_tainted_cordoned_and_drained)];

fn a_node_is_tainted_cordoned_and_drained(story: &Story) {
    story.prints(
        &["taint", "nodes", NODE, "more=x:PreferNoSchedule"],
        &["node/node-2 tainted"],
    );
    story.prints(
        &["describe", "node", NODE],
        &["Taints:", "of=story:NoSchedule", "more=x:PreferNoSchedule"],
    );
    story.is_refused(
        &["taint", "nodes", NODE, "more=y:PreferNoSchedule"],
        &["--overwrite is false"],
    );
    story.prints(&["taint", "nodes", NODE, "more-"], &["node/node-2 untainted"]);
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  nodeSelector: \
             {{kubernetes.io/hostname: node-2}}\n  tolerations: [{{key: of, operator: Exists}}]\n  containers: \
             [{{name: c, image: i}}]\n"
        )
    };
    for name in ["free", "guarded"] {
        let file = story.file(name, &pod(name));
        story.kubectl.ok(&["create", "-f", &file]);
        story.wait(&format!("pod/{name}"), "condition=Ready");
    }
    story.kubectl.ok(&[
        "create",
        "pdb",
        "guard",
        "--selector=app=guarded",
        "--min-available=1",
    ]);
    story.wait("pdb/guard", "jsonpath={.status.currentHealthy}=1");
    story.prints(&["cordon", NODE], &["node/node-2 cordoned"]);
    story.prints(&["get", "node", NODE], &["Ready,SchedulingDisabled"]);
    story.prints(&["uncordon", NODE], &["node/node-2 uncordoned"]);
    let drain = ["drain", NODE, "--ignore-daemonsets", "--force", "--timeout=3s"];
    story.is_refused(
        &drain,
        &["Cannot evict pod as it would violate the pod's disruption budget."],
    );
    story
        .kubectl
        .ok(&["wait", "--for=delete", "pod/free", "--timeout=60s"]);
    story.prints(&["get", "pod", "guarded"], &["Running"]);
    story.kubectl.ok(&["delete", "pdb", "guard"]);
    let drain = ["drain", NODE, "--ignore-daemonsets", "--force", "--timeout=60s"];
    story.prints(&drain, &["pod/guarded evicted", "node/node-2 drained"]);
}
