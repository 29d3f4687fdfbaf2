//! A quick look whether anybody listens on a UDP port. A host that is up answers a datagram to a closed port with an
//! ICMP message, which only a connected socket is told of; QUIC's own socket is not, and would wait for its time-out.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// Returns when the host said that nobody listens there; waits for ever where nothing is known.
pub(crate) async fn refused(address: SocketAddr) -> std::io::Error {
    if let Err(error) = knock(address).await
        && matches!(
            error.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        )
    {
        return error;
    }
    std::future::pending().await
}

async fn knock(address: SocketAddr) -> std::io::Result<()> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    // One byte is no QUIC packet: an endpoint drops it without an answer.
    socket.send(&[0]).await?;
    socket.recv(&mut [0; 1]).await.map(|_| ())
}
