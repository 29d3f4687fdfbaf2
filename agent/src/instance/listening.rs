//! Listens where a server would, as it does: to stand in for it, or to see whether somebody else is there.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 16;

/// Listens on an address of this host.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        // As the server does: `::` beside `0.0.0.0` means IPv6 alone.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        socket
    };
    // As the server does: connections of its predecessor that are not quite gone do not matter.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
