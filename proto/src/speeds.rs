//! How fast a snapshot was seen to pass the stages of its way: what an agent has kept of past runs. Facts only; what
//! they foretell is the coordinator's to judge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::HostName;

/// Rates beyond these are no rates: what is foretold by them has to be a number.
const RATE_MIN: f64 = 1.0;
const RATE_MAX: f64 = 1e15;

/// The speeds of one instance. What was never seen is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Speeds {
    /// Its server wrote a snapshot to its disk.
    pub save: Option<Speed>,
    /// The same, counting only the time for which a core worked at it: what a disk that takes no time would leave.
    pub work: Option<Speed>,
    /// Its server loaded a snapshot.
    pub load: Option<Speed>,
    /// A snapshot came here from another host, the time left out in which that had no more of it yet.
    pub transfers: BTreeMap<HostName, Transferred>,
}

/// What was seen of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Bytes of snapshots, and the time that they took.
    pub bytes: u64,
    pub seconds: f64,
    /// How long ago the newest of it was seen.
    pub age_seconds: u64,
}

/// What was seen of the way from another host: packing, network, unpacking and the disk here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transferred {
    pub speed: Speed,
    /// What of it crossed the network.
    pub bytes_wire: u64,
}

impl Speed {
    /// Bytes a second; none of what took no time, or for ever.
    pub fn rate(&self) -> Option<f64> {
        let rate = self.bytes as f64 / self.seconds;
        (RATE_MIN..=RATE_MAX).contains(&rate).then_some(rate)
    }
}

impl Transferred {
    /// The share of a snapshot that crossed the network.
    pub fn share(&self) -> Option<f64> {
        let share = self.bytes_wire as f64 / self.speed.bytes as f64;
        (share.is_finite() && share > 0.0).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_no_time_has_no_rate() {
        let speed = |bytes, seconds| Speed { bytes, seconds, age_seconds: 0 };
        assert_eq!(speed(100, 4.0).rate(), Some(25.0));
        for strange in
            [speed(100, 0.0), speed(0, 0.0), speed(0, 1.0), speed(1, f64::NAN), speed(1, -1.0), speed(1, 1e300)]
        {
            assert_eq!(strange.rate(), None, "{strange:?}");
        }
        assert_eq!(Transferred { speed: speed(100, 1.0), bytes_wire: 40 }.share(), Some(0.4));
        assert_eq!(Transferred { speed: speed(0, 1.0), bytes_wire: 40 }.share(), None);
    }
}
