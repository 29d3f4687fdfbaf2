//! What was seen of past runs, and what it comes to: values only.
//!
//! Of each stage the newest few sights are kept, and summed: a small snapshot, of which orders and links are the most,
//! then counts for as little as it is. What is old says nothing of the disk and the network of today, and is not told.

use std::collections::BTreeMap;

use baton_proto::HostName;
use baton_proto::chunk::CHUNK_BYTES;
use baton_proto::speeds::{Speed, Speeds, Transferred};
use serde::{Deserialize, Serialize};

/// The least that is worth keeping: of what fits into a chunk, the time is that of orders and links.
const BYTES_MIN: u64 = CHUNK_BYTES;
/// Sights that are kept of each stage.
const SIGHTS_MAX: usize = 3;
/// Hosts of which transfers are kept: those last heard from.
const PEERS_MAX: usize = 16;
/// After so many seconds a sight is not told any more: a month.
const AGE_MAX_SECONDS: u64 = 30 * 24 * 3600;

/// A stage of a snapshot's way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Save,
    Work,
    Load,
    Transfer { from: HostName },
}

/// A stage as it went once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    pub at_unix: u64,
    pub stage: Stage,
    pub bytes: u64,
    pub seconds: f64,
    /// Of a transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_wire: Option<u64>,
}

impl Sight {
    fn counts(&self) -> bool {
        self.bytes >= BYTES_MIN && self.seconds.is_finite() && self.seconds > 0.0
    }
}

/// All that is kept, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Sight>);

impl History {
    /// Adds what was seen, and drops what is not needed any more. Tells whether anything was added.
    pub fn add(&mut self, seen: impl IntoIterator<Item = Sight>) -> bool {
        let before = self.0.len();
        self.0.extend(seen.into_iter().filter(Sight::counts));
        let added = self.0.len() > before;
        let (mut of_stage, mut peers) = (BTreeMap::<Stage, usize>::new(), 0);
        let mut newest_first: Vec<Sight> = std::mem::take(&mut self.0).into_iter().rev().collect();
        newest_first.retain(|sight| {
            let is_first = !of_stage.contains_key(&sight.stage);
            if is_first && matches!(sight.stage, Stage::Transfer { .. }) {
                peers += 1;
                if peers > PEERS_MAX {
                    return false;
                }
            }
            let kept = of_stage.entry(sight.stage.clone()).or_default();
            *kept += 1;
            *kept <= SIGHTS_MAX
        });
        newest_first.reverse();
        self.0 = newest_first;
        added
    }

    /// What it comes to at this time. A sight of the future is one of before the clock was set: its age is not known.
    pub fn speeds(&self, now_unix: u64) -> Speeds {
        let mut speeds = Speeds::default();
        for sight in self.0.iter().filter(|sight| sight.counts()) {
            let Some(age_seconds) = now_unix.checked_sub(sight.at_unix).filter(|age| *age <= AGE_MAX_SECONDS) else {
                continue;
            };
            let one = Speed { bytes: sight.bytes, seconds: sight.seconds, age_seconds };
            let slot = match &sight.stage {
                Stage::Save => &mut speeds.save,
                Stage::Work => &mut speeds.work,
                Stage::Load => &mut speeds.load,
                Stage::Transfer { from } => {
                    let bytes_wire = sight.bytes_wire.unwrap_or(sight.bytes);
                    let sum = match speeds.transfers.get(from) {
                        Some(sum) => Transferred {
                            speed: plus(sum.speed, one),
                            bytes_wire: sum.bytes_wire.saturating_add(bytes_wire),
                        },
                        None => Transferred { speed: one, bytes_wire },
                    };
                    speeds.transfers.insert(from.clone(), sum);
                    continue;
                }
            };
            *slot = Some(slot.map_or(one, |sum| plus(sum, one)));
        }
        speeds
    }
}

fn plus(sum: Speed, one: Speed) -> Speed {
    Speed {
        bytes: sum.bytes.saturating_add(one.bytes),
        seconds: sum.seconds + one.seconds,
        age_seconds: sum.age_seconds.min(one.age_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn sight(at_unix: u64, stage: Stage, megabytes: u64, seconds: f64) -> Sight {
        Sight { at_unix, stage, bytes: megabytes * MB, seconds, bytes_wire: None }
    }

    fn from(host: &str) -> Stage {
        Stage::Transfer { from: HostName::new(host).unwrap() }
    }

    #[test]
    fn sights_are_summed_by_stage_so_that_a_small_one_counts_for_little() {
        let mut history = History::default();
        assert!(history.add([sight(100, Stage::Save, 10, 1.0), sight(200, Stage::Save, 990, 9.0)]));
        assert!(history.add([sight(150, Stage::Load, 100, 1.0)]));
        let speeds = history.speeds(260);
        let save = speeds.save.unwrap();
        assert_eq!((save.rate(), save.age_seconds), (Some(100.0 * MB as f64), 60));
        assert_eq!(speeds.load.unwrap().age_seconds, 110);
        assert_eq!((speeds.work, speeds.transfers.len()), (None, 0));
    }

    #[test]
    fn a_transfer_is_kept_by_host_with_what_crossed_the_network() {
        let mut history = History::default();
        let crossed = |at, host, wire| Sight { bytes_wire: Some(wire), ..sight(at, from(host), 100, 2.0) };
        history.add([crossed(1, "b", 40 * MB), crossed(2, "b", 60 * MB), crossed(3, "d", 90 * MB)]);
        let transfers = history.speeds(5).transfers;
        let of = |host: &str| transfers[&HostName::new(host).unwrap()];
        assert_eq!((of("b").share(), of("b").speed.seconds), (Some(0.5), 4.0));
        assert_eq!(of("d").share(), Some(0.9));
    }

    #[test]
    fn only_the_newest_of_each_stage_and_the_last_hosts_are_kept() {
        let mut history = History::default();
        for at in 0..10 {
            history.add([sight(at, Stage::Save, 10 * (at + 1), 1.0)]);
        }
        assert_eq!(history.speeds(9).save.unwrap().bytes, (80 + 90 + 100) * MB);
        for at in 0..100 {
            history.add([sight(at, from(&format!("host-{at}")), 10, 1.0)]);
        }
        let speeds = history.speeds(99);
        assert_eq!((speeds.transfers.len(), history.0.len()), (PEERS_MAX, PEERS_MAX + SIGHTS_MAX));
        assert!(speeds.transfers.contains_key(&HostName::new("host-99").unwrap()));
        assert!(speeds.save.is_some(), "other stages are as they were");
    }

    #[test]
    fn what_is_small_strange_old_or_of_another_clock_is_not_told() {
        let mut history = History::default();
        for strange in
            [sight(0, Stage::Save, 1, 1.0), sight(0, Stage::Save, 10, 0.0), sight(0, Stage::Save, 10, f64::NAN)]
        {
            assert!(!history.add([strange]));
        }
        history.add([sight(1000, Stage::Save, 10, 1.0)]);
        assert!(history.speeds(1000 + AGE_MAX_SECONDS).save.is_some());
        assert!(history.speeds(1001 + AGE_MAX_SECONDS).save.is_none());
        assert!(history.speeds(999).save.is_none());
    }
}
