//! Custom resources: what discovery, `explain`, `get` and `scale` make of a definition.

use super::{Stories, Story};

pub(super) const STORIES: Stories = &[("gadgets", a_definition_is_served)];

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.kubectl.example.com}
spec:
  group: kubectl.example.com
  names: {plural: gadgets, singular: gadget, kind: Gadget, shortNames: [gd], categories: [all]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Size, type: string, jsonPath: .spec.size}
    - {name: Copies, type: integer, jsonPath: .spec.replicas, priority: 1}
    schema:
      openAPIV3Schema:
        description: Gadget is a thing.
        type: object
        properties:
          spec:
            description: What is wanted.
            type: object
            required: [size]
            properties:
              size: {type: string, enum: [s, m], description: How large.}
              replicas: {type: integer, default: 1}
          status: {type: object, properties: {replicas: {type: integer}}}
";

fn a_definition_is_served(story: &Story) {
    let definition = story.file("definition.yaml", DEFINITION);
    story.prints(
        &["apply", "-f", &definition],
        &["gadgets.kubectl.example.com created"],
    );
    story.wait("crd/gadgets.kubectl.example.com", "condition=Established");
    story.prints(
        &["api-versions"],
        &["apps/v1\n", "kubectl.example.com/v1\n", "v1\n"],
    );
    story.prints(
        &["api-resources", "--api-group=kubectl.example.com", "-o", "wide"],
        &[
            "gadgets",
            "gd",
            "kubectl.example.com/v1",
            "true",
            "Gadget",
            "create,delete,deletecollection,get",
            "all",
        ],
    );
    story.prints(
        &["explain", "gadgets"],
        &[
            "GROUP:      kubectl.example.com",
            "Gadget is a thing.",
            "spec\t<Object>",
        ],
    );
    story.prints(
        &["explain", "gadgets.spec"],
        &[
            "What is wanted.",
            "replicas\t<integer>",
            "size\t<string> -required-",
            "enum: s, m",
            "How large.",
        ],
    );
    story.prints(
        &["explain", "gadgets", "--recursive"],
        &[
            "metadata\t<ObjectMeta>",
            "annotations",
            "spec\t<Object>",
            "    size\t<string> -required-",
        ],
    );
    let object = |spec: &str| {
        format!("apiVersion: kubectl.example.com/v1\nkind: Gadget\nmetadata: {{name: g}}\nspec: {spec}\n")
    };
    let file = story.file("g.yaml", &object("{size: s}"));
    story.prints(&["apply", "-f", &file], &["gadget.kubectl.example.com/g created"]);
    story.prints(&["get", "gd"], &["NAME   SIZE\n", "g      s"]);
    story.prints(
        &["get", "gadgets", "-o", "wide"],
        &["SIZE   COPIES", "g      s      1"],
    );
    story.prints(&["get", "all"], &["gadget.kubectl.example.com/g"]);
    story.prints(
        &["scale", "gadget/g", "--replicas=3"],
        &["gadget.kubectl.example.com/g scaled"],
    );
    assert_eq!(story.value("gd", "g", ".spec.replicas"), "3");
    let status = [
        "patch",
        "gadget",
        "g",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"replicas":2},"spec":{"size":"m"}}"#,
    ];
    story.prints(&status, &["gadget.kubectl.example.com/g patched"]);
    assert_eq!(
        story.value("gadget", "g", "['spec.size', 'status.replicas']"),
        "s 2",
        "of the status alone"
    );
    story.file("g.yaml", &object("{size: xl}"));
    story.is_refused(
        &["apply", "-f", &file],
        &["The Gadget \"g\" is invalid: spec.size: Unsupported value: \"xl\": supported values: \"s\", \"m\""],
    );
    story.file("g.yaml", &object("{size: m, colour: red}"));
    story.is_refused(&["apply", "-f", &file], &["unknown field \"spec.colour\""]);
    story.prints(&["apply", "-f", &file, "--validate=ignore"], &["configured"]);
    story.prints(
        &["describe", "gadget", "g"],
        &["Kind:         Gadget", "Size:", "m"],
    );
    story.prints(
        &["delete", "-f", &definition, "--timeout=60s"],
        &["\"gadgets.kubectl.example.com\" deleted"],
    );
    // A client that remembers the type asks for it, and one that does not says that there is none.
    story.is_refused(&["get", "gadgets"], &["the server "]);
}
