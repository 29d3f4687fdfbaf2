//! What a run has learnt so far. Later steps use only this, so a run that is taken up again knows what it knew.

use baton_proto::control::{AsideFacts, FeedFacts, HandoverFacts, Outcome, SnapshotFacts, TransferFacts};
use baton_proto::report::SyncCounters;
use baton_proto::{HostPort, InstanceRef, Lineage, ReplId};
use serde::{Deserialize, Serialize};

use crate::plan::Resync;

/// One thing that a step found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learnt {
    /// An action on an instance ended so.
    Outcome { on: InstanceRef, outcome: Outcome },
    /// The resyncs that a primary had served before anything was attached to it.
    Counters { on: InstanceRef, counters: SyncCounters },
    /// Which process is to be followed, and under which id its data stands; `follows` is whom it follows itself, if it is
    /// a replica.
    Primary {
        on: InstanceRef,
        pid: u32,
        id: ReplId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        follows: Option<HostPort>,
    },
    /// The gate's findings, in words.
    Gate { findings: Vec<String>, keys: u64 },
    /// How a replica joined its primary, by the primary's counters.
    Joined { replica: InstanceRef, resync: Resync },
    /// Something that should be there is missing, and the group serves without it.
    Shortfall(String),
}

/// All that a run has learnt, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger(Vec<Learnt>);

impl Ledger {
    pub fn extend(&mut self, learnt: impl IntoIterator<Item = Learnt>) {
        self.0.extend(learnt);
    }

    /// How much was learnt so far.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Forgets what was missing of all that was learnt behind the first `kept` things.
    pub fn forget_shortfalls_from(&mut self, kept: usize) {
        let mut at = 0;
        self.0.retain(|learnt| {
            at += 1;
            at <= kept || !matches!(learnt, Learnt::Shortfall(_))
        });
    }

    /// The newest thing that fits.
    fn find<'a, T>(&'a self, fits: impl Fn(&'a Learnt) -> Option<T>) -> Option<T> {
        self.0.iter().rev().find_map(fits)
    }

    fn outcome<'a, T>(&'a self, fits: impl Fn(&'a InstanceRef, &'a Outcome) -> Option<T>) -> Option<T> {
        self.find(|learnt| match learnt {
            Learnt::Outcome { on, outcome } => fits(on, outcome),
            _ => None,
        })
    }

    pub fn snapshot(&self) -> Option<&SnapshotFacts> {
        self.outcome(|_, outcome| match outcome {
            Outcome::Snapshot(facts) => Some(facts),
            _ => None,
        })
    }

    /// The size of the backlog that the source was made to keep.
    pub fn backlog(&self) -> Option<u64> {
        self.outcome(|_, outcome| match outcome {
            Outcome::Backlog { bytes, .. } => Some(*bytes),
            _ => None,
        })
    }

    pub fn transfer(&self) -> Option<&TransferFacts> {
        self.outcome(|_, outcome| match outcome {
            Outcome::Pulled(facts) | Outcome::Landed { transfer: facts, .. } => Some(facts),
            _ => None,
        })
    }

    /// How the target's server loaded the snapshot while it arrived.
    pub fn feed(&self) -> Option<&FeedFacts> {
        self.outcome(|_, outcome| match outcome {
            Outcome::Landed { feed, .. } => Some(&**feed),
            _ => None,
        })
    }

    /// Where a fenced replica stood.
    pub fn fenced_at(&self, replica: &InstanceRef) -> Option<&Lineage> {
        self.outcome(|on, outcome| match outcome {
            Outcome::Fenced { lineage, .. } if on == replica => Some(lineage),
            _ => None,
        })
    }

    /// What a deposed primary held, and where it is kept.
    pub fn aside(&self) -> Option<(&InstanceRef, &AsideFacts)> {
        self.outcome(|on, outcome| match outcome {
            Outcome::SavedAside(facts) => Some((on, facts)),
            _ => None,
        })
    }

    /// Who handed over, and what is known of it.
    pub fn handed_over(&self) -> Option<(&InstanceRef, &HandoverFacts)> {
        self.outcome(|on, outcome| match outcome {
            Outcome::HandedOver(facts) => Some((on, facts)),
            _ => None,
        })
    }

    pub fn load_seconds(&self) -> Option<f64> {
        self.outcome(|_, outcome| match outcome {
            Outcome::Started { boot_seconds, load_seconds } => Some(boot_seconds + load_seconds),
            _ => None,
        })
    }

    /// Names of files that stood in the way and were kept.
    pub fn kept(&self) -> &[String] {
        self.outcome(|_, outcome| match outcome {
            Outcome::Released { kept } => Some(kept.as_slice()),
            _ => None,
        })
        .unwrap_or_default()
    }

    pub fn counters(&self, primary: &InstanceRef) -> Option<SyncCounters> {
        self.find(|learnt| match learnt {
            Learnt::Counters { on, counters } if on == primary => Some(*counters),
            _ => None,
        })
    }

    /// The process and replication id that the server to be followed had when it was last looked at, and whom it followed.
    pub fn primary(&self, primary: &InstanceRef) -> Option<(u32, &ReplId, Option<&HostPort>)> {
        self.find(|learnt| match learnt {
            Learnt::Primary { on, pid, id, follows } if on == primary => Some((*pid, id, follows.as_ref())),
            _ => None,
        })
    }

    pub fn gate(&self) -> Option<(&[String], u64)> {
        self.find(|learnt| match learnt {
            Learnt::Gate { findings, keys } => Some((findings.as_slice(), *keys)),
            _ => None,
        })
    }

    /// How each replica joined, oldest first.
    pub fn joined(&self) -> impl Iterator<Item = (&InstanceRef, Resync)> {
        self.0.iter().filter_map(|learnt| match learnt {
            Learnt::Joined { replica, resync } => Some((replica, *resync)),
            _ => None,
        })
    }

    pub fn shortfalls(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|learnt| match learnt {
            Learnt::Shortfall(text) => Some(text.as_str()),
            _ => None,
        })
    }
}
