//! The page without a browser: which request is answered with what, and what the files hold.

use std::collections::HashMap;

use http::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::recording::{failure, noon};
use crate::introspection::{Introspection, Observed, Occasion, Page, Response, Timeline};

const NAME: &str = "web site/ü";

fn page() -> Page {
    let timeline = Timeline::new();
    let occasion = Occasion::new(noon()).because("created");
    timeline.begin("default/a b", occasion).end(failure("<script>"));
    let shown = Introspection::new("program");
    shown.controller(Observed::new(NAME, timeline));
    Page::new(shown)
}

fn get(page: &Page, path: &str, query: Option<&str>) -> Response {
    page.respond(&Method::GET, path, query, noon())
}

fn body(answer: &Response) -> Value {
    serde_json::from_slice(answer.body()).expect("it is JSON")
}

#[test]
fn each_path_has_its_answer() {
    let page = page();
    let name = "web%20site%2F%C3%BC";
    let cases = [
        ("", None, 200, "text/html; charset=utf-8"),
        ("main.js", None, 200, "text/javascript; charset=utf-8"),
        ("timeline.js", Some("v=1"), 200, "text/javascript; charset=utf-8"),
        ("style.css", None, 200, "text/css; charset=utf-8"),
        ("icon.svg", None, 200, "image/svg+xml"),
        ("api/controllers", None, 200, "application/json"),
        ("api/informers", None, 200, "application/json"),
        ("api/controllers/{name}", None, 200, "application/json"),
        (
            "api/controllers/{name}/keys",
            Some("search=A%20B"),
            200,
            "application/json",
        ),
        (
            "api/controllers/{name}/timeline",
            Some("key=default%2Fa+b"),
            200,
            "application/json",
        ),
        ("api/controllers/{name}/timeline", None, 400, "application/json"),
        ("api/controllers/other", None, 404, "application/json"),
        ("api/controllers/other/keys", None, 404, "application/json"),
        (
            "api/controllers/other/timeline",
            Some("key=a"),
            404,
            "application/json",
        ),
        ("api/controllers/", None, 404, "application/json"),
        ("api/controllers/%FF", None, 404, "application/json"),
        ("api", None, 404, "application/json"),
        ("index.html", None, 404, "application/json"),
        ("../controllers/main.js", None, 404, "application/json"),
    ];
    for (below, query, status, kind) in cases {
        let path = format!("/debug/controllers/{}", below.replace("{name}", name));
        let answer = get(&page, &path, query);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[CONTENT_TYPE]),
            (status, &kind.parse().unwrap()),
            "{path}"
        );
        assert!(!answer.body().is_empty(), "{path}");
        if status >= 400 {
            assert!(body(&answer)["error"].is_string(), "{path}");
        }
        for (header, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.headers()[header], value, "{path}");
        }
        let policy = answer.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("it is text");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");

        let head = page.respond(&Method::HEAD, &path, query, noon());
        assert_eq!((head.status(), head.body().len()), (answer.status(), 0), "{path}");
        assert_eq!(head.headers(), answer.headers(), "{path}");
    }
    for path in [
        "/",
        "/debug/controllersx",
        "/debug/controllers-api/controllers",
        "",
    ] {
        assert_eq!(get(&page, path, None).status(), StatusCode::NOT_FOUND, "{path}");
    }
    let post = page.respond(&Method::POST, "/debug/controllers/api/controllers", None, noon());
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.headers()[ALLOW], "GET, HEAD");
}

#[test]
fn it_is_where_it_is_told_to_be() {
    for (told, base, to) in [
        ("/debug/controllers/", "/debug/controllers/", Some("controllers/")),
        ("x", "/x/", Some("x/")),
        ("/a/b", "/a/b/", Some("b/")),
        ("/", "/", None),
    ] {
        let page = page().at(told);
        assert_eq!(page.base(), base);
        assert_eq!(get(&page, base, None).status(), StatusCode::OK, "{told}");
        assert_eq!(
            get(&page, &format!("{base}api/informers"), None).status(),
            StatusCode::OK,
            "{told}"
        );
        if let Some(to) = to {
            let answer = get(&page, base.trim_end_matches('/'), None);
            assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT, "{told}");
            assert_eq!(answer.headers()[LOCATION], to, "{told}");
        }
    }
}

#[test]
fn answers_are_what_the_page_reads() {
    let page = page();
    let at = |below: &str, query| body(&get(&page, &format!("/debug/controllers/api/{below}"), query));
    let overview = at("controllers", None);
    assert_eq!(overview["time"], "2026-03-01T12:00:00.000Z");
    assert_eq!(
        (&overview["program"], &overview["controllers"][0]["name"]),
        (&json!("program"), &json!(NAME))
    );
    let view = at(
        "controllers/web%20site%2F%C3%BC/timeline",
        Some("key=default%2Fa%20b"),
    );
    assert_eq!(
        (&view["now"]["place"], &view["known"]),
        (&json!("idle"), &json!(true))
    );
    let turn = &view["turns"][0];
    let outcome = json!({"result": "error", "message": "<script>", "againInSeconds": 5.0});
    assert_eq!(
        (&turn["outcome"], &turn["reasons"]),
        (&outcome, &json!(["created"]))
    );
    assert_eq!(turn["at"], "2026-03-01T12:00:00.000Z");
    let keys = at("controllers/web%20site%2F%C3%BC/keys", Some("search=A"));
    assert_eq!(
        (&keys["total"], &keys["items"][0]["key"]),
        (&json!(1), &json!("default/a b"))
    );
    let controller = at("controllers/web%20site%2F%C3%BC", None);
    assert_eq!(controller["failing"]["items"][0]["last"]["outcome"], outcome);
    assert_eq!(at("informers", None)["informers"], json!([]));
}

/// Everything that a file names is beside it and is served, and no markup is made from text.
#[test]
fn the_page_is_complete_and_keeps_to_itself() {
    let page = page();
    let text = |path: &str| {
        let answer = get(&page, &format!("/debug/controllers/{path}"), None);
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        String::from_utf8(answer.into_body().into_owned()).expect("it is text")
    };
    let quoted = |text: &str, before: &str| -> Vec<String> {
        let parts = text.split(before).skip(1);
        parts
            .filter_map(|part| part.split('"').next().map(str::to_owned))
            .collect()
    };
    let html = text("");
    let mut named = quoted(&html, "src=\"");
    named.extend(quoted(&html, "href=\""));
    let mut scripts = vec!["main.js".to_owned()];
    while let Some(script) = scripts.pop() {
        let code = text(&script);
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!code.contains(forbidden), "{script}: {forbidden}");
        }
        let imports = quoted(&code, "from \"./");
        scripts.extend(imports.iter().filter(|import| !named.contains(import)).cloned());
        named.push(script);
        named.extend(imports);
    }
    for file in &named {
        let inside = !file.contains("//") && !file.starts_with('/');
        assert!(inside, "{file} is elsewhere");
        if !file.starts_with("#") {
            text(file);
        }
    }
    for file in named.iter().filter(|file| file.contains('.')) {
        let content = text(file).replace("http://www.w3.org/2000/svg", "");
        assert!(
            !content.contains("http:") && !content.contains("https:"),
            "{file} asks elsewhere"
        );
    }
    assert!(
        !html.contains("<style") && !html.contains(" style="),
        "the policy forbids styles within the page"
    );
}

/// Contrast as WCAG 2 counts it.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |colour: &str| {
        let channel = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("a colour");
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Text can be read on everything that it is put on, and shapes can be told from their ground, light and dark.
#[test]
fn colours_have_enough_contrast() {
    let style = include_str!("../page/style.css");
    let palettes: Vec<HashMap<&str, &str>> = style
        .split(":root {")
        .skip(1)
        .map(|block| {
            let lines = block.split('}').next().unwrap_or_default().lines();
            let pair = |line: &'static str| {
                line.trim()
                    .strip_prefix("--")?
                    .trim_end_matches(';')
                    .split_once(": ")
            };
            lines.filter_map(pair).collect()
        })
        .collect();
    assert_eq!(palettes.len(), 2, "light and dark");
    let text = [
        ("ink", "ground"),
        ("ink", "surface"),
        ("ink", "sunken"),
        ("muted", "ground"),
        ("muted", "surface"),
        ("muted", "sunken"),
        ("accent", "ground"),
        ("accent", "surface"),
        ("accent", "accent-soft"),
        ("good", "surface"),
        ("good", "good-soft"),
        ("warn", "surface"),
        ("warn", "warn-soft"),
        ("bad", "ground"),
        ("bad", "surface"),
        ("bad", "bad-soft"),
        ("ink", "bad-soft"),
    ];
    let shapes = [
        ("work", "surface"),
        ("settle", "surface"),
        ("bad", "surface"),
        ("good", "surface"),
    ];
    for palette in &palettes {
        for (pairs, least) in [(&text[..], 4.5), (&shapes[..], 3.0)] {
            for (on, under) in pairs {
                let found = contrast(palette[on], palette[under]);
                assert!(found >= least, "{on} on {under}: {found:.2} is less than {least}");
            }
        }
    }
}
