//! Answers questions by UDP and TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::RwLock;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use trimtab_client_cache::informer::InformerFactory;

use super::feed::Feed;
use super::records::{Answer, Data, Kind, Records, TTL};

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How many answers wait on a connection at most.
const WAITING: usize = 32;
/// How often a port is looked for that is free for both UDP and TCP, where any will do.
const TRIES: u32 = 8;

/// Why the cluster's names are not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The address cannot be listened on.
    #[error("DNS cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        why: io::Error,
    },
    /// The server ended, which it does not by itself.
    #[error("DNS ended: {0}")]
    Ended(String),
}

/// A server of the cluster's names. Dropping it ends it.
#[must_use = "dropping it ends the server"]
pub struct ClusterDns {
    server: Server<Handler>,
    address: SocketAddr,
    feed: Feed,
}

impl std::fmt::Debug for ClusterDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterDns")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ClusterDns {
    /// Serves the names of a cluster below `domain`, which is `cluster.local` in most clusters, by UDP and TCP. The cluster is
    /// that of a client, or of an [`InformerFactory`], whose watches and caches are shared then. Port 0 picks a free one. Who
    /// asks before [`ClusterDns::synced`] may be told that there is nothing.
    ///
    /// # Errors
    /// [`DnsError::Listen`].
    pub async fn start(
        cluster: impl Into<InformerFactory>,
        domain: &str,
        address: SocketAddr,
    ) -> Result<Self, DnsError> {
        let (socket, listener) = listen(address)
            .await
            .map_err(|why| DnsError::Listen { address, why })?;
        let address = socket
            .local_addr()
            .map_err(|why| DnsError::Listen { address, why })?;
        let records = Arc::new(RwLock::new(Records::new(domain)));
        let feed = Feed::start(&cluster.into(), &records);
        let mut server = Server::new(Handler { records });
        server.register_socket(socket);
        server.register_listener(listener, SILENCE, WAITING);
        Ok(Self {
            server,
            address,
            feed,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it knows all names that there were when it was started.
    pub async fn synced(&self) {
        self.feed.synced().await;
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// [`DnsError::Ended`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DnsError> {
        let ended = stop.run_until_cancelled(self.server.block_until_done()).await;
        let outcome = match ended {
            None => self.server.shutdown_gracefully().await,
            Some(Ok(())) => return Err(DnsError::Ended("without being told to".to_owned())),
            Some(Err(why)) => Err(why),
        };
        self.feed.leave().await;
        outcome.map_err(|why| DnsError::Ended(why.to_string()))
    }
}

/// The same port for both.
async fn listen(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { TRIES } else { 1 };
    loop {
        let socket = UdpSocket::bind(address).await?;
        tries -= 1;
        match TcpListener::bind(socket.local_addr()?).await {
            Ok(listener) => return Ok((socket, listener)),
            Err(why) if tries == 0 => return Err(why),
            Err(_) => {}
        }
    }
}

struct Handler {
    records: Arc<RwLock<Records>>,
}

/// What is sent back.
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    authority: Option<Record>,
    beside: Vec<Record>,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let reply = self.reply(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.code != ResponseCode::Refused;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &request.edns {
            builder.edns(edns);
        }
        let message = builder.build(
            metadata,
            &reply.answers,
            [],
            reply.authority.as_ref(),
            &reply.beside,
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer was not sent");
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(Header {
                    metadata,
                    counts: HeaderCounts::default(),
                })
            }
        }
    }
}

impl Handler {
    fn reply(&self, request: &Request) -> Reply {
        let nothing = |code: ResponseCode| Reply {
            code,
            answers: Vec::new(),
            authority: None,
            beside: Vec::new(),
        };
        if request.metadata.op_code != OpCode::Query {
            return nothing(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else {
            return nothing(ResponseCode::FormErr);
        };
        if info.query.query_class() != DNSClass::IN {
            return nothing(ResponseCode::Refused);
        }
        let records = self.records.read();
        let asked = info.query.name().to_string();
        let record = |(name, data): &(String, Data)| record(name, data, &records);
        match records.answer(&asked, kind(info.query.query_type())) {
            Answer::Found { answers, beside } => Reply {
                code: ResponseCode::NoError,
                authority: if answers.is_empty() { soa(&records) } else { None },
                answers: answers.iter().filter_map(record).collect(),
                beside: beside.iter().filter_map(record).collect(),
            },
            Answer::NoName => Reply {
                authority: soa(&records),
                ..nothing(ResponseCode::NXDomain)
            },
            Answer::NotOurs => nothing(ResponseCode::Refused),
        }
    }
}

fn kind(asked: RecordType) -> Kind {
    match asked {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::CNAME => Kind::Cname,
        RecordType::PTR => Kind::Ptr,
        RecordType::TXT => Kind::Txt,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// A name; what is none cannot be written in an answer.
fn name(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

fn record(of: &str, data: &Data, records: &Records) -> Option<Record> {
    let data = match data {
        Data::Address(std::net::IpAddr::V4(address)) => RData::A(A(*address)),
        Data::Address(std::net::IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Srv { port, weight, target } => RData::SRV(SRV::new(0, *weight, *port, name(target)?)),
        Data::Cname(other) => RData::CNAME(CNAME(name(other)?)),
        Data::Ptr(other) => RData::PTR(PTR(name(other)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Ns(other) => RData::NS(NS(name(other)?)),
        Data::Soa => return soa(records),
    };
    Some(Record::from_rdata(name(of)?, TTL, data))
}

/// What says for how long it is good to know that something is not there.
fn soa(records: &Records) -> Option<Record> {
    let domain = records.domain();
    let start = SOA::new(
        name(&records.ns())?,
        name(&format!("hostmaster.{domain}"))?,
        1,
        7200,
        1800,
        86_400,
        TTL,
    );
    Some(Record::from_rdata(name(domain)?, TTL, RData::SOA(start)))
}
