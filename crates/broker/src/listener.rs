//! Accepts connections and starts their tasks.
use crate::connection;
use crate::connections::Handle;
use crate::context::{ConnectionInfo, Principal};
use crate::metrics::handles::{Closed, Refused};
use crate::metrics::names;
use crate::peers;
use crate::settings::Settings;
use crate::shared::{Complaint, Shared};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::spawn_local;

/// A pause after `accept` failed: out of descriptors heals only when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the first address of the listener's host that works.
pub(crate) async fn bind(settings: &Settings, host: &str, port: u16) -> io::Result<TcpListener> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{host} has no address"));
    for address in tokio::net::lookup_host((host, port)).await? {
        match bind_one(address, settings) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit them; without them the system tunes by itself.
    if let Ok(bytes) = u32::try_from(settings.send_buffer_bytes) {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Ok(bytes) = u32::try_from(settings.receive_buffer_bytes) {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(settings.backlog)
}

/// Accepts until the broker stops.
pub(crate) async fn accept(shared: Rc<Shared>, listener: TcpListener, name: Rc<str>) {
    let opened = shared.metrics.registry().counter(names::CONNECTIONS_OPENED, &[("listener", &name)]);
    let mut stop = shared.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
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
                shared.complain(
                    Complaint::Accept,
                    || tracing::warn!(%error, listener = %name, "accept failed"),
                );
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
            let limit = reason.config().unwrap_or_default();
            shared.complain(
                Complaint::Limit,
                || tracing::warn!(%peer, "connection refused: {limit} is reached"),
            );
            None
        }
    }
}

/// Takes the connection off the list however its task ends.
struct Open {
    shared: Rc<Shared>,
    key: usize,
    reason: Closed,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections.gone(self.key);
        self.shared.metrics.closed(self.reason);
    }
}

async fn run(shared: Rc<Shared>, stream: TcpStream, key: usize, handle: Rc<Handle>) {
    let mut open = Open { shared: shared.clone(), key, reason: Closed::Io };
    if peers::on_client_listeners(&shared) {
        // Requests begin with a length, which is not negative; other nodes begin otherwise.
        let mut first = [0];
        let begins = tokio::select! {
            biased;
            reason = handle.closing() => {
                open.reason = reason;
                return;
            }
            begins = stream.peek(&mut first) => begins,
        };
        if begins.is_ok_and(|n| n > 0) && first[0] == peer::MAGIC[0] {
            let at = stream.peer_addr();
            drop(open);
            if let Ok(at) = at {
                peers::on_client_listener(shared, stream, at).await;
            }
            return;
        }
    }
    // Answers are small and awaited: they must not wait for more.
    if stream.set_nodelay(true).is_ok() {
        open.reason = connection::serve(shared, stream, handle).await;
    }
}
