//! Where a webhook is: the `clientConfig` of a configuration or of a definition.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The port of a webhook that names none.
pub(super) const HTTPS: u16 = 443;

/// Where a webhook is, and by whose certificates it is known. Two webhooks with the same target share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(super) place: Place,
    /// The path, clean: with a slash at its beginning and none at its end.
    path: String,
    /// Certificates of authorities (PEM); empty for those of the system.
    pub(super) authorities: Vec<u8>,
}

/// Which server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// One that has a name or an address; `authority` is both with the port, as the URL has it.
    Host {
        host: String,
        port: u16,
        authority: String,
    },
    /// One behind a Service.
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
}

impl Target {
    /// Reads a `clientConfig`.
    ///
    /// # Errors
    ///
    /// A text that says what makes no sense; validation leaves little.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let mut authorities = STANDARD
            .decode(bundle)
            .map_err(|error| format!("caBundle is no base64: {error}"))?;
        if authorities.trim_ascii().is_empty() {
            authorities.clear();
        }
        let service = &config["service"];
        if service.is_object() {
            let text = |field: &str| service[field].as_str().unwrap_or_default();
            let port = service["port"].as_u64().unwrap_or(HTTPS.into());
            return Ok(Self {
                place: Place::Service {
                    namespace: text("namespace").to_owned(),
                    name: text("name").to_owned(),
                    port: u16::try_from(port).map_err(|_| format!("port {port} is none"))?,
                },
                path: clean(text("path")),
                authorities,
            });
        }
        let Some(url) = config["url"].as_str().filter(|url| !url.is_empty()) else {
            return Err("webhook configuration must have either service or URL".to_owned());
        };
        let unparsable = |why: &str| format!("Unparsable URL: {url}: {why}");
        let parsed: http::Uri = url
            .parse()
            .map_err(|e: http::uri::InvalidUri| unparsable(&e.to_string()))?;
        let (Some(host), Some(authority)) = (parsed.host(), parsed.authority()) else {
            return Err(unparsable("it has no host"));
        };
        if parsed.scheme_str() != Some("https") {
            return Err(unparsable("it is not https"));
        }
        Ok(Self {
            place: Place::Host {
                // IPv6 addresses are in brackets in URLs only.
                host: host.trim_matches(['[', ']']).to_owned(),
                port: parsed.port_u16().unwrap_or(HTTPS),
                authority: authority.as_str().to_owned(),
            },
            path: clean(parsed.path()),
            authorities,
        })
    }

    /// The URL without its query; of a Service by the name that its certificate has to show.
    pub(crate) fn url(&self) -> String {
        let path = &self.path;
        match &self.place {
            Place::Host { authority, .. } => format!("https://{authority}{path}"),
            Place::Service {
                namespace,
                name,
                port,
            } => format!("https://{name}.{namespace}.svc:{port}{path}"),
        }
    }
}

/// A host and a port as one text; IPv6 addresses in brackets.
pub(super) fn join(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// A path without empty steps, steps to nowhere (`.`) and back (`..`), and slashes at its end; as Go's `path.Join` has it.
fn clean(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    format!("/{}", steps.join("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_are_those_that_are_called() {
        let service =
            |path: &str| json!({"service": {"namespace": "n", "name": "s", "path": path, "port": 8443}});
        for (config, expected) in [
            (json!({"url": "https://h"}), "https://h/"),
            (json!({"url": "https://h:8443/a/b/"}), "https://h:8443/a/b"),
            (
                json!({"url": "https://[::1]:8443//a/../b"}),
                "https://[::1]:8443/b",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s"}}),
                "https://s.n.svc:443/",
            ),
            (service("/x/"), "https://s.n.svc:8443/x"),
            (service("x"), "https://s.n.svc:8443/x"),
        ] {
            assert_eq!(
                Target::read(&config).map(|target| target.url()).as_deref(),
                Ok(expected)
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (config, expected) in [
            (json!({}), "webhook configuration must have either service or URL"),
            (
                json!({"url": "http://h"}),
                "Unparsable URL: http://h: it is not https",
            ),
            (json!({"url": "/path"}), "Unparsable URL: /path: it has no host"),
            (
                json!({"service": {"namespace": "n", "name": "s", "port": 70000}}),
                "port 70000 is none",
            ),
        ] {
            assert_eq!(Target::read(&config), Err(expected.to_owned()));
        }
        assert!(Target::read(&json!({"url": "https://h", "caBundle": "%"})).is_err());
    }

    #[test]
    fn a_blank_bundle_is_none() {
        let config = json!({"url": "https://h", "caBundle": STANDARD.encode(" \n")});
        assert_eq!(Target::read(&config).map(|t| t.authorities), Ok(Vec::new()));
    }
}
