//! What a server allows its clients: how many requests at once, and how long each may take.

use std::time::Duration;

/// The limits of a server. The default is kube-apiserver's where that has the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many requests are answered at the same time.
    pub in_flight: InFlight,
    /// How long a request may take that is no watch and no connection to a pod; it may ask for less.
    pub request_timeout: Duration,
    /// How long a watch lasts at least whose client does not say; it is ended after up to twice as long.
    pub min_request_timeout: Duration,
    /// Requests that one HTTP/2 connection may have open, watches included.
    pub http2_max_streams: u32,
    /// How long a client is waited for.
    pub patience: Patience,
    /// Connections that there may be; no more are taken until one ends. The system's limit of open files is the one that is
    /// met otherwise.
    pub max_connections: usize,
}

/// How many requests are answered at the same time; 0 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Requests that read, of plain limits. Priority and fairness shares out the sum of both.
    pub reading: u32,
    /// Requests that write.
    pub mutating: u32,
    /// By priority and fairness, or by plain limits.
    pub fair: bool,
}

/// For how long is waited for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For its TLS handshake. kube-apiserver's takes ten seconds.
    pub handshake: Duration,
    /// For the whole head of a request, from the end of the one before it; HTTP/1. kube-apiserver's takes 32 seconds.
    pub head: Duration,
    /// For anything at all on a connection without open requests; HTTP/2. kube-apiserver's takes 90 seconds.
    pub idle: Duration,
    /// For it to take any of what is to be sent.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: InFlight::default(),
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            http2_max_streams: 250,
            patience: Patience::default(),
            max_connections: 65_536,
        }
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            reading: 400,
            mutating: 200,
            fair: true,
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            write: Duration::from_secs(60),
        }
    }
}
