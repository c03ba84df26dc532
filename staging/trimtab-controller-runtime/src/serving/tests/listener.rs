//! Listening on sockets: addresses, the stop, what is cut off.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::{Certificates, Listener, Route, Router, ServeError, text};
use super::kit::{Answer, get, over};

#[tokio::test]
async fn port_0_is_a_free_port_which_is_told() {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.address();
    assert_ne!(address.port(), 0);
    let router = Router::new().route("/", Route::get(|_| async { text(200, "hello") }));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(router.expect("a new path"), stop.clone()));

    // A second listener cannot have the port, and says which that is and why.
    let taken = Listener::bind(&address.to_string())
        .await
        .expect_err("the port is taken");
    let says = taken.to_string();
    assert!(
        says.contains(&address.to_string()) && says.contains("in use"),
        "{says}"
    );

    let mut client = over(TcpStream::connect(address).await.expect("a connection")).await;
    let response = client.send_request(get("/")).await.expect("an answer");
    assert_eq!(Answer::received(response).await, Answer::new(200, "hello"));
    stop.cancel();
    // The idle connection is closed; nobody is waited for.
    serving.await.expect("no panic").expect("nothing to cut off");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn without_a_host_all_addresses_are_listened_on() {
    let listener = Listener::bind(":0").await.expect("a free port");
    assert!(listener.address().ip().is_unspecified());
    for address in ["", "nonsense", "127.0.0.1", ":http", "127.0.0.1:70000"] {
        let error = Listener::bind(address).await.expect_err("no address");
        let says = error.to_string();
        assert!(matches!(error, ServeError::Bind { .. }), "{says}");
        assert!(says.contains(&format!("{address:?}")), "{says}");
    }
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.address();
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let hanging = Route::get(move |_| {
        let _open = begun.send(());
        std::future::pending()
    });
    let router = Router::new().route("/", hanging).expect("a new path");
    let stop = CancellationToken::new();
    let serving = listener.grace(Duration::ZERO).serve(router, stop.clone());
    let serving = tokio::spawn(serving);
    let mut client = over(TcpStream::connect(address).await.expect("a connection")).await;
    let asking = client.send_request(get("/"));
    let stopping = async {
        has_begun.recv().await;
        stop.cancel();
    };
    let (asked, ()) = tokio::join!(asking, stopping);
    assert!(asked.is_err());
    let ended = serving.await.expect("no panic");
    assert!(
        matches!(ended, Err(ServeError::CutOff { open: 1, .. })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_listener_that_is_dropped_leaves_nothing_behind() {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let listener = listener.tls(Certificates::new()).expect("TLS");
    let address = listener.address();
    let serving = tokio::spawn(listener.serve(Router::new(), CancellationToken::new()));
    let mut client = TcpStream::connect(address).await.expect("a connection");
    serving.abort();
    assert!(serving.await.expect_err("it was aborted").is_cancelled());
    let mut end = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut end).await;
    assert!(end.is_empty(), "{closed:?}");
    assert!(TcpStream::connect(address).await.is_err());
}
