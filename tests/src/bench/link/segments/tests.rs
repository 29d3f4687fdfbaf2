use super::*;

const ADDRESSES: [u8; 8] = [10, 77, 0, 2, 10, 77, 0, 3];
const IP_BYTES: usize = 20;
const TCP_BYTES: usize = 32;
/// So that the sequence wraps within the packet.
const SEQUENCE: u32 = u32::MAX - 1500;
const ID: u16 = u16::MAX;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
}

/// What the kernel hands over: the checksum of TCP and UDP holds the pseudo-header only.
fn frame(gso: u8, protocol: u8, mut transport: Vec<u8>, checksum_at: usize, each: u16, payload: &[u8]) -> Vec<u8> {
    let length = transport.len() + payload.len();
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    ip.extend_from_slice(&ADDRESSES);
    put16(&mut ip, 2, (IP_BYTES + length) as u16).unwrap();
    put16(&mut ip, 4, ID).unwrap();
    let checksum = !sum(&ip);
    put16(&mut ip, 10, checksum).unwrap();
    let pseudo = fold(u32::from(sum(&ADDRESSES)) + u32::from(protocol) + length as u32);
    put16(&mut transport, checksum_at, pseudo).unwrap();
    let head_bytes = (IP_BYTES + transport.len()) as u16;
    let fields = [head_bytes, each, IP_BYTES as u16, checksum_at as u16];
    let vnet = [1, gso].into_iter().chain(fields.into_iter().flat_map(u16::to_ne_bytes));
    vnet.chain(ip).chain(transport).chain(payload.iter().copied()).collect()
}

fn tcp(flags: u8, each: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![0; TCP_BYTES];
    head[4..8].copy_from_slice(&SEQUENCE.to_be_bytes());
    (head[12], head[13]) = ((TCP_BYTES as u8 / 4) << 4, flags);
    frame(GSO_TCPV4, TCP, head, 16, each, payload)
}

fn udp(each: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![0; UDP_HEAD];
    put16(&mut head, 4, (UDP_HEAD + payload.len()) as u16).unwrap();
    frame(GSO_UDP_L4, UDP, head, 6, each, payload)
}

fn written(packet: &Packet<'_>, segments: Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.write(&segments, &mut out).unwrap();
    out
}

/// What a host would check of a packet that came from a wire: both lengths, both checksums.
fn judge(frame: &[u8], checksum_at: usize) {
    let ip = &frame[VNET_BYTES..];
    assert_eq!(usize::from(get16(ip, 2).unwrap()), ip.len());
    assert_eq!(sum(&ip[..IP_BYTES]), 0xffff, "the sum over a header with its checksum");
    let transport = &ip[IP_BYTES..];
    let pseudo = fold(u32::from(sum(&ADDRESSES)) + u32::from(ip[9]) + transport.len() as u32);
    assert_eq!(get16(transport, checksum_at), Some(pseudo));
    if ip[9] == UDP {
        assert_eq!(usize::from(get16(transport, 4).unwrap()), transport.len());
    }
}

#[test]
fn every_run_of_a_tcp_packet_has_the_headers_of_its_place() {
    let bytes = payload(3 * 1000 + 300);
    let frame = tcp(FIN | PSH | ACK | CWR, 1000, &bytes);
    let packet = Packet::read(&frame).unwrap();
    let lengths: Vec<usize> = packet.lengths().collect();
    assert_eq!(lengths, [1052, 1052, 1052, 352]);
    assert!(!packet.is_udp());
    for begin in 0..4 {
        for end in begin + 1..=4 {
            let run = written(&packet, begin..end);
            judge(&run, 16);
            let ip = &run[VNET_BYTES..];
            let tcp = &ip[IP_BYTES..];
            assert_eq!(get16(ip, 4), Some(ID.wrapping_add(begin as u16)));
            let sequence = SEQUENCE.wrapping_add(begin as u32 * 1000);
            assert_eq!(tcp[4..8], sequence.to_be_bytes());
            let flags = ACK | if begin == 0 { CWR } else { 0 } | if end == 4 { FIN | PSH } else { 0 };
            assert_eq!(tcp[13], flags, "{begin}..{end}");
            assert_eq!(tcp[TCP_BYTES..], bytes[begin * 1000..bytes.len().min(end * 1000)]);
            let alone = end - begin == 1;
            assert_eq!(run[1], if alone { GSO_NONE } else { GSO_TCPV4 });
            assert_eq!(u16::from_ne_bytes([run[4], run[5]]), if alone { 0 } else { 1000 });
        }
    }
    assert_eq!(written(&packet, 0..4), frame, "all of it is what came");
}

#[test]
fn every_run_of_a_batch_of_datagrams_has_its_own_lengths() {
    let bytes = payload(4 * 1200 + 1);
    let frame = udp(1200, &bytes);
    let packet = Packet::read(&frame).unwrap();
    assert!(packet.is_udp());
    assert_eq!(packet.lengths().collect::<Vec<_>>(), [1228, 1228, 1228, 1228, 29]);
    for begin in 0..5 {
        for end in begin + 1..=5 {
            let run = written(&packet, begin..end);
            judge(&run, 6);
            assert_eq!(run[VNET_BYTES + IP_BYTES + UDP_HEAD..], bytes[begin * 1200..bytes.len().min(end * 1200)]);
            assert_eq!(run[1], if end - begin == 1 { GSO_NONE } else { GSO_UDP_L4 });
        }
    }
    assert_eq!(written(&packet, 0..5), frame, "all of it is what came");
}

#[test]
fn a_run_can_be_cut_again_and_yields_the_same_segments() {
    let bytes = payload(5 * 700);
    for frame in [tcp(ACK | PSH, 700, &bytes), udp(700, &bytes)] {
        let packet = Packet::read(&frame).unwrap();
        let run = written(&packet, 1..4);
        let again = Packet::read(&run).unwrap();
        assert_eq!(again.lengths().len(), 3);
        for number in 0..3 {
            assert_eq!(written(&again, number..number + 1), written(&packet, number + 1..number + 2));
        }
    }
}

#[test]
fn a_packet_of_one_segment_passes_as_it_is() {
    let mut frame = udp(0, &payload(100));
    frame[1] = GSO_NONE;
    let packet = Packet::read(&frame).unwrap();
    assert_eq!(packet.lengths().collect::<Vec<_>>(), [128]);
    assert_eq!(written(&packet, 0..1), frame);
}

#[test]
fn what_is_no_packet_is_not_read() {
    let whole = tcp(ACK, 1000, &payload(3000));
    for length in 0..VNET_BYTES + IP_BYTES + TCP_BYTES {
        assert!(Packet::read(&whole[..length]).is_none(), "{length}");
    }
    let broken = |at: usize, value: u8| {
        let mut frame = whole.clone();
        frame[at] = value;
        Packet::read(&frame).is_none()
    };
    assert!(broken(VNET_BYTES, 0x65), "IPv6");
    assert!(broken(VNET_BYTES, 0x42), "a header of 8 bytes");
    assert!(broken(1, GSO_UDP_L4), "TCP cut as UDP");
    assert!(broken(VNET_BYTES + 9, UDP), "UDP cut as TCP");
    assert!(broken(VNET_BYTES + IP_BYTES + 12, 0), "no TCP header");
    let mut endless = whole.clone();
    endless[4..6].fill(0);
    assert!(Packet::read(&endless).is_none(), "segments of nothing");
}
