//! UDP sockets with room for what arrives, and leaves, while this process waits for a core.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use aws_lc_rs::hmac;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use crate::identity::Identity;

/// Buffer of a socket, each way: 30 ms at 1 Gbit/s. The kernel's default of 208 KiB is not two of them, and what does not
/// fit is lost as if the path had lost it. The kernel grants what `net.core.rmem_max` and `wmem_max` allow.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What keys are made for, beside everything else that could be made of an identity's key.
const RESET_LABEL: &[u8] = b"baton stateless reset";
const CONNECTION_LABEL: &[u8] = b"baton connection ids";

/// Must be called within a tokio runtime.
pub(crate) fn client(at: SocketAddr) -> std::io::Result<Endpoint> {
    open(at, EndpointConfig::default(), None)
}

/// A restarted agent knows nothing of the connections it had. Since it knows the ids of connections for its own, and makes
/// the same reset tokens as before, it can tell their peers so at their next packet; else they would wait for the end of the
/// idle time-out. Must be called within a tokio runtime.
pub(crate) fn server(at: SocketAddr, server: ServerConfig, identity: &Identity) -> std::io::Result<Endpoint> {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.key.secret_der());
    let reset = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, RESET_LABEL).as_ref());
    let ids = hmac::sign(&secret, CONNECTION_LABEL);
    let ids = ids.as_ref().first_chunk().copied().map_or(0, u64::from_le_bytes);
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    open(at, config, Some(server))
}

fn open(at: SocketAddr, config: EndpointConfig, server: Option<ServerConfig>) -> std::io::Result<Endpoint> {
    let socket = UdpSocket::bind(at)?;
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}
