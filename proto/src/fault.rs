//! What an agent answers when it does not do what it was asked: whose fault, in words, and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The other side does not know this message or this version.
    Unsupported,
    /// The caller's certificate or ticket does not allow it.
    NotAllowed,
    /// The request names something that is not here.
    NotFound,
    /// The caller's input is wrong.
    Invalid,
    /// Doing it could lose data.
    Refused,
    /// Another run has the instance, or another coordinator the run.
    Held,
    /// The Redis or Valkey server said no, or does not answer.
    Server,
    /// Another agent said no, or does not answer.
    Peer,
    /// This host's disk, files or processes.
    Host,
    /// Bytes are not what they should be.
    Verification,
    /// A defect of Baton.
    #[serde(other)]
    Internal,
}

/// A refusal or failure, as it crosses the wire and as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// What failed: a lower-case fragment, no full stop.
    pub message: String,
    /// Why, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it, if that is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Longest text of a fault: server logs and errors are quoted, and a quote has a bound.
const TEXT_CHARS_MAX: usize = 1000;

impl Fault {
    pub fn new(kind: FaultKind, message: impl fmt::Display) -> Self {
        Self { kind, message: clip(message.to_string()), causes: Vec::new(), hint: None }
    }

    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(clip(cause.to_string()));
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(clip(hint.to_string()));
        self
    }
}

fn clip(text: String) -> String {
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text;
    }
    text.chars().take(TEXT_CHARS_MAX).chain("...".chars()).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
