//! Rubbish on the UDP port, from who has no certificate: what a port scan sends, packets that look like QUIC, and handshakes
//! that are begun and left.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use baton_tests::rng::Rng;
use quinn::Endpoint;

/// Least size of a client's first packet (RFC 9000, section 14.1).
const INITIAL_BYTES_MIN: usize = 1200;
/// A version that nobody speaks, of those that are set aside for trying (RFC 9000, section 15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// A packet with a long header: version, ids of eight bytes, and whatever follows.
fn long_header(first: u8, version: [u8; 4], bytes: usize, rng: &mut Rng) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(version);
    for _ in 0..2 {
        packet.push(8);
        rng.bytes(8, &mut packet);
    }
    let rest = bytes.saturating_sub(packet.len());
    rng.bytes(rest, &mut packet);
    packet
}

/// Sends so many datagrams, each something else.
pub(super) fn noise(to: SocketAddr, rng: &mut Rng, count: usize) -> usize {
    let socket = socket();
    for number in 0..count {
        let mut packet = Vec::new();
        match number % 6 {
            // Other services, as scanners ask for them: DNS, NTP, SNMP, SIP, and an empty one.
            0 => packet.extend(
                [
                    &b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0\0\x10\0\x03"[..],
                    b"\xe3\0\x04\xfa\0\x01\0\0\0\x01\0\0",
                    b"0:\x02\x01\x03\x30\x0f\x02\x02\x4a\x69\x02\x03\0\xff\xe3\x04\x01\x04\x02\x01\x03",
                    b"OPTIONS sip:nm SIP/2.0\r\nVia: SIP/2.0/UDP nm\r\n\r\n",
                    b"",
                ][rng.below(5) as usize],
            ),
            1 => {
                let bytes = rng.below(9000) as usize;
                rng.bytes(bytes, &mut packet);
            }
            // First packets of QUIC 1 that nobody has encrypted, of a good size and of a bad one.
            2 => packet = long_header(0xc3, [0, 0, 0, 1], INITIAL_BYTES_MIN, rng),
            3 => {
                let bytes = rng.below(INITIAL_BYTES_MIN as u64) as usize;
                packet = long_header(0xc0 | rng.below(64) as u8, [0, 0, 0, 1], bytes, rng);
            }
            // Of a connection that there is none of.
            4 => {
                packet.push(0x40);
                let bytes = 20 + rng.below(1400) as usize;
                rng.bytes(bytes, &mut packet);
            }
            // Ids of an absurd length.
            _ => {
                packet.extend(b"\xc3\0\0\0\x01\xff");
                rng.bytes(INITIAL_BYTES_MIN, &mut packet);
            }
        }
        // The kernel may have no room for the moment, and an answer to an earlier one may be an error here.
        let _ = socket.send_to(&packet, to);
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    count
}

/// Asks in a version that nobody speaks. It is told which there are, in a packet that is smaller than its own.
pub(super) fn negotiate(to: SocketAddr, rng: &mut Rng) {
    let socket = socket();
    let probe = long_header(0xc0, NO_VERSION, INITIAL_BYTES_MIN, rng);
    let mut answer = [0; 2048];
    socket.send_to(&probe, to).unwrap();
    let (bytes, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((from, &answer[1..5]), (to, &[0; 4][..]), "a negotiation of versions");
    assert!(bytes < probe.len() && answer[..bytes].windows(4).any(|version| version == [0, 0, 0, 1]), "{answer:?}");
}

/// The first packets of handshakes that would be good ones.
fn first_packets(endpoint: &Endpoint, count: usize) -> Vec<Vec<u8>> {
    let sink = socket();
    let to = sink.local_addr().unwrap();
    let mut packet = [0; 2048];
    let mut packets = Vec::new();
    for _ in 0..count {
        let connecting = endpoint.connect(to, baton_tests::world::B).unwrap();
        let (bytes, _) = sink.recv_from(&mut packet).unwrap();
        packets.push(packet[..bytes].to_vec());
        drop(connecting);
        // What it says as it goes is of no use.
        sink.set_nonblocking(true).unwrap();
        while sink.recv_from(&mut [0; 2048]).is_ok() {}
        sink.set_nonblocking(false).unwrap();
    }
    packets
}

/// Begins so many handshakes and leaves them, each from an address of its own, and says the first words again, damaged.
/// Must be called within a runtime whose other threads drive the endpoint.
pub(super) fn handshakes(endpoint: &Endpoint, to: SocketAddr, rng: &mut Rng, count: usize) -> usize {
    for mut packet in first_packets(endpoint, count) {
        let socket = socket();
        socket.send_to(&packet, to).unwrap();
        socket.send_to(&packet, to).unwrap();
        let at = rng.below(packet.len() as u64) as usize;
        packet[at] ^= 1 << rng.below(8);
        let _ = socket.send_to(&packet, to);
    }
    count
}
