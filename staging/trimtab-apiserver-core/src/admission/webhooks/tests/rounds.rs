//! In which order webhooks are called, and when again.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use crate::admission::kit::{Server, hook, patch, reply, rules};
use crate::registry::hooks::{Admission, Attributes};
use crate::webhook::testing::{Asked, Hook};

/// A plugin that writes down in an annotation how often it was asked.
#[derive(Debug)]
struct Counting;

#[async_trait]
impl Admission for Counting {
    async fn mutate(
        &self,
        _: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let seen = object["metadata"]["annotations"]["seen"]
            .as_str()
            .unwrap_or_default();
        object["metadata"]["annotations"] = json!({"seen": format!("{seen}x")});
        Ok(())
    }
}

/// Answers by the path that was called, as `/name?…`: with a patch that appends the name to a list of names in the
/// object, unless `quiet` has it.
fn append(quiet: &'static [&'static str]) -> impl Fn(&Asked) -> crate::webhook::testing::Reply {
    move |asked| {
        let name = name(asked);
        if quiet.contains(&name.as_str()) {
            return reply(asked, json!({}));
        }
        let before = asked.body["request"]["object"]["data"]["names"]
            .as_str()
            .unwrap_or_default();
        patch(
            asked,
            json!([{"op": "add", "path": "/data/names", "value": format!("{before}{name}")}]),
        )
    }
}

fn name(asked: &Asked) -> String {
    let path = asked.path_and_query.split('?').next().unwrap_or_default();
    path.trim_start_matches('/').to_owned()
}

/// Stores a webhook named by the path that is called, in a configuration of its own.
async fn configure(server: &Server, asked: &Hook, kind: &str, name: &str, reinvocation: &str) {
    let mut change = json!({"rules": rules(&["*"], "", "v1", "configmaps")});
    if kind == "mutating" {
        change["reinvocationPolicy"] = reinvocation.into();
    }
    let hook = hook(asked.client_config(&format!("/{name}")), change);
    server.configure(kind, name, hook).await;
}

fn names(asked: &Hook) -> String {
    asked.take().iter().map(name).collect()
}

#[tokio::test]
async fn mutating_webhooks_are_called_by_name_and_before_validating_ones() {
    let (server, asked) = (
        Server::new().await,
        Arc::new(Hook::start(append(&["y", "z"])).await),
    );
    for (kind, name) in [
        ("validating", "z"),
        ("mutating", "b"),
        ("mutating", "c"),
        ("mutating", "a"),
        ("validating", "y"),
    ] {
        configure(&server, &asked, kind, name, "Never").await;
    }
    let (code, made, _) = server.make("m").await;
    assert_eq!((code, &made["data"]["names"]), (201, &json!("abc")));
    let all = asked.take();
    let mutating: String = all[..3].iter().map(name).collect();
    assert_eq!(mutating, "abc");
    let mut validating: Vec<(String, Value)> = all[3..]
        .iter()
        .map(|asked| {
            (
                name(asked),
                asked.body["request"]["object"]["data"]["names"].clone(),
            )
        })
        .collect();
    validating.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = ["y", "z"].map(|name| (name.to_owned(), json!("abc")));
    assert_eq!(validating, expected, "they see what the others have made of it");
}

#[tokio::test]
async fn validating_webhooks_are_not_asked_about_what_is_wrong() {
    let (server, asked) = (Server::new().await, Hook::start(append(&["v"])).await);
    configure(&server, &asked, "validating", "v", "").await;
    configure(&server, &asked, "mutating", "m", "Never").await;
    let wrong = json!({"metadata": {"name": "a"}, "data": {"not a key": ""}});
    let (code, _) = server.refused("create", "/v1/default:configmaps", wrong).await;
    assert_eq!((code, names(&asked).as_str()), (422, "m"));
}

#[tokio::test]
async fn webhooks_that_want_to_know_are_called_again_once() {
    // With a plugin that changes the object whenever it is asked, and without.
    for (counts, policies, quiet, expected, seen) in [
        // Nobody wants to know, but the plugin is asked again.
        (true, [("a", "Never"), ("b", "Never")], &[][..], "ab", "xx"),
        // Only the plugin has changed anything after b.
        (true, [("a", "Never"), ("b", "IfNeeded")], &[][..], "abb", "xx"),
        (false, [("a", "Never"), ("b", "IfNeeded")], &[][..], "ab", ""),
        (false, [("a", "IfNeeded"), ("b", "Never")], &[][..], "aba", ""),
        // What a changes the second time concerns b.
        (false, [("a", "IfNeeded"), ("b", "IfNeeded")], &[][..], "abab", ""),
        (
            true,
            [("a", "IfNeeded"), ("b", "IfNeeded")],
            &[][..],
            "abab",
            "xx",
        ),
        // b has not changed what a has made.
        (
            false,
            [("a", "IfNeeded"), ("b", "IfNeeded")],
            &["b"][..],
            "ab",
            "",
        ),
        // No webhook has changed anything.
        (
            true,
            [("a", "IfNeeded"), ("b", "IfNeeded")],
            &["a", "b"][..],
            "ab",
            "x",
        ),
    ] {
        let server = Server::with(|chain, _| if counts { chain.then(Counting) } else { chain }).await;
        let asked = Hook::start(append(quiet)).await;
        for (name, policy) in policies {
            configure(&server, &asked, "mutating", name, policy).await;
        }
        let (code, answer, _) = server.make("m").await;
        assert_eq!(code, 201, "{answer}");
        assert_eq!(names(&asked), expected, "{policies:?}");
        let made: String = expected
            .chars()
            .filter(|c| !quiet.contains(&c.to_string().as_str()))
            .collect();
        assert_eq!(answer["data"]["names"].as_str().unwrap_or_default(), made);
        let annotation = &answer["metadata"]["annotations"]["seen"];
        assert_eq!(annotation.as_str().unwrap_or_default(), seen, "{policies:?}");
    }
}
