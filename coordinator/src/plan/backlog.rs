//! How large the source's backlog must be, so that a replica that is built from a snapshot can go on where the snapshot
//! was taken: all that is written until it asks must still be there.
//!
//! ```text
//!   rate of writes  x  (save, wire, load: the slowest, or their sum by file)  x  margin   =  what is wanted
//!   what it has now  <=  what it gets  <=  shares of the host's free memory and of what maxmemory leaves
//! ```
//!
//! Judged by the time as it is forecast, with nothing of it shrunk on the wire: a forecast of `partial` is a promise.

use std::fmt;

use crate::plan::{Goal, Mode, Scene, pace};
use crate::report::units::{Bytes, Seconds};
use crate::topology::writes::{Seen, Writes};

/// What is wanted is so many times what is expected: networks change, and writes come in waves.
const MARGIN: f64 = 4.0;
/// What must fit at the least, for a partial resync to be foretold.
pub(super) const MARGIN_MIN: f64 = 1.5;
/// The least time that is provided for: orders, links and a busy host take some seconds whatever the data.
const SECONDS_MIN: f64 = 60.0;
/// The time from the end of the load until the replica asks for the rest.
const ATTACH_SECONDS: f64 = 5.0;
/// The share of the host's available memory that a backlog may grow by, and of what is left below maxmemory, within which
/// a server counts its backlog.
const SHARE: u64 = 4;
/// What a server is taken to receive whose writers are not there yet.
const UNSEEN_RATE: u64 = 1_000_000;
/// The settings of a run that is gone are put back after the forecast time and so much more.
const HOLD_SECONDS_MIN: u32 = 3600;

/// What is expected, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizing {
    pub writes: Writes,
    /// From the snapshot until the replica asks for the rest.
    pub seconds: f64,
    /// What is written meanwhile.
    pub expected_bytes: u64,
    pub present_bytes: u64,
    /// What the backlog is made; it is never made smaller.
    pub bytes: u64,
}

/// What a backlog is sized by.
#[derive(Debug, Clone, Copy)]
struct Given {
    writes: Writes,
    seconds: f64,
    present_bytes: u64,
    /// `None`: the size cannot be changed.
    available_bytes: Option<u64>,
    /// What is left below maxmemory, where there is one.
    below_maxmemory_bytes: Option<u64>,
}

/// Sizes the source's backlog; `None` where nothing is to follow the source, or it does not run.
pub fn of(scene: &Scene) -> Option<Sizing> {
    if !matches!(scene.intent.goal, Goal::Clone | Goal::Failover(Mode::Promote)) {
        return None;
    }
    let running = scene.source.running()?;
    let seconds = pace::cautious_seconds(scene)? + ATTACH_SECONDS;
    let available = scene.world.report(&scene.source.name.host).map_or(0, |host| host.memory_available_bytes);
    let (used, limit) = (running.memory.used_bytes, scene.source.report.settings.maxmemory_bytes);
    Some(size(&Given {
        writes: scene
            .world
            .writes
            .get(scene.source.name)
            .copied()
            .unwrap_or(Writes { bytes_per_second: UNSEEN_RATE, seen: Seen::Nothing }),
        seconds,
        present_bytes: running.replication.backlog_bytes,
        available_bytes: scene.source.report.settings.configurable.then_some(available),
        below_maxmemory_bytes: (limit > 0).then(|| limit.saturating_sub(used)),
    }))
}

fn size(given: &Given) -> Sizing {
    let Given { writes, seconds, present_bytes, available_bytes, below_maxmemory_bytes } = *given;
    let rate = writes.bytes_per_second as f64;
    let wanted = (rate * (seconds * MARGIN).max(SECONDS_MIN)).ceil() as u64;
    let room = available_bytes.map_or(0, |bytes| bytes / SHARE);
    let room = below_maxmemory_bytes.map_or(room, |bytes| room.min(bytes / SHARE));
    let bytes = wanted.clamp(present_bytes, present_bytes.saturating_add(room));
    Sizing { writes, seconds, expected_bytes: (rate * seconds).ceil() as u64, present_bytes, bytes }
}

impl Sizing {
    /// Whether the replica will find in it what it lacks.
    pub fn fits(&self) -> bool {
        // Of writes that nobody has seen nothing is known; what there is has to do.
        self.writes.seen == Seen::Nothing || self.holds()
    }

    /// Whether it holds what is expected, be that seen or assumed.
    pub fn holds(&self) -> bool {
        self.bytes as f64 >= self.expected_bytes as f64 * MARGIN_MIN
    }

    /// The size that would do.
    pub fn least_bytes(&self) -> u64 {
        (self.expected_bytes as f64 * MARGIN_MIN).ceil() as u64
    }

    /// For how long the settings are held at most.
    pub fn hold_seconds(&self) -> u32 {
        // A cast of a float saturates.
        HOLD_SECONDS_MIN.saturating_add((self.seconds * MARGIN) as u32)
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = Bytes(self.writes.bytes_per_second);
        match self.writes.seen {
            Seen::Stream => write!(f, "{rate}/s are written")?,
            Seen::Input => write!(f, "at most {rate}/s are written")?,
            Seen::Nothing => write!(f, "nobody writes yet, {rate}/s are assumed")?,
        }
        write!(f, ", {} pass until it follows", Seconds(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn given(rate: u64, seconds: f64) -> Given {
        Given {
            writes: Writes { bytes_per_second: rate, seen: Seen::Stream },
            seconds,
            present_bytes: MB,
            available_bytes: Some(4_000 * MB),
            below_maxmemory_bytes: None,
        }
    }

    #[test]
    fn it_holds_several_times_what_is_expected_and_is_never_made_smaller() {
        let sized = size(&given(2 * MB, 100.0));
        assert_eq!((sized.expected_bytes, sized.bytes, sized.fits()), (200 * MB, 800 * MB, true));
        assert_eq!(size(&given(10, 100.0)).bytes, MB, "what it has is enough");
        assert_eq!(size(&given(MB, 1.0)).bytes, 60 * MB, "however little there is to send");
        assert!(sized.hold_seconds() > 400);
    }

    #[test]
    fn it_is_bounded_by_free_memory_and_by_what_maxmemory_leaves() {
        let sized = size(&given(20 * MB, 100.0));
        assert_eq!((sized.bytes, sized.fits()), (1_001 * MB, false), "{sized:?}");
        let sized = size(&Given { below_maxmemory_bytes: Some(40 * MB), ..given(2 * MB, 100.0) });
        assert_eq!((sized.bytes, sized.fits()), (11 * MB, false));
        let sized = size(&Given { available_bytes: None, ..given(2 * MB, 100.0) });
        assert_eq!(sized.bytes, MB, "without CONFIG it stays as it is");
        // Less than the margin, but enough to promise a partial resync.
        assert!(size(&given(6 * MB, 100.0)).fits());
        assert_eq!(size(&given(6 * MB, 100.0)).least_bytes(), 900 * MB);
    }
}
