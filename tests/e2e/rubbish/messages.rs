//! Bytes in the place of a message. None of them is one, but for what a flip of bits leaves whole.

use baton_proto::codec::{self, REQUEST_BYTES_MAX};
use baton_proto::control::{Answer, Request};
use baton_tests::rng::Rng;

use crate::trespass::requests::{actions, order, requests};

/// Beginnings of MessagePack that announce four billion of something: bytes, an extension, a text, a list, a map.
const ABSURD: [&[u8]; 5] = [
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdb\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
];

/// How a reader gets to where a value stands that it skips, or wants: a field that it does not know, and one that it does.
const DEEP_INSIDE: [&[u8]; 4] =
    [b"", b"\x81\xa5reach\x81\xa6future", b"\x81\xa6revoke\x81\xa4list", b"\x81\xa5begin\x81\xa6action"];

/// What is no message, whoever sends it.
pub(super) fn malformed(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    match rng.below(7) {
        0 => {
            let count = rng.below(4096) as usize;
            rng.bytes(count, &mut bytes);
        }
        // Cut short.
        1 => {
            bytes = well_formed(rng);
            bytes.truncate(rng.below(bytes.len() as u64) as usize);
        }
        // One that is good, and more behind it.
        2 => {
            bytes = well_formed(rng);
            let more = 1 + rng.below(100) as usize;
            rng.bytes(more, &mut bytes);
        }
        3 => value(rng, 6, &mut bytes),
        4 => {
            bytes.extend(DEEP_INSIDE[rng.below(4) as usize]);
            // A list, or a map with one name, in each other.
            let level: &[u8] = if rng.chance(500) { b"\x91" } else { b"\x81\xa1a" };
            let levels = rng.below((REQUEST_BYTES_MAX / 3 - 100) as u64) as usize;
            bytes.extend(level.repeat(levels));
        }
        5 => {
            bytes.extend(DEEP_INSIDE[rng.below(4) as usize]);
            bytes.extend(ABSURD[rng.below(5) as usize]);
            let count = rng.below(64) as usize;
            rng.bytes(count, &mut bytes);
        }
        // Longer than any may be: from a byte to a megabyte.
        _ => {
            let most = 1 << [1, 10, 20][rng.below(3) as usize];
            let count = REQUEST_BYTES_MAX + 1 + rng.below(most) as usize;
            rng.bytes(count, &mut bytes);
        }
    }
    bytes
}

/// A message with bits flipped, which may be one still.
pub(super) fn flipped(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = well_formed(rng);
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << rng.below(8);
    }
    bytes
}

fn well_formed(rng: &mut Rng) -> Vec<u8> {
    let all = requests().into_iter().chain(actions().into_iter().map(order));
    // What an agent may tell of a primary could be believed, with another age.
    let all: Vec<Request> = all.filter(|request| !matches!(request, Request::Tell { .. })).collect();
    codec::encode(&all[rng.below(all.len() as u64) as usize]).unwrap()
}

/// A value of MessagePack that is no request: of any kind and shape.
fn value(rng: &mut Rng, depth: u32, out: &mut Vec<u8>) {
    match rng.below(if depth == 0 { 5 } else { 7 }) {
        0 => out.push([0xc0, 0xc2, 0xc3, 0x7f, 0xe0][rng.below(5) as usize]),
        1 => {
            out.push(0xcf);
            out.extend(rng.number().to_be_bytes());
        }
        2 => {
            out.push(0xcb);
            out.extend(rng.number().to_be_bytes());
        }
        3 => {
            let word = rng.pick(&["observe", "begin", "task", "run", "ticket", "secret", "Ok", "Err", ""]);
            out.push(0xa0 | word.len() as u8);
            out.extend(word.as_bytes());
        }
        4 => {
            let count = rng.below(200) as usize;
            out.extend([0xc4, count as u8]);
            rng.bytes(count, out);
        }
        5 => {
            let count = rng.below(5);
            out.push(0x90 | count as u8);
            (0..count).for_each(|_| value(rng, depth - 1, out));
        }
        _ => {
            let count = 2 + rng.below(4);
            out.push(0x80 | count as u8);
            (0..2 * count).for_each(|_| value(rng, depth - 1, out));
        }
    }
}

/// Whether it reads as a request.
pub(super) fn is_request(bytes: &[u8]) -> bool {
    bytes.len() <= REQUEST_BYTES_MAX && codec::decode::<Request>(bytes).is_ok()
}

/// Whether an answer is a refusal, in words.
pub(super) fn refuses(answer: &[u8]) -> bool {
    codec::decode::<Answer>(answer).is_ok_and(|answer| answer.is_err_and(|fault| !fault.message.is_empty()))
}
