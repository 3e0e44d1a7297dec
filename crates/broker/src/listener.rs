//! Accepts connections and starts their tasks.
use crate::connection;
use crate::connections::Handle;
use crate::context::{ConnectionInfo, Principal};
use crate::metrics::handles::{Closed, Refused};
use crate::metrics::names;
use crate::shared::Shared;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::spawn_local;

/// A pause after `accept` failed: out of descriptors heals only when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds every address of `host`; the first that works is taken.
pub(crate) async fn bind(host: &str, port: u16, backlog: u32) -> io::Result<TcpListener> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{host} has no address"));
    for address in tokio::net::lookup_host((host, port)).await? {
        match bind_one(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Accepts until the broker stops.
pub(crate) async fn accept(shared: Rc<Shared>, listener: TcpListener, name: Rc<str>) {
    let opened = shared.metrics.registry().counter(names::CONNECTIONS_OPENED, &[("listener", &name)]);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop_begun() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some((key, handle)) = admit(&shared, &name, peer) {
                    opened.increment(1);
                    spawn_local(run(shared.clone(), stream, key, handle));
                }
            }
            Err(error) => {
                shared.metrics.refused(Refused::AcceptError);
                shared.complain(|| tracing::warn!(%error, listener = %name, "accept failed"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(shared: &Rc<Shared>, listener: &Rc<str>, peer: SocketAddr) -> Option<(usize, Rc<Handle>)> {
    let info = ConnectionInfo {
        id: shared.connections.next_id(),
        listener: listener.clone(),
        peer: peer.ip(),
        principal: Principal::anonymous(),
    };
    match shared.connections.admit(&shared.settings(), info, shared.core.uptime()) {
        Ok(admitted) => Some(admitted),
        Err(reason) => {
            shared.metrics.refused(reason);
            shared.complain(|| tracing::warn!(%peer, ?reason, "connection refused"));
            None
        }
    }
}

async fn run(shared: Rc<Shared>, stream: TcpStream, key: usize, handle: Rc<Handle>) {
    // Answers are small and awaited: they must not wait for more.
    let reason = match stream.set_nodelay(true) {
        Ok(()) => connection::serve(shared.clone(), stream, handle).await,
        Err(_) => Closed::Io,
    };
    shared.connections.gone(key);
    shared.metrics.closed(reason);
}
