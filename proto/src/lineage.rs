//! Where a data set stands in the history of its group: a replication id and an offset into that id's stream.
//!
//! A primary invents the id; its replicas carry it; the offset counts the bytes of the stream. Two servers with the same
//! id and offset hold the same data. Facts: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A replication id: 40 hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("replication id `{0}` is not 40 hexadecimal characters")]
pub struct ReplIdError(String);

impl ReplId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether this is the all-zero id with which a server says that it has none.
    pub fn is_none(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }

    /// The first characters, enough to tell ids apart in a table.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl FromStr for ReplId {
    type Err = ReplIdError;
    fn from_str(text: &str) -> Result<Self, ReplIdError> {
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(ReplIdError(text.chars().take(60).collect()))
        }
    }
}

impl TryFrom<String> for ReplId {
    type Error = ReplIdError;
    fn try_from(text: String) -> Result<Self, ReplIdError> {
        text.parse()
    }
}

impl From<ReplId> for String {
    fn from(id: ReplId) -> String {
        id.0
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A point in a replication stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub id: ReplId,
    pub offset: u64,
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id.short(), self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forty_hex_characters_are_an_id() {
        assert!("c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse::<ReplId>().is_ok());
        assert!("c8f82b93".parse::<ReplId>().is_err());
        assert!("z8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse::<ReplId>().is_err());
        assert!("0".repeat(40).parse::<ReplId>().is_ok_and(|id| id.is_none()));
    }
}
