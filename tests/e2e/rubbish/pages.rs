//! Rubbish on the TCP port of the pages for monitoring, which anybody may ask.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use baton_tests::rng::Rng;
use baton_tests::wait::wait_for;

/// Visitors that the agent has at a time.
const VISITORS_MAX: usize = 64;

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The status that a visitor gets, if it gets one. One that ends what it says is not waited for.
fn said(to: SocketAddr, words: &[u8], and_ends: bool) -> Option<u16> {
    let mut stream = connect(to);
    let _ = stream.write_all(words);
    if and_ends {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok())
}

pub(super) fn serves(to: SocketAddr) -> bool {
    said(to, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", false) == Some(200)
}

/// Says so many things that are no request for a page.
pub(super) fn noise(to: SocketAddr, rng: &mut Rng, count: usize) -> usize {
    for number in 0..count {
        let mut words = Vec::new();
        match number % 8 {
            // A TLS handshake, HTTP/2, and what other services are greeted with.
            0 => words.extend(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
            1 => words.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            2 => words.extend(b"*1\r\n$8\r\nFLUSHALL\r\n"),
            3 => {
                let bytes = rng.below(4096) as usize;
                rng.bytes(bytes, &mut words);
            }
            // A head without end, and a path and a header that are longer than may be.
            4 => words.extend(b"GET /metrics HTTP/1.1\r\nHost: a\r\n".iter().chain(&[b'A'; 100_000])),
            5 => words.extend([b"GET /", "x".repeat(70_000).as_bytes(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat()),
            // Bodies of absurd lengths, for a method that is not taken.
            6 => words.extend(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nx"),
            _ => words.extend(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
        }
        let status = said(to, &words, true);
        assert_ne!(status, Some(200), "{:?}", String::from_utf8_lossy(&words[..words.len().min(60)]));
    }
    count
}

/// More visitors than are let in, who say nothing, or say it byte by byte and never to the end. Pages are served again after
/// a while, though none of them goes by itself.
pub(super) fn loiterers(to: SocketAddr) -> usize {
    let mut silent: Vec<TcpStream> = (0..VISITORS_MAX / 2).map(|_| connect(to)).collect();
    let mut slow: Vec<TcpStream> = (0..VISITORS_MAX).map(|_| connect(to)).collect();
    let words = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a'));
    let mut words = words.copied();
    wait_for("pages are served again", || {
        let word = words.next().unwrap_or(b'a');
        for stream in &mut slow {
            let _ = stream.write_all(&[word]);
        }
        if serves(to) { Ok(()) } else { Err("they are not".to_owned()) }
    });
    // They were sent away, and those beyond the number were not let in at all.
    let all = silent.len() + slow.len();
    wait_for("every loiterer is gone", || {
        let is_here = |stream: &mut TcpStream| {
            stream.set_nonblocking(true).unwrap();
            matches!(stream.read(&mut [0; 512]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let here = silent.iter_mut().chain(&mut slow).map(is_here).filter(|here| *here);
        match here.count() {
            0 => Ok(()),
            here => Err(format!("{here} of {all} are here")),
        }
    });
    all
}
