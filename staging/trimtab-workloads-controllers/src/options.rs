//! How the controllers behave.

use std::time::Duration;

/// How the controllers behave. The defaults are kube-controller-manager's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Which controllers to run: names, `*` for all that are not named, `-name` for all but this one. A name counts from
    /// the list's beginning, the first one that says something of a controller decides.
    pub controllers: Vec<String>,
    /// How long a namespace is left alone after its deletion began: the servers of a cluster that has several may still
    /// let objects into it. Nothing is needed with one server. Default 5 s.
    pub namespace_delay: Duration,
    /// How long a controller may take to finish what it has begun when it is stopped. Default 5 s.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            namespace_delay: Duration::from_secs(5),
            drain: Duration::from_secs(5),
        }
    }
}
