//! How the controllers behave.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use trimtab_client_cache::reflector;

use crate::workload::clock::Clock;

/// How the controllers behave. The defaults are kube-controller-manager's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Which controllers to run: names, `*` for all that are not named, `-name` for all but this one. A name counts from
    /// the list's beginning, the first one that says something of a controller decides.
    pub controllers: Vec<String>,
    /// How long after its deletion began a namespace is looked at a last time and let go. It is emptied at once; but the
    /// servers of a cluster that has several may let objects into it for a while. Nothing is needed with one server.
    /// Default 5 s.
    pub namespace_delay: Duration,
    /// The certificates by which pods know the server, in PEM form, to be published in every namespace. Default none:
    /// then nothing is published. See [`Options::for_server`].
    pub root_ca: Option<String>,
    /// How long a node may be silent before it is taken for dead. Default 50 s.
    pub node_monitor_grace: Duration,
    /// What time it is, as deadlines and readiness are judged by. Default the machine's clock.
    pub clock: Clock,
    /// How they list and watch. Default as every client does.
    pub watching: reflector::Config,
    /// How long a controller may take to finish what it has begun when it is stopped. Default 5 s.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            namespace_delay: Duration::from_secs(5),
            root_ca: None,
            node_monitor_grace: Duration::from_secs(50),
            clock: Clock::System,
            watching: reflector::Config::default(),
            drain: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// The defaults, with those controllers alone without which nothing in a cluster would ever go: the garbage collector, that
    /// of namespaces and what every namespace has. Deployments and pods are left to whoever plays their controllers.
    pub fn essential() -> Self {
        Self {
            controllers: crate::set::essential(),
            ..Self::default()
        }
    }

    /// The defaults, and the certificates by which this client configuration knows its server.
    pub fn for_server(config: &Config) -> Self {
        let root_ca = config
            .root_cert
            .as_ref()
            .map(|certificates| certificates.iter().map(|der| pem(der)).collect());
        Self {
            root_ca,
            ..Self::default()
        }
    }
}

/// One certificate in PEM form.
fn pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at.is_multiple_of(LINE) {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::pem;

    #[test]
    fn pem_lines_are_64_characters_long() {
        let text = pem(&[0; 49]);
        let lengths: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [27, 64, 4, 25]);
    }
}
