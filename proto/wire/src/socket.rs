//! UDP sockets with room for what arrives, and leaves, while this process waits for a core.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

/// Buffer of a socket, each way: 30 ms at 1 Gbit/s. The kernel's default of 208 KiB is not two of them, and what does not
/// fit is lost as if the path had lost it. The kernel grants what `net.core.rmem_max` and `wmem_max` allow.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Must be called within a tokio runtime.
pub(crate) fn endpoint(at: SocketAddr, server: Option<ServerConfig>) -> std::io::Result<Endpoint> {
    let socket = UdpSocket::bind(at)?;
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))
}
