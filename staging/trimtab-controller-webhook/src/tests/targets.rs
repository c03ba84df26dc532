//! Where the API server is told to ask.

use crate::{Target, WebhookError};

#[test]
fn targets_say_which_names_a_certificate_needs() {
    let cases = [
        (
            Target::service("web", "w"),
            "service web/w:443",
            vec!["w.web.svc", "w.web.svc.cluster.local"],
        ),
        (
            Target::service("web", "w").port(8443),
            "service web/w:8443",
            vec!["w.web.svc", "w.web.svc.cluster.local"],
        ),
        (
            Target::url("https://127.0.0.1:9443/").expect("a URL"),
            "https://127.0.0.1:9443",
            vec!["127.0.0.1"],
        ),
        (
            Target::url("https://[::1]:9443/a/b").expect("a URL"),
            "https://[::1]:9443/a/b",
            vec!["::1"],
        ),
        (
            Target::url("https://w.example.com").expect("a URL").port(1),
            "https://w.example.com",
            vec!["w.example.com"],
        ),
    ];
    for (target, shown, names) in cases {
        assert_eq!(target.to_string(), shown);
        assert_eq!(target.names(), names, "{shown}");
    }
}

#[test]
fn what_kubernetes_would_refuse_is_refused() {
    for url in [
        "",
        "w",
        "https://",
        "http://w.example.com",
        "https://me@w.example.com",
        "https://w.example.com/?a=b",
        "https://w.example.com/#a",
        "https://:9443",
        "/validate",
    ] {
        let refused = Target::url(url);
        assert!(
            matches!(&refused, Err(WebhookError::Url(of)) if of == url),
            "{url}: {refused:?}"
        );
    }
}
