//! Who may change an instance: one run at a time, and of that run one coordinator at a time.
//!
//! An agent holds a claim on each instance that a run changes, durably, from before the first order until the run has
//! ended. A claim has no time-out: what a run has left half done does not heal by waiting. Whoever takes a run up again
//! takes its next turn; orders of an earlier turn are refused from then on, so a coordinator that was only slow or frozen
//! changes nothing any more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::RunId;

/// A coordinator's turn at a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Grows each time that the run is taken up.
    pub epoch: u32,
    /// Drawn by the coordinator: two that take the same epoch at the same moment are told apart.
    pub holder: u64,
}

/// A run's hold of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub run: RunId,
    pub turn: Turn,
    /// The operator by name.
    pub by: String,
    /// Since when the run has the instance.
    pub since_unix: u64,
    /// How long ago its coordinator was heard of. None: not since the agent was started.
    #[serde(default)]
    pub quiet_ms: Option<u64>,
}

/// Why a claim or an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Nobody has claimed the instance: an order needs that.
    Unclaimed,
    /// Another run has it.
    OtherRun,
    /// The run was taken up by another coordinator.
    TakenUp,
}

/// Whether a turn may have the instance.
pub fn may_claim(held: Option<&Claim>, run: &RunId, turn: Turn) -> Result<(), Denial> {
    match held {
        None => Ok(()),
        Some(held) if held.run != *run => Err(Denial::OtherRun),
        Some(held) if held.turn == turn || held.turn.epoch < turn.epoch => Ok(()),
        Some(_) => Err(Denial::TakenUp),
    }
}

/// Whether a turn may give orders on the instance.
pub fn may_order(held: Option<&Claim>, run: &RunId, turn: Turn) -> Result<(), Denial> {
    match held {
        None => Err(Denial::Unclaimed),
        Some(held) if held.run != *run => Err(Denial::OtherRun),
        Some(held) if held.turn == turn => Ok(()),
        Some(_) => Err(Denial::TakenUp),
    }
}

impl Claim {
    /// Whether its coordinator was heard of within this time.
    pub fn is_alive(&self, within: Duration) -> bool {
        self.quiet_ms.is_some_and(|quiet| Duration::from_millis(quiet) < within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> RunId {
        RunId::new(name).unwrap()
    }

    fn turn(epoch: u32, holder: u64) -> Turn {
        Turn { epoch, holder }
    }

    fn held(name: &str, epoch: u32, holder: u64) -> Option<Claim> {
        Some(Claim { run: run(name), turn: turn(epoch, holder), by: "op".into(), since_unix: 0, quiet_ms: None })
    }

    #[test]
    fn an_instance_is_one_runs_and_a_later_turn_takes_it_over() {
        for (held, claims, orders) in [
            (None, Ok(()), Err(Denial::Unclaimed)),
            (held("fo-1", 2, 7), Ok(()), Ok(())),
            (held("fo-1", 1, 7), Ok(()), Err(Denial::TakenUp)),
            (held("fo-1", 1, 9), Ok(()), Err(Denial::TakenUp)),
            (held("fo-1", 2, 9), Err(Denial::TakenUp), Err(Denial::TakenUp)),
            (held("fo-1", 3, 7), Err(Denial::TakenUp), Err(Denial::TakenUp)),
            (held("fo-2", 1, 7), Err(Denial::OtherRun), Err(Denial::OtherRun)),
        ] {
            assert_eq!(may_claim(held.as_ref(), &run("fo-1"), turn(2, 7)), claims, "{held:?}");
            assert_eq!(may_order(held.as_ref(), &run("fo-1"), turn(2, 7)), orders, "{held:?}");
        }
    }

    #[test]
    fn a_coordinator_is_alive_only_if_it_was_heard_of() {
        let claim = |quiet_ms| Claim { quiet_ms, ..held("fo-1", 1, 1).unwrap() };
        let within = Duration::from_secs(3);
        assert!(claim(Some(0)).is_alive(within) && claim(Some(2999)).is_alive(within));
        assert!(!claim(Some(3000)).is_alive(within) && !claim(None).is_alive(within));
    }
}
