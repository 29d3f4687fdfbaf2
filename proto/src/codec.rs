//! Messages as bytes: MessagePack with field names, so that an old reader skips new fields and a new reader fills in old
//! ones. A message has a bound; who reads one from a stream asks for at most that many bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest request: a piece of a journal ([`crate::control::RECORD_BYTES_MAX`]), with room around it.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Largest answer: the report of a host with many instances, databases and replicas.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting that is read: a report's is some dozen levels, and each level costs the reader's stack some kilobytes.
const NESTING_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("encode message")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("decode message")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    Ok(rmp_serde::to_vec_named(message)?)
}

/// Decodes a message that fills the bytes exactly.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(NESTING_MAX);
    let message = T::deserialize(&mut deserializer)?;
    if rest.is_empty() { Ok(message) } else { Err(CodecError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Request;

    /// `{"reach": {"future": [[[..]]]}}`, with so many lists.
    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = b"\x81\xa5reach\x81\xa6future".to_vec();
        bytes.extend(std::iter::repeat_n(0x91, depth));
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn what_is_nested_deeply_is_refused_before_the_stack_ends() {
        let error = |depth| decode::<Request>(&nested(depth)).unwrap_err();
        assert!(format!("{:?}", error(NESTING_MAX)).contains("DepthLimit"), "{:?}", error(NESTING_MAX));
        assert!(format!("{:?}", error(REQUEST_BYTES_MAX)).contains("DepthLimit"));
        // A field of the future is skipped, and then the ones of today are missing.
        assert!(format!("{:?}", error(10)).contains("missing field"), "{:?}", error(10));
    }

    #[test]
    fn lengths_that_are_announced_and_do_not_follow_are_refused_without_room_for_them() {
        // Lists, maps, texts and bytes of four gigabytes.
        for marker in [0xdd, 0xdf, 0xdb, 0xc6] {
            let announced = [b"\x81\xa6revoke\x81\xa4list".as_slice(), &[marker, 0xff, 0xff, 0xff, 0xff]].concat();
            assert!(decode::<Request>(&announced).is_err(), "{marker:#x}");
        }
    }
}
