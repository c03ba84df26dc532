//! Connections that become something else: from then on bytes go to and fro until one side ends.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;

/// The client's side of a request's connection, once it has been upgraded; `None` when it cannot be.
pub(super) fn of<B>(request: &mut http::Request<B>) -> Option<OnUpgrade> {
    request.extensions().get::<OnUpgrade>()?;
    Some(hyper::upgrade::on(request))
}

/// Joins both sides until one of them ends, or the server stops.
pub(super) async fn join(client: OnUpgrade, server: OnUpgrade, stop: CancellationToken) {
    let joined = async {
        // Which of the two comes first is not ours to say: the client's does once it has our answer.
        let (server, client): (Upgraded, Upgraded) = tokio::try_join!(server, client)?;
        let (mut server, mut client) = (TokioIo::new(server), TokioIo::new(client));
        let copied = copy_bidirectional(&mut client, &mut server).await;
        if let Err(error) = copied {
            tracing::debug!(%error, "an upgraded connection has ended");
        }
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        joined = joined => if let Err(error) = joined {
            tracing::debug!(%error, "a connection could not be upgraded");
        }
    }
}
