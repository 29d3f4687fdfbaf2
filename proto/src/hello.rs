//! The first exchange on a connection: both sides say which protocol versions they speak, and the answer is in words.
//!
//! Versions, newest first:
//! - 3: what a run changes it claims first, and agents keep its journal. Both sides need it for anything but questions.
//! - 2: a source may send chunks in their plain form (`Packing::Plain`); to a target of version 1 it does not.
//! - 1: the first.

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, FaultKind};

/// Identifies Baton in the TLS handshake. It never changes; versions are agreed in [`Hello`], which can explain itself.
pub const ALPN: &[u8] = b"baton";

pub const PROTOCOL_MIN: u16 = 1;
pub const PROTOCOL_MAX: u16 = 3;
/// First version whose targets take chunks in their plain form.
pub const PLAIN_SINCE: u16 = 2;

/// What each side says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub min: u16,
    pub max: u16,
    /// Name and version of the program, for people.
    pub software: String,
}

impl Hello {
    pub fn new(software: impl Into<String>) -> Self {
        Self { min: PROTOCOL_MIN, max: PROTOCOL_MAX, software: software.into() }
    }

    /// The newest version that both speak, or why there is none.
    pub fn agree(&self, other: &Hello) -> Result<u16, Fault> {
        let newest = self.max.min(other.max);
        if newest >= self.min && newest >= other.min {
            return Ok(newest);
        }
        let older = if self.max < other.max { self } else { other };
        Err(Fault::new(
            FaultKind::Unsupported,
            format!(
                "no common protocol version: {} speaks {}-{}, {} speaks {}-{}",
                self.software, self.min, self.max, other.software, other.min, other.max
            ),
        )
        .hint(format!("upgrade {}", older.software)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(min: u16, max: u16, software: &str) -> Hello {
        Hello { min, max, software: software.into() }
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        assert_eq!(hello(1, 3, "a").agree(&hello(2, 5, "b")), Ok(3));
        assert_eq!(hello(2, 5, "b").agree(&hello(1, 3, "a")), Ok(3));
    }

    #[test]
    fn a_mismatch_names_both_sides_and_whom_to_upgrade() {
        let fault = hello(3, 4, "coord 2.0").agree(&hello(1, 2, "baton-agent 1.0")).unwrap_err();
        assert_eq!(fault.message, "no common protocol version: coord 2.0 speaks 3-4, baton-agent 1.0 speaks 1-2");
        assert_eq!(fault.hint.as_deref(), Some("upgrade baton-agent 1.0"));
    }
}
