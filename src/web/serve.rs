//! Serving a router until told to stop.

use std::{io, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::watch};

/// How long open connections, such as event streams, are waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Serves `router` until `stop` turns true; then answers what was asked and cuts off what goes on.
pub async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) -> io::Result<()> {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        // The sender gone means stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(stopped(stop.clone()));
    tokio::select! {
        result = server => result,
        () = async { stopped(stop).await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}
