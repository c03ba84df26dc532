//! The clients of other languages, unchanged, each in programs that say at the first difference what they found
//! instead of what a Kubernetes API server gives. The programs are in tests/clients.

use trimtab_tests::{Language, Server, programs};

/// Runs one program against a server of its own.
fn passes(language: Language, program: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::apiserver(dir.path(), &[]);
    programs::run(language, program, server.kubeconfig(), dir.path());
}

#[test]
fn pythons_typed_client() {
    passes(Language::Python, "typed");
}

#[test]
fn pythons_dynamic_client_and_informer() {
    passes(Language::Python, "dynamic");
}

#[test]
fn an_operator_in_kopf() {
    passes(Language::Python, "kopf_operator");
}

#[test]
fn gos_typed_client_by_protobuf_and_by_json() {
    passes(Language::Go, "typed");
}

#[test]
fn gos_informers_typed_dynamic_and_of_metadata() {
    passes(Language::Go, "informers");
}

#[test]
fn gos_leader_election_and_its_recorder_of_events() {
    passes(Language::Go, "leader");
}

#[test]
fn nodes_client_its_informer_and_a_user_by_token() {
    passes(Language::Node, "clients");
}
