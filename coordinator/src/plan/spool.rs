//! When the source's backlog cannot be made large enough, its agent keeps what is written meanwhile in a file, and the
//! target is fed that before it follows. Here is whether that can be done, and what it takes.
//!
//! ```text
//!   time until it is level  =  time until it has loaded  x  wire / (wire - writes)
//!   what the file holds     =  writes  x  that, with a margin   <=  what the disk has, beside the snapshot
//! ```
//!
//! At the end the backlog has to hold what is written while the target changes over to the source.

use baton_proto::control::SaveMethod;

use crate::plan::backlog::{self, MARGIN_MIN};
use crate::plan::{Scene, Way, landing, pace, steps};
use crate::report::units::{Bytes, Seconds};
use crate::topology::writes::Seen;

/// Writes must leave this much of the network: at less, the target comes level in no time that could be foretold.
const WRITES_SHARE_MAX: f64 = 0.67;
/// What the backlog must hold, at the least: so long a target may take from leaving the spool until it is heard by the
/// source. Older servers look once a second for whom they follow; then come eight round trips.
const HANDOVER_SECONDS: f64 = 2.0;
/// The target is level once it lacks no more than this part of the backlog.
const NEAR_SHARE: u64 = 8;
/// A spool that nobody ends any more is given up after a day. The disk's reserve ends it before, if that is short.
pub const HOLD_SECONDS: u32 = 24 * 3600;

/// A spool as it is expected to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spool {
    /// Until the target is level.
    pub seconds: f64,
    /// What is written meanwhile.
    pub bytes: u64,
    /// With no more missing than this, the target follows the source.
    pub near_bytes: u64,
}

/// What a spool is judged by.
#[derive(Debug, Clone, Copy)]
struct Given {
    /// Bytes a second that are written, and that cross the network.
    writes: f64,
    wire: f64,
    /// Nobody writes yet, and so many are assumed.
    assumed: bool,
    /// Until the target has loaded.
    seconds: f64,
    /// What the backlog will be.
    backlog_bytes: u64,
    /// What the disk has beside the snapshot.
    free_bytes: u64,
}

/// The spool of a plan whose backlog does not suffice; `None` where it does, or nothing is to follow the source. The error
/// says why there can be none.
pub fn of(scene: &Scene) -> Option<Result<Spool, String>> {
    let sizing = backlog::of(scene).filter(|sizing| !sizing.holds())?;
    let running = scene.source.running()?;
    if landing::of(scene) != Way::Live {
        return Some(Err("the target does not land live, and only a server that runs can be fed a spool".into()));
    }
    if running.sentinels > 0 {
        return Some(Err("Sentinels watch the source, and would take its agent for a replica for good".into()));
    }
    if scene.source.report.settings.min_replicas_to_write > 0 {
        let why =
            "the source takes writes only with so many replicas (min-replicas-to-write), and would count its agent";
        return Some(Err(why.into()));
    }
    let file = match steps::save_method(scene).0 {
        SaveMethod::Existing => return Some(Err("a dump that is there is older than any spool".into())),
        SaveMethod::Stream => 0,
        // The snapshot's file is beside it.
        SaveMethod::Save | SaveMethod::Bgsave => scene.data_bytes(),
    };
    Some(judge(&Given {
        writes: sizing.writes.bytes_per_second as f64,
        assumed: sizing.writes.seen == Seen::Nothing,
        wire: pace::cautious_wire(scene),
        seconds: sizing.seconds,
        backlog_bytes: sizing.bytes,
        free_bytes: scene.source.report.files.free_bytes.saturating_sub(file),
    }))
}

fn judge(given: &Given) -> Result<Spool, String> {
    let Given { assumed, wire, seconds, backlog_bytes, free_bytes, .. } = *given;
    // What nobody has seen is not held against it.
    let most = (wire * WRITES_SHARE_MAX).min(backlog_bytes as f64 / HANDOVER_SECONDS);
    let writes = if assumed { given.writes.min(most) } else { given.writes };
    // Casts of a float saturate.
    let rate = |rate: f64| format!("{}/s", Bytes(rate as u64));
    if writes > wire * WRITES_SHARE_MAX {
        return Err(format!("{} are written, and {} cross the network", rate(writes), rate(wire)));
    }
    let over = (writes * HANDOVER_SECONDS).ceil() as u64;
    if over > backlog_bytes {
        return Err(format!("{} may be written while the target changes over, more than the backlog", Bytes(over)));
    }
    let seconds = seconds * wire / (wire - writes);
    let bytes = (writes * seconds).ceil() as u64;
    let wanted = (bytes as f64 * MARGIN_MIN).ceil() as u64;
    if wanted > free_bytes {
        let free = Bytes(free_bytes);
        return Err(format!("its disk has {free} beside the snapshot, and {} may be spooled", Bytes(wanted)));
    }
    Ok(Spool { seconds, bytes, near_bytes: backlog_bytes / NEAR_SHARE })
}

impl Spool {
    /// What it comes to, in words.
    pub fn says(&self) -> String {
        format!("about {} until the target is level, {} later", Bytes(self.bytes), Seconds(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1e6;

    fn given() -> Given {
        Given {
            writes: 0.5 * MB,
            assumed: false,
            wire: 2.0 * MB,
            seconds: 30.0,
            backlog_bytes: 1 << 20,
            free_bytes: 1 << 30,
        }
    }

    #[test]
    fn what_is_written_while_the_spool_is_caught_up_with_is_counted() {
        // 30 s of writes, and then a third of that, and so on.
        let spool = judge(&given()).unwrap();
        assert_eq!((spool.seconds, spool.bytes, spool.near_bytes), (40.0, 20_000_000, 1 << 17));
        assert_eq!(judge(&Given { writes: 0.0, ..given() }).unwrap().bytes, 0);
    }

    #[test]
    fn what_keeps_a_target_from_coming_level_is_told() {
        for (spoilt, word) in [
            (Given { writes: 1.9 * MB, backlog_bytes: 1 << 30, ..given() }, "cross the network"),
            (Given { writes: 5.0 * MB, wire: 100.0 * MB, ..given() }, "more than the backlog"),
            (Given { free_bytes: 20_000_000, ..given() }, "its disk has"),
        ] {
            let why = judge(&spoilt).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        let assumed = Given { writes: 5.0 * MB, assumed: true, ..given() };
        assert!(judge(&assumed).is_ok(), "what nobody has seen is not held against it");
    }
}
