//! The cluster's DNS, as the specification of Kubernetes' DNS-based service discovery (1.1.0) has it, from Services and
//! EndpointSlices.
//!
//! | name below `cluster.local` | answer |
//! |---|---|
//! | `NAME.NAMESPACE.svc` | the Service's addresses; a headless one's ready endpoints; an external one's other name |
//! | `_PORT._PROTOCOL.NAME.NAMESPACE.svc` | the port, and where |
//! | `HOSTNAME.NAME.NAMESPACE.svc` | the one endpoint of a headless Service with this host name, as a StatefulSet's pods have |
//! | `10-1-2-3.NAME.NAMESPACE.svc` | the one with this address, where it has no host name |
//! | `10-1-2-3.NAMESPACE.pod` | that address |
//! | `dns-version` | the specification's version |
//!
//! Addresses lead back to the names of their Services, and of endpoints that have host names. Answers are good for
//! [`TTL`] seconds, so that what changes is soon seen. Names that do not exist, and names that have nothing of the kind that was
//! asked for, are told apart; of names that are not the cluster's nothing is said.

mod feed;
mod records;
mod server;

pub use records::TTL;
pub use server::{ClusterDns, DnsError};
