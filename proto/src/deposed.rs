//! A primary that a run has replaced while it could not be asked: the note that its group keeps, and hands to its agent
//! when that is back. Without it, a primary that returns would take writes beside its successor.
//!
//! The pure rules are here: which of two words of one run counts, and whether an agent believes a note about
//! its own server. Who tells whom, and what is done to a server, is the agent's business.

use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;
use crate::name::{HostName, HostPort, InstanceName, InstanceRef, RunId};
use crate::report::Replication;

/// How much longer than its deposition a server may say that it has run, and still count as started after it: uptimes are
/// told in whole seconds, and a note takes a moment to arrive.
const STARTED_MARGIN_SECONDS: u64 = 5;

/// Which run has put whom in whose place, and where their histories part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposition {
    /// One run deposes one primary: the note goes by its name.
    pub run: RunId,
    pub host: HostName,
    /// Unknown where its agent could not be asked which one it is.
    pub instance: Option<InstanceName>,
    /// Where the deposed one's agent listens.
    pub agent: HostPort,
    /// Where the deposed server listens.
    pub address: HostPort,
    /// What the successor goes on from. What the deposed server has beyond it, its successor has not.
    pub fork: Lineage,
    pub successor: InstanceRef,
    pub successor_address: HostPort,
    pub standing: Standing,
    pub since_unix: u64,
    /// An operator's seal on [`Deposition::words`]. A coordinator from before there were seals sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// What has become of a deposed primary. The other two are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The run was rolled back: it is the primary as before.
    Reinstated,
    /// It follows its successor.
    Rejoined,
    /// It must not take writes. A word that only newer programs know counts as this, which loses nothing.
    #[serde(other)]
    Deposed,
}

/// A note as an agent holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub deposition: Deposition,
    /// Whether the deposed one's agent has heard of it. Always so on its own host.
    pub told: bool,
    /// Why it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// On its own host: whether its agent holds it off writes, and has to give it back when the run is rolled back.
    #[serde(default)]
    pub fenced: bool,
    /// Whether an operator has ordered it, or the deposed one's own agent says it, and not an agent of somewhere else.
    #[serde(default)]
    pub firsthand: bool,
}

/// A note as one agent tells it to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub deposition: Deposition,
    /// By the teller's clock.
    pub age_seconds: u64,
}

impl Deposition {
    /// Whether it is about this instance of its host. `only`: the host has no other.
    pub fn is_about(&self, host: &HostName, instance: &InstanceName, port: u16, only: bool) -> bool {
        let named = match &self.instance {
            Some(named) => named == instance,
            None => only || self.address.port == port,
        };
        self.host == *host && named
    }

    /// What an operator's seal is on: what has become of whom.
    pub fn words(&self) -> Vec<u8> {
        let standing = match self.standing {
            Standing::Reinstated => "reinstated",
            Standing::Rejoined => "rejoined",
            Standing::Deposed => "deposed",
        };
        format!("run {}: {} is {standing}", self.run, self.host).into_bytes()
    }

    pub fn stands(&self) -> bool {
        self.standing == Standing::Deposed
    }

    /// The deposed one as people name it.
    pub fn name(&self) -> String {
        let named = self.instance.clone().map(|instance| InstanceRef { host: self.host.clone(), instance });
        named.map_or_else(|| self.host.to_string(), |named| named.to_string())
    }

    /// How many bytes of writes a server holds that its successor has not. None: it stands in another history.
    pub fn past_fork(&self, replication: &Replication) -> Option<u64> {
        let own = &replication.lineage;
        if own.id == self.fork.id {
            return Some(own.offset.saturating_sub(self.fork.offset));
        }
        // It began a new history behind the old one, as a server does that was started again.
        let goes_on = replication.second.as_ref().is_some_and(|second| second.id == self.fork.id);
        goes_on.then(|| own.offset.saturating_sub(self.fork.offset))
    }
}

impl Held {
    /// How much its word counts beside another of the same run: one that an operator has sealed more than one that has no
    /// seal, and of like ones the later.
    fn weight(&self) -> (bool, u8) {
        let rank = match self.deposition.standing {
            Standing::Deposed => 0,
            Standing::Reinstated => 1,
            Standing::Rejoined => 2,
        };
        (self.deposition.seal.is_some() || self.firsthand && !self.deposition.stands(), rank)
    }

    /// Whether what is heard is a later word than this.
    pub fn gives_way_to(&self, heard: &Held) -> bool {
        // Who says it first hand is asked for no seal.
        let ends_it = heard.firsthand && heard.weight().1 > self.weight().1;
        ends_it || heard.weight() > self.weight()
    }
}

/// Why an agent does not believe a note about its own server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    #[error("the server stands at {stands}, which is no history of {fork}, and it ran before the deposition")]
    OtherHistory { stands: Lineage, fork: Lineage },
}

/// Whether another agent's note about the own server, its uptime and where it stands, is believed. A server that does not run, or was started after the
/// deposition, need not show its history: many versions forget it in a restart.
pub fn believes(note: &Deposition, age_seconds: u64, server: Option<(u64, &Replication)>) -> Result<(), Disbelief> {
    let Some((uptime_seconds, replication)) = server else { return Ok(()) };
    let started_later = uptime_seconds <= age_seconds.saturating_add(STARTED_MARGIN_SECONDS);
    if started_later || note.past_fork(replication).is_some() {
        return Ok(());
    }
    Err(Disbelief::OtherHistory { stands: replication.lineage.clone(), fork: note.fork.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SyncCounters;

    const FORK: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";
    const OTHER: &str = "0123456789012345678901234567890123456789";

    fn at(id: &str, offset: u64) -> Lineage {
        Lineage { id: id.parse().unwrap(), offset }
    }

    fn note(instance: Option<&str>) -> Deposition {
        let host = |name: &str| HostName::new(name).unwrap();
        Deposition {
            run: RunId::new("fo-1").unwrap(),
            host: host("machine-a"),
            instance: instance.map(|name| InstanceName::new(name).unwrap()),
            agent: HostPort::new("10.0.0.1", 7400),
            address: HostPort::new("10.0.0.1", 6379),
            fork: at(FORK, 100),
            successor: InstanceRef { host: host("machine-c"), instance: InstanceName::new("default").unwrap() },
            successor_address: HostPort::new("10.0.0.3", 6379),
            standing: Standing::Deposed,
            since_unix: 1_700_000_000,
            seal: None,
        }
    }

    fn replication(lineage: Lineage, second: Option<Lineage>) -> Replication {
        let counters = SyncCounters::default();
        Replication { lineage, second, backlog: None, backlog_bytes: 0, counters, input_bytes: 0 }
    }

    #[test]
    fn the_later_word_of_a_run_wins_whichever_is_heard_first() {
        use Standing::{Deposed, Reinstated, Rejoined};
        let held = |standing, sealed: bool, firsthand| {
            let seal = sealed.then(String::new);
            let deposition = Deposition { standing, seal, ..note(None) };
            Held { deposition, told: false, untold: None, fenced: false, firsthand }
        };
        for (sealed, firsthand) in [(false, false), (true, false), (true, true)] {
            for end in [Reinstated, Rejoined] {
                let (begun, ended) = (held(Deposed, sealed, firsthand), held(end, sealed, firsthand));
                assert!(begun.gives_way_to(&ended) && !ended.gives_way_to(&begun), "{sealed} {firsthand} {end:?}");
                assert!(!begun.gives_way_to(&begun) && !ended.gives_way_to(&ended));
            }
        }
        // What an operator has sealed, an agent alone neither ends nor hides.
        let (sealed, forged) = (held(Deposed, true, false), held(Reinstated, false, false));
        assert!(!sealed.gives_way_to(&forged) && forged.gives_way_to(&sealed));
        // One whose coord knows of no seals ends it by an order, and what is sealed from before does not come again.
        let ordered = held(Reinstated, false, true);
        assert!(sealed.gives_way_to(&ordered) && !ordered.gives_way_to(&sealed));
        // What was begun without a seal is ended without one.
        assert!(held(Deposed, false, true).gives_way_to(&forged));
    }

    #[test]
    fn a_note_without_an_instance_is_about_the_only_one_or_the_one_at_its_port() {
        let (host, name) = (HostName::new("machine-a").unwrap(), InstanceName::new("cache").unwrap());
        assert!(note(Some("cache")).is_about(&host, &name, 1, false));
        assert!(!note(Some("default")).is_about(&host, &name, 6379, true));
        assert!(note(None).is_about(&host, &name, 1, true));
        assert!(note(None).is_about(&host, &name, 6379, false));
        assert!(!note(None).is_about(&host, &name, 6380, false));
        assert!(!note(None).is_about(&HostName::new("machine-b").unwrap(), &name, 6379, true));
    }

    #[test]
    fn a_note_is_believed_of_a_server_in_its_history_or_one_that_may_have_forgotten_it() {
        let (in_it, out_of_it) = (replication(at(FORK, 130), None), replication(at(OTHER, 130), None));
        let goes_on = replication(at(OTHER, 150), Some(at(FORK, 120)));
        let margin = STARTED_MARGIN_SECONDS;
        for (uptime, stands, believed) in [
            (1000, &in_it, true),
            (1000, &goes_on, true),
            (1000, &out_of_it, false),
            (60 + margin, &out_of_it, true),
            (61 + margin, &out_of_it, false),
        ] {
            assert_eq!(believes(&note(None), 60, Some((uptime, stands))).is_ok(), believed, "{uptime} {stands:?}");
        }
        assert_eq!(believes(&note(None), 60, None), Ok(()));
    }

    #[test]
    fn what_a_server_holds_past_the_fork_is_known_in_its_history_only() {
        let past = |lineage, second| note(None).past_fork(&replication(lineage, second));
        assert_eq!(past(at(FORK, 130), None), Some(30));
        assert_eq!(past(at(FORK, 100), None), Some(0));
        assert_eq!(past(at(FORK, 90), None), Some(0));
        assert_eq!(past(at(OTHER, 150), Some(at(FORK, 120))), Some(50));
        assert_eq!(past(at(OTHER, 150), None), None);
    }
}
