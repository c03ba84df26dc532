//! The cluster's names, asked for by UDP and TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_core::ApiServer;
use trimtab_apiserver_storage::{Config, MemoryStore};

use super::kit::of;
use crate::ClusterDns;

const PATIENCE: Duration = Duration::from_secs(30);

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, kind));
    message.to_vec().expect("a message")
}

fn told(answer: &[u8]) -> (ResponseCode, Vec<String>) {
    let message = Message::from_vec(answer).expect("a message");
    let answers = message.answers.iter().map(|record| record.data.to_string());
    (message.metadata.response_code, answers.collect())
}

async fn by_udp(server: SocketAddr, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    socket.send_to(&question(name, kind), server).await.expect("sent");
    let mut answer = [0; 512];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await;
    let length = received.expect("an answer in time").expect("an answer");
    told(&answer[..length])
}

async fn by_tcp(server: SocketAddr, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    let question = question(name, kind);
    let length = u16::try_from(question.len()).expect("a short question");
    stream.write_u16(length).await.expect("sent");
    stream.write_all(&question).await.expect("sent");
    let length = stream.read_u16().await.expect("an answer");
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.expect("an answer");
    told(&answer)
}

#[tokio::test]
async fn names_are_served_and_follow_the_cluster() {
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = ApiServer::builder(store).start().await.expect("a server");
    let client = Client::new(server.service(), "default");
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
    let service: Service = of(json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None",
        "selector": {"app": "db"}, "ports": [{"name": "sql", "port": 5432}]}}));
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("a service");
    let slice = |address: &str| -> EndpointSlice {
        of(
            json!({"metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "hostname": "db-0", "conditions": {"ready": true}}]}),
        )
    };
    slices
        .create(&PostParams::default(), &slice("10.1.0.1"))
        .await
        .expect("a slice");

    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let dns = ClusterDns::start(client.clone(), "cluster.local", any)
        .await
        .expect("a port");
    dns.synced().await;
    let (at, stop) = (dns.address(), CancellationToken::new());
    let serving = tokio::spawn(dns.run(stop.clone()));

    let name = "db-0.db.default.svc.cluster.local.";
    let found = |address: &str| (ResponseCode::NoError, vec![address.to_owned()]);
    assert_eq!(by_udp(at, name, RecordType::A).await, found("10.1.0.1"));
    assert_eq!(by_tcp(at, name, RecordType::A).await, found("10.1.0.1"));
    let (code, kubernetes) = by_udp(at, "kubernetes.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!((code, kubernetes.len()), (ResponseCode::NoError, 1));
    let port = by_udp(at, "_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV).await;
    assert_eq!(port, found("0 100 5432 db-0.db.default.svc.cluster.local."));
    let nothing = by_udp(at, name, RecordType::AAAA).await;
    assert_eq!(nothing, (ResponseCode::NoError, Vec::new()));
    let nobody = by_udp(at, "nobody.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(nobody, (ResponseCode::NXDomain, Vec::new()));
    let elsewhere = by_udp(at, "example.com.", RecordType::A).await;
    assert_eq!(elsewhere, (ResponseCode::Refused, Vec::new()));

    // The pod comes back under its name with another address.
    let moved = Patch::Merge(json!({"endpoints": slice("10.1.0.2").endpoints}));
    slices
        .patch("db-1", &PatchParams::default(), &moved)
        .await
        .expect("moved");
    let follows = async {
        while by_udp(at, name, RecordType::A).await != found("10.1.0.2") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, follows)
        .await
        .expect("the name follows the pod");

    stop.cancel();
    serving.await.expect("no panic").expect("it ends well");
    server.shutdown().await.expect("the server stops");
}
