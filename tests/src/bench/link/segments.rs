//! Packets as a TUN device hands them over: a `struct virtio_net_hdr`, then an IPv4 packet that may stand for many
//! segments, which the kernel leaves to us to cut as it would leave it to a network card. What is written is of the same
//! form: any run of its segments, as one packet. No socket and no clock.
//!
//! ```text
//!   virtio_net_hdr | IPv4 | TCP or UDP | payload of segment 0 | payload of segment 1 | ...
//! ```
//!
//! Checksums of TCP and UDP stay what they are on the way in: the sum of the pseudo-header alone, the rest left undone,
//! since the kernel does not ask for it of a device that took the work upon itself. Left out: IPv6, which no host here
//! speaks.

use std::ops::Range;

/// `flags, gso_type: u8; hdr_len, gso_size, csum_start, csum_offset: u16`, in the byte order of the machine.
pub(crate) const VNET_BYTES: usize = 10;
/// Largest that a device hands over: its header, and an IPv4 packet.
pub(crate) const FRAME_BYTES_MAX: usize = VNET_BYTES + 65_535;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEAD: usize = 8;
/// Flags that only the last segment keeps, FIN and PSH, and the one that only the first keeps, CWR.
const LAST_ONLY: u8 = 0x01 | 0x08;
const FIRST_ONLY: u8 = 0x80;

/// A packet of one segment or of many.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    frame: &'a [u8],
    protocol: u8,
    /// How it is cut, if it is more than one segment.
    cut: Option<Cut<'a>>,
}

#[derive(Debug)]
struct Cut<'a> {
    /// All that every segment begins with: device's header, IP, TCP or UDP.
    head: &'a [u8],
    /// Where TCP or UDP begins in it.
    transport_at: usize,
    payload: &'a [u8],
    /// What each segment but the last carries of it.
    each: usize,
}

impl<'a> Packet<'a> {
    /// None of what is not IPv4, or is no packet.
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        let ip = frame.get(VNET_BYTES..)?;
        let (version, ip_bytes) = (ip.first()? >> 4, usize::from(ip.first()? & 0x0f) * 4);
        let protocol = *ip.get(9)?;
        if version != 4 || ip_bytes < 20 {
            return None;
        }
        let transport = ip.get(ip_bytes..)?;
        let transport_bytes = match (*frame.get(1)?, protocol) {
            (GSO_NONE, _) => return Some(Self { frame, protocol, cut: None }),
            (GSO_TCPV4, TCP) => usize::from(transport.get(12)? >> 4) * 4,
            (GSO_UDP_L4, UDP) => UDP_HEAD,
            _ => return None,
        };
        let transport_at = VNET_BYTES + ip_bytes;
        let (head, payload) = frame.split_at_checked(transport_at + transport_bytes)?;
        let each = usize::from(u16::from_ne_bytes([*frame.get(4)?, *frame.get(5)?]));
        if each == 0 || payload.is_empty() || transport_bytes < UDP_HEAD {
            return None;
        }
        Some(Self { frame, protocol, cut: Some(Cut { head, transport_at, payload, each }) })
    }

    pub(super) fn is_udp(&self) -> bool {
        self.protocol == UDP
    }

    /// The length of each segment as an IP packet of its own.
    pub(super) fn lengths(&self) -> impl ExactSizeIterator<Item = usize> {
        let count = self.cut.as_ref().map_or(1, |cut| cut.payload.len().div_ceil(cut.each));
        (0..count).map(|number| match &self.cut {
            None => self.frame.len() - VNET_BYTES,
            Some(cut) => cut.head.len() - VNET_BYTES + cut.part(&(number..number + 1)).len(),
        })
    }

    /// Writes some segments to `out`, as one packet for a device. None if they are not of this packet.
    pub(super) fn write(&self, segments: &Range<usize>, out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        match &self.cut {
            None => out.extend_from_slice(self.frame),
            Some(cut) => {
                out.extend_from_slice(cut.head);
                out.extend_from_slice(cut.part(segments));
                cut.correct(self.protocol, segments, out)?;
            }
        }
        Some(())
    }
}

impl<'a> Cut<'a> {
    /// The payload of some segments.
    fn part(&self, segments: &Range<usize>) -> &'a [u8] {
        let end = segments.end.saturating_mul(self.each).min(self.payload.len());
        let begin = segments.start.saturating_mul(self.each).min(end);
        self.payload.get(begin..end).unwrap_or_default()
    }

    /// Makes the headers those of these segments.
    fn correct(&self, protocol: u8, segments: &Range<usize>, packet: &mut [u8]) -> Option<()> {
        let payload_bytes = packet.len().checked_sub(self.head.len())?;
        if payload_bytes <= self.each {
            // One segment: nothing is left to cut.
            *packet.get_mut(1)? = GSO_NONE;
            packet.get_mut(4..6)?.fill(0);
        }
        let (head, transport) = packet.split_at_mut_checked(self.transport_at)?;
        let ip = head.get_mut(VNET_BYTES..)?;
        let transport_bytes = u16::try_from(transport.len()).ok()?;
        let total = u16::try_from(ip.len()).ok()?.checked_add(transport_bytes)?;
        put16(ip, 2, total)?;
        // As the kernel numbers the segments that it cuts itself.
        put16(ip, 4, get16(ip, 4)?.wrapping_add(segments.start as u16))?;
        put16(ip, 10, 0)?;
        put16(ip, 10, !sum(ip))?;
        let pseudo = fold(u32::from(sum(ip.get(12..20)?)) + u32::from(protocol) + u32::from(transport_bytes));
        if protocol == UDP {
            put16(transport, 4, transport_bytes)?;
            return put16(transport, 6, pseudo);
        }
        put16(transport, 16, pseudo)?;
        let begin = segments.start.checked_mul(self.each)?;
        let sequence = u32::from_be_bytes(transport.get(4..8)?.try_into().ok()?).wrapping_add(begin as u32);
        transport.get_mut(4..8)?.copy_from_slice(&sequence.to_be_bytes());
        let flags = transport.get_mut(13)?;
        if begin > 0 {
            *flags &= !FIRST_ONLY;
        }
        if begin.checked_add(payload_bytes)? < self.payload.len() {
            *flags &= !LAST_ONLY;
        }
        Some(())
    }
}

fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn put16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    bytes.get_mut(at..at.checked_add(2)?)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}

/// The ones' complement sum of the Internet's checksums, of headers only: a carry never leaves 32 bits.
fn sum(bytes: &[u8]) -> u16 {
    fold(bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum())
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests;
