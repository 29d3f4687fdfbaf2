//! The link of a pull: down, being dialled or up; how long to wait before dialling again, and when to give up.

use std::time::Duration;

use baton_proto::Fault;

/// How often in a row the link may break, or not come up, without anything arriving: an outage of about a minute.
pub(super) const LINK_TRIES_MAX: u32 = 14;
/// The same before the first link: nothing is lost yet, and a person waits.
pub(super) const FIRST_LINK_TRIES_MAX: u32 = 3;
/// First and longest pause before dialling again; it doubles.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(100);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Numbers the links of a pull from 1, so that news of an old one is told apart.
pub type LinkNumber = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down { after: Duration },
    Dialling,
    Up,
}

#[derive(Debug)]
pub(super) struct Line {
    state: State,
    number: LinkNumber,
    /// Links that broke or did not come up since something arrived.
    failures: u32,
    /// Links that came up.
    ups: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { state: State::Down { after: Duration::ZERO }, number: 0, failures: 0, ups: 0 }
    }
}

impl Line {
    pub(super) fn is(&self, state: State) -> bool {
        self.state == state
    }

    pub(super) fn number(&self) -> LinkNumber {
        self.number
    }

    pub(super) fn reconnects(&self) -> u32 {
        self.ups.saturating_sub(1)
    }

    pub(super) fn name(&self) -> &'static str {
        match self.state {
            State::Down { .. } => "down",
            State::Dialling => "being dialled",
            State::Up => "up",
        }
    }

    /// Begins a link, if there is none: how long to wait before, and its number.
    pub(super) fn dial(&mut self) -> Option<(Duration, LinkNumber)> {
        let State::Down { after } = self.state else { return None };
        self.state = State::Dialling;
        self.number += 1;
        Some((after, self.number))
    }

    pub(super) fn came_up(&mut self) {
        self.state = State::Up;
        self.ups += 1;
    }

    /// Something has arrived.
    pub(super) fn works(&mut self) {
        self.failures = 0;
    }

    /// Takes notice that a link broke, or did not come up. An error: it did so too often.
    pub(super) fn broke(&mut self, link: LinkNumber, fault: Fault) -> Result<(), Fault> {
        if link != self.number || matches!(self.state, State::Down { .. }) {
            return Ok(());
        }
        self.failures += 1;
        let tries_max = if self.ups == 0 { FIRST_LINK_TRIES_MAX } else { LINK_TRIES_MAX };
        if self.failures >= tries_max {
            return Err(fault);
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        self.state = State::Down { after: BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX) };
        Ok(())
    }
}
