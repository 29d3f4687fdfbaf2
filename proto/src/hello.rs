//! The first exchange on a connection: both sides say which protocol versions they speak, and the answer is in words.
//!
//! Versions, newest first:
//! - 3: the first that is released. Those before it were never released, and nobody speaks them any more.
//!
//! # Neighbours
//!
//! Two programs are neighbours if there is a version that both speak. A release speaks the version of the release before it, so
//! that a fleet is upgraded host by host, also in the middle of a run. What may change without a new version:
//!
//! - **A field more**, anywhere: who does not know it skips it. It is `#[serde(default)]`, since others do not tell it. A field
//!   of an order that must not be overlooked is no such field: it is a new action.
//! - **A request, an action, a way more**: an agent that does not know it refuses with [`FaultKind::Unsupported`], and says whom
//!   to upgrade.
//! - **A state more of a server** that is told of: it counts as [`crate::report::ServerState::Strange`]. A product, a format, a
//!   standing or a kind of fault more counts as the one of which the least is expected.
//!
//! What comes of an order is said in the order's own words: a new outcome needs a new action. Whatever else is not understood
//! ends the one request that it answers, with words on whom to upgrade. Anything else that changes is a new version: the number
//! is added above, both are spoken for a release, and whoever knows of the new one asks for the version agreed on before it uses
//! it. What goes out before the greeting is answered is in words of the oldest version that its sender speaks.
//! `proto/tests/compatible/golden` holds samples of all messages that today's code must go on reading.

use std::error::Error as _;

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::fault::{Fault, FaultKind};

/// Identifies Baton in the TLS handshake. It never changes; versions are agreed in [`Hello`], which can explain itself.
pub const ALPN: &[u8] = b"baton";

pub const PROTOCOL_MIN: u16 = 3;
pub const PROTOCOL_MAX: u16 = 3;

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
                "no common protocol version: {} speaks {}, {} speaks {}",
                self.software,
                self.spoken(),
                other.software,
                other.spoken()
            ),
        )
        .hint(upgrade(&older.software)))
    }

    fn spoken(&self) -> String {
        if self.min == self.max { self.max.to_string() } else { format!("{}-{}", self.min, self.max) }
    }
}

/// A message that could not be read, where both sides have greeted: the one that reads it is older.
pub fn not_understood(what: &str, reader: &str, writer: &str, error: &CodecError) -> Fault {
    let fault = Fault::new(FaultKind::Unsupported, format!("{reader} does not understand {what} of {writer}"));
    let fault = match error.source() {
        Some(why) => fault.because(why),
        None => fault.because(error),
    };
    fault.hint(upgrade(reader))
}

/// What to do about a program that is too old.
fn upgrade(software: &str) -> String {
    match software.strip_prefix("baton-agent") {
        Some(_) => format!("upgrade {software}: `coord install [USER@]HOST`"),
        None => format!("upgrade {software}: install the newer release's package"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn hello(min: u16, max: u16, software: &str) -> Hello {
        Hello { min, max, software: software.into() }
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        assert_eq!(hello(1, 3, "a").agree(&hello(2, 5, "b")), Ok(3));
        assert_eq!(hello(2, 5, "b").agree(&hello(1, 3, "a")), Ok(3));
        assert_eq!(Hello::new("a").agree(&hello(PROTOCOL_MAX, PROTOCOL_MAX + 1, "b")), Ok(PROTOCOL_MAX));
    }

    #[test]
    fn a_mismatch_names_both_sides_and_whom_to_upgrade() {
        let fault = hello(3, 4, "coord 2.0").agree(&hello(2, 2, "baton-agent 1.0")).unwrap_err();
        assert_eq!(fault.message, "no common protocol version: coord 2.0 speaks 3-4, baton-agent 1.0 speaks 2");
        assert_eq!(fault.hint.as_deref(), Some("upgrade baton-agent 1.0: `coord install [USER@]HOST`"));
        let fault = hello(3, 3, "coord 2.0").agree(&hello(4, 4, "baton-agent 3.0")).unwrap_err();
        assert_eq!(fault.hint.as_deref(), Some("upgrade coord 2.0: install the newer release's package"));
    }

    #[test]
    fn what_is_not_understood_names_the_one_that_does_not() {
        let error = codec::decode::<u8>(&codec::encode(&"sing").unwrap()).unwrap_err();
        let fault = not_understood("a request", "baton-agent 1.0 of machine-c", "coord 2.0", &error);
        assert_eq!(fault.kind, FaultKind::Unsupported);
        assert_eq!(fault.message, "baton-agent 1.0 of machine-c does not understand a request of coord 2.0");
        assert_eq!(fault.causes, [error.source().unwrap().to_string()]);
        assert!(fault.hint.is_some_and(|hint| hint.contains("coord install")));
    }
}
