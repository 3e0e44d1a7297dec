//! HTTP: metrics and health, on a small thread of its own, so that a busy broker thread still shows.
use crate::metrics::Registry;
use crate::metrics::render::{self, Snapshot};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How long the broker thread may take to answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the HTTP thread asks of the broker thread.
pub(crate) enum Ask {
    /// Numbers for a scrape.
    Metrics(oneshot::Sender<Snapshot>),
    /// Why the broker is not ready, or nothing.
    Ready(oneshot::Sender<Option<String>>),
    /// Why the broker is not healthy, or nothing.
    Healthy(oneshot::Sender<Option<String>>),
}

struct Asker {
    asks: mpsc::Sender<Ask>,
    registry: Registry,
}

/// Starts the thread; the address where it listens.
pub(crate) fn start(
    listener: TcpListener,
    registry: Registry,
    asks: mpsc::Sender<Ask>,
    stop: watch::Receiver<bool>,
) -> io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let asker = Arc::new(Asker { asks, registry });
    std::thread::Builder::new().name("http".into()).stack_size(512 << 10).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "http listener did not start");
                return;
            }
        };
        if let Err(error) = runtime.block_on(serve(listener, asker, stop)) {
            tracing::error!(%error, "http listener failed");
        }
    })?;
    Ok(bound)
}

async fn serve(listener: TcpListener, asker: Arc<Asker>, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(asker);
    let stopped = async move {
        // The sender lives as long as the broker; its end is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::select! {
        result = axum::serve(listener, router) => result,
        () = stopped => Ok(()),
    }
}

async fn ask<T>(asker: &Asker, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    let (send, receive) = oneshot::channel();
    asker.asks.try_send(make(send)).ok()?;
    tokio::time::timeout(PATIENCE, receive).await.ok()?.ok()
}

async fn metrics(State(asker): State<Arc<Asker>>) -> Response {
    match ask(&asker, Ask::Metrics).await {
        Some(snapshot) => {
            let text = render::scrape(&asker.registry, &snapshot);
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        None => stuck(),
    }
}

async fn readyz(State(asker): State<Arc<Asker>>) -> Response {
    state(ask(&asker, Ask::Ready).await)
}

async fn healthz(State(asker): State<Arc<Asker>>) -> Response {
    state(ask(&asker, Ask::Healthy).await)
}

fn state(answer: Option<Option<String>>) -> Response {
    match answer {
        Some(None) => (StatusCode::OK, "ok\n").into_response(),
        Some(Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
        None => stuck(),
    }
}

fn stuck() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the broker thread does not answer\n").into_response()
}
