//! The requests of a manager: counted by how they were answered, and the server's warnings told.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, header};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

/// How many different warnings are told once each; then it begins anew.
const REMEMBERED: usize = 256;

type Labels = [(&'static str, String); 2];

/// What a manager's clients ask and are answered.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    answers: Family<Labels, Counter>,
    warned: Mutex<HashSet<String>>,
    /// How warnings begin that nobody need be told of.
    known: Mutex<Vec<String>>,
}

impl Requests {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests to the API server, by method and by the code of the answer";
        registry.register("rest_client_requests", help, self.answers.clone());
    }

    /// The same client, whose requests are observed. Outside a tokio runtime, where none can be made, it is the client itself.
    pub(crate) fn observe(self: &Arc<Self>, client: Client) -> Client {
        if Handle::try_current().is_err() {
            return client;
        }
        let (requests, inner) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (requests, inner, method) = (requests.clone(), inner.clone(), request.method().clone());
            async move {
                let answer = inner.send(request).await;
                match &answer {
                    Ok(answer) => {
                        requests.count(&method, answer.status().as_str());
                        requests.tell_warnings(answer.headers());
                    }
                    // client-go's word.
                    Err(_) => requests.count(&method, "<error>"),
                }
                answer
            }
        });
        let namespace = client.default_namespace();
        Client::new(service, namespace).with_valid_until(*client.valid_until())
    }

    /// Does not tell of warnings that begin so.
    pub(crate) fn know(&self, beginning: String) {
        self.known.lock().push(beginning);
    }

    fn count(&self, method: &Method, code: &str) {
        let labels = [("code", code.to_owned()), ("method", method.to_string())];
        self.answers.get_or_create(&labels).inc();
    }

    fn tell_warnings(&self, headers: &HeaderMap) {
        for warning in headers.get_all(header::WARNING).iter().flat_map(texts) {
            if self.known.lock().iter().any(|known| warning.starts_with(known)) {
                continue;
            }
            let mut warned = self.warned.lock();
            if warned.len() >= REMEMBERED {
                warned.clear();
            }
            if warned.insert(warning.clone()) {
                drop(warned);
                tracing::warn!(warning, "the API server warns");
            }
        }
    }
}

/// The texts of a header as RFC 7234 has it, `299 - "text", 299 - "another"`. What is no such is left out.
fn texts(value: &HeaderValue) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = value.to_str().unwrap_or_default();
    while let Some((before, text, after)) = quoted(rest) {
        if before.trim_start_matches([',', ' ']).starts_with("299 ") {
            texts.push(text);
        }
        rest = after;
    }
    texts
}

/// What is before the first quoted text, that text, and what is behind it. None if there is none that ends.
fn quoted(from: &str) -> Option<(&str, String, &str)> {
    let (before, rest) = from.split_once('"')?;
    let mut text = String::new();
    let mut characters = rest.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((before, text, &rest[at + 1..])),
            (_, '\\') => text.push(characters.next()?.1),
            (_, other) => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_read_as_servers_write_them() {
        let cases: [(&str, &[&str]); 8] = [
            (
                r#"299 - "unknown field \"spec.x\"""#,
                &[r#"unknown field "spec.x""#],
            ),
            (r#"299 - "a, b", 299 kube "c\\d""#, &["a, b", r"c\d"]),
            (r#"110 - "stale", 299 - "b""#, &["b"]),
            (r#"299 - "no end"#, &[]),
            (r#"299 - "no end \"#, &[]),
            ("299 - none", &[]),
            ("", &[]),
            (r#"299 - """#, &[""]),
        ];
        for (header, expected) in cases {
            let value = HeaderValue::from_str(header).expect("a header");
            assert_eq!(texts(&value), expected, "{header}");
        }
    }

    #[test]
    fn a_warning_is_told_once_and_memory_is_bounded() {
        let requests = Requests::default();
        let warn = |text: &str| {
            let value = HeaderValue::from_str(&format!(r#"299 - "{text}""#)).expect("a header");
            requests.tell_warnings(&HeaderMap::from_iter([(header::WARNING, value)]));
            requests.warned.lock().len()
        };
        requests.know("known: ".to_owned());
        assert_eq!((warn("a"), warn("a"), warn("b"), warn("known: c")), (1, 1, 2, 2));
        let most = (0..2 * REMEMBERED).map(|number| warn(&number.to_string())).max();
        assert_eq!(most, Some(REMEMBERED));
    }
}
