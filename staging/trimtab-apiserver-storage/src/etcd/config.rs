//! How etcd is reached, and what is set about a store in it.

use std::fmt;
use std::time::Duration;

/// Where etcd is and how one gets in. Change what you need of [`EtcdConfig::new`].
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The members' client URLs, `http://host:port` or `https://host:port`, at least one. Any of them will do, and
    /// the others are turned to when one fails.
    pub servers: Vec<String>,
    /// Keys that begin with the first are kept in etcd with the second in its place, and no other keys can be
    /// used. `None` keeps all keys as they are.
    pub root: Option<(String, String)>,
    /// How members are recognised and told who we are, for `https` URLs.
    pub tls: EtcdTls,
    /// Who we are, where etcd's authentication is on and the client certificate does not say it.
    pub credentials: Option<EtcdCredentials>,
    /// How often the store compacts what is older than that; `None` leaves it to others. 5 minutes, as kube-apiserver
    /// has it. Several stores on one etcd share the work: one of them does it each time.
    pub compaction_interval: Option<Duration>,
    /// How often watches that hear nothing find out how far the store has come. 5 seconds.
    pub progress_interval: Duration,
}

impl EtcdConfig {
    /// The defaults, for these members.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            root: None,
            tls: EtcdTls::default(),
            credentials: None,
            compaction_interval: Some(Duration::from_secs(300)),
            progress_interval: Duration::from_secs(5),
        }
    }

    /// Keeps keys that begin with `ours` below a prefix, as the flag `--etcd-prefix` of API servers has it: with a slash
    /// before it and none after it, however it is written.
    #[must_use]
    pub fn below(mut self, ours: &str, prefix: &str) -> Self {
        let parts = prefix.split('/').filter(|part| !part.is_empty());
        self.root = Some((ours.to_owned(), parts.flat_map(|part| ["/", part]).collect()));
        self
    }
}

/// TLS to etcd, in PEM.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// The authorities of the members' certificates; `None` trusts those of the machine.
    pub ca: Option<String>,
    /// Our certificate, with its chain, and its key.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdCredentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl EtcdCredentials {
    /// A user whose password is the first line of a file with this text.
    pub fn of_file(user: &str, text: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: text.lines().next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Debug for EtcdCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdCredentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_slash_before_each_part() {
        for (prefix, wanted) in [
            ("/registry", "/registry"),
            ("registry/", "/registry"),
            ("//a//b/", "/a/b"),
            ("/", ""),
            ("", ""),
        ] {
            let config = EtcdConfig::new(["http://127.0.0.1:1"]).below("/ours", prefix);
            let root = config.root.expect("was set");
            assert_eq!(root, ("/ours".to_owned(), wanted.to_owned()), "{prefix:?}");
        }
    }
}
