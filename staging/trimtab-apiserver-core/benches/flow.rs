//! What it costs to be let in, without a network: the same small request with priority and fairness and with plain limits,
//! by clients whose flow schema is the first of all, and nearly the last. The difference is the price.

use std::sync::Arc;

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_core::limits::{InFlight, Limits};
use trimtab_apiserver_core::{ApiServer, ApiService};
use trimtab_apiserver_storage::{Config, MemoryStore};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = ["plain", "fair"])]
fn first_schema(bencher: Bencher<'_, '_>, by: &str) {
    ask(bencher, by, "admin", "system:masters");
}

#[divan::bench(args = ["plain", "fair"])]
fn last_schema(bencher: Bencher<'_, '_>, by: &str) {
    ask(bencher, by, "jane", "some");
}

fn ask(bencher: Bencher<'_, '_>, by: &str, name: &str, group: &str) {
    let runtime = Runtime::new().expect("a runtime");
    let limits = Limits {
        in_flight: InFlight {
            fair: by == "fair",
            ..InFlight::default()
        },
        ..Limits::default()
    };
    let server = runtime.block_on(async {
        let store = Arc::new(MemoryStore::new(Config::default()));
        ApiServer::builder(store)
            .limits(limits)
            .start()
            .await
            .expect("starts")
    });
    let service = server.service().for_user(UserInfo {
        name: name.to_owned(),
        groups: vec![group.to_owned()],
        ..UserInfo::default()
    });
    bencher.bench_local(|| runtime.block_on(version(&service)));
}

async fn version(service: &ApiService) -> Bytes {
    let request = Request::builder().uri("/version").body(Full::new(Bytes::new()));
    let response = service.clone().oneshot(request.expect("a request")).await;
    let body = response.expect("answers").into_body().collect().await;
    body.expect("a body").to_bytes()
}
