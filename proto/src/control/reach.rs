//! How servers answer who only tries them.

use serde::{Deserialize, Serialize};

/// How a server answered when it was tried from another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub verdict: ReachVerdict,
    /// The answer or error in words.
    pub detail: String,
    /// Whether it accepts connections and says nothing, as a process that is stopped does: its kernel accepts for it. To
    /// who does not know this it is `Busy`.
    #[serde(default)]
    pub hung: bool,
    /// Whether it is TLS that stands between them: one side speaks it and the other does not, or does not trust it. To who
    /// does not know this it is `Unauthorised`.
    #[serde(default)]
    pub tls: bool,
}

impl Reach {
    /// Whether a server process spoke, or did something else that only one that works can do.
    pub fn speaks(&self) -> bool {
        self.verdict.is_alive() && !self.hung
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReachVerdict {
    /// It answers as a primary would to this instance.
    Open,
    /// Another agent's rehearsal answered.
    Rehearsal,
    /// A server answers, but it is loading or otherwise not ready. It is alive.
    Busy,
    /// Protected mode refuses this host.
    Denied,
    /// The password or user that this instance would send is wrong, missing or superfluous.
    Unauthorised,
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    Silent,
    /// The host or network cannot be reached at all.
    Unreachable,
}

impl ReachVerdict {
    /// Whether the answer shows that a server process lives there.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Open | Self::Busy | Self::Denied | Self::Unauthorised)
    }
}
