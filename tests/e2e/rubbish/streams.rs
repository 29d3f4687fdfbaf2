//! Rubbish from peers whose certificate is good: in messages, and in how streams and connections are used.

use std::net::SocketAddr;
use std::time::Duration;

use baton_proto::codec;
use baton_proto::control::Request;
use baton_proto::hello::Hello;
use baton_tests::rng::Rng;
use quinn::{Connection, Endpoint, RecvStream, SendStream};

use super::messages::{flipped, is_request, malformed, refuses};
use crate::trespass::strangers::{connect, exchange, greet};

/// Streams that one connection may have open.
const STREAMS_MAX: usize = 128;
/// How long a stream that is one too many is seen to wait: it would open within a round trip.
const A_WHILE: Duration = Duration::from_millis(300);

/// Sends what is no message, and sees each refused. Yields how many.
pub(super) async fn messages(endpoint: &Endpoint, to: SocketAddr, rng: &mut Rng, count: usize) -> usize {
    let connection = greet(endpoint, to).await.unwrap();
    for _ in 0..count {
        let bytes = malformed(rng);
        if is_request(&bytes) {
            continue;
        }
        let answer = exchange(&connection, &bytes).await.unwrap();
        assert!(refuses(&answer), "{:?} was answered with {:?}", head(&bytes), String::from_utf8_lossy(&answer));
    }
    connection.close(0u32.into(), b"done");
    count
}

/// Sends messages with flipped bits, which may be good ones still. Whoever sends them must be one who may order nothing.
pub(super) async fn bits(endpoint: &Endpoint, to: SocketAddr, rng: &mut Rng, count: usize) -> usize {
    let connection = greet(endpoint, to).await.unwrap();
    for _ in 0..count {
        let bytes = flipped(rng);
        assert!(!exchange(&connection, &bytes).await.unwrap().is_empty(), "no answer to {:?}", head(&bytes));
    }
    connection.close(0u32.into(), b"done");
    count
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(64)]
}

/// Connects, and says something else than a greeting, or nothing.
pub(super) async fn greetings(endpoint: &Endpoint, to: SocketAddr, rng: &mut Rng, count: usize) -> usize {
    let mut silent = Vec::new();
    for number in 0..count {
        let connection = connect(endpoint, to).await.unwrap();
        match number % 4 {
            // Refused in words, unless it is longer than a greeting may be; a connection is not to be had by either.
            0 | 1 => {
                let bytes = malformed(rng);
                if let Ok(answer) = exchange(&connection, &bytes).await {
                    assert!(codec::decode::<Result<Hello, baton_proto::Fault>>(&answer).unwrap().is_err());
                }
                assert!(exchange(&connection, &observe()).await.is_err(), "asked without a greeting");
            }
            2 => drop(open(&connection, b"\x83\xa3min").await),
            _ => silent.push(connection),
        }
    }
    count
}

fn observe() -> Vec<u8> {
    codec::encode(&Request::Observe).unwrap()
}

/// Opens a stream and sends bytes without ending it.
async fn open(connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    (send, recv)
}

/// Streams that are begun and left, reset, not read, opened beyond what is allowed; and goes without a word.
pub(super) async fn streams(endpoint: &Endpoint, to: SocketAddr, rng: &mut Rng) -> usize {
    let connection = greet(endpoint, to).await.unwrap();
    let mut count = 0;
    for _ in 0..100 {
        let bytes = if rng.chance(500) { observe() } else { malformed(rng) };
        let bytes = &bytes[..bytes.len().min(1000)];
        let (mut send, mut recv) = open(&connection, bytes).await;
        match rng.below(3) {
            0 => send.reset(7u32.into()).unwrap(),
            1 => recv.stop(7u32.into()).unwrap(),
            // Both ends at once, in either order.
            _ => drop((recv, send)),
        }
        count += 1;
    }
    // Those that are begun and left are as many as may be open. One more has to wait. That of the greeting may count.
    let connection = greet(endpoint, to).await.unwrap();
    let mut left = Vec::new();
    while let Ok(stream) = tokio::time::timeout(A_WHILE, open(&connection, b"\x81\xa5begin")).await {
        left.push(stream);
        assert!(left.len() <= STREAMS_MAX, "{} streams are open", left.len());
    }
    assert!(left.len() >= STREAMS_MAX - 1, "{} streams are open", left.len());
    // Others are served meanwhile, and so is this one as soon as it has room.
    let other = greet(endpoint, to).await.unwrap();
    assert!(!exchange(&other, &observe()).await.unwrap().is_empty());
    left.truncate(STREAMS_MAX / 2);
    assert!(!exchange(&connection, &observe()).await.unwrap().is_empty());
    // Questions of which nobody reads the answers.
    let mut unread = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (mut send, recv) = open(&other, &observe()).await;
        send.finish().unwrap();
        unread.push(recv);
    }
    count + STREAMS_MAX + unread.len()
}

/// A request that never ends is refused after a while, and its stream is free again.
pub(super) async fn unfinished(endpoint: &Endpoint, to: SocketAddr) {
    let connection = greet(endpoint, to).await.unwrap();
    let (_send, mut recv) = open(&connection, b"\x81\xa5begin").await;
    let answer = recv.read_to_end(1 << 16).await.unwrap();
    assert!(refuses(&answer) && String::from_utf8_lossy(&answer).contains("did not arrive in time"), "{answer:?}");
}
