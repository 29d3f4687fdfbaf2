//! Messages as bytes: MessagePack with field names, so that an old reader skips new fields and a new reader fills in old
//! ones. A message has a bound; who reads one from a stream asks for at most that many bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest request: an order with its few addresses and names.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Largest answer: the report of a host with many instances, databases and replicas.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

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
    let message = rmp_serde::from_read(&mut rest)?;
    if rest.is_empty() { Ok(message) } else { Err(CodecError::Trailing(rest.len())) }
}
