//! The bars: what Baton has to reach. They are goals, set before anything was measured, and the only constants that the
//! tables show beside what was measured.

use crate::bench::files::FileKind;
use crate::bench::measure::failover::Way;
use crate::bench::peers::Peer;
use crate::dataset::Mix;

/// Own packets lost on a clean link, of a hundred.
pub const LOST_PERCENT_MAX: f64 = 2.0;
/// Queueing delay that is added on a clean link, at the median, in milliseconds.
pub const QUEUE_MS_MAX: f64 = 25.0;
/// The least share of a link that Baton and a TCP flow beside it each get, of a hundred.
pub const SHARE_PERCENT_MIN: f64 = 25.0;
/// Peak memory of an agent, in MiB.
pub const MEMORY_MIB_MAX: f64 = 96.0;
/// How far the cost of a byte may rise from the smaller file to the larger.
pub const GROWTH_MAX: f64 = 1.10;
/// Seconds until bytes flow again after a killed agent was restarted, and how much may be sent twice, of a hundred.
pub const RESUME_SECONDS_MAX: f64 = 2.0;
pub const SENT_TWICE_PERCENT_MAX: f64 = 5.0;
/// Time of a copy with a fresh save, as a multiple of the longer of save and wire.
pub const SAVE_OVERLAP_MAX: f64 = 1.1;
/// The 99th percentile of reads during a transfer, as a multiple of that during a `BGSAVE` alone.
pub const LATENCY_MAX: f64 = 1.5;
/// Milliseconds for which writes are blocked while a primary hands over on an idle machine.
pub const BLOCKED_MS_MAX: f64 = 100.0;
/// Seconds for a look at fifty servers.
pub const STATUS_SECONDS_MAX: f64 = 1.0;
/// Data that cannot be compressed, as a multiple of the time on the wire.
pub const WIRE_MAX: f64 = 1.04;

/// The file that the bars against peers are about.
pub const REFERENCE: FileKind = FileKind::new(Mix::Mixed, 525);

/// The most that Baton's time may be of a peer's, on a link, for the reference file.
pub fn ratio(link: &str, file: FileKind, peer: Peer) -> Option<f64> {
    if file != REFERENCE {
        return None;
    }
    let (scp, rsync, socket) = match link {
        "gigabit" => (0.60, Some(0.55), 0.80),
        "wan" => (0.36, Some(0.75), 0.90),
        "lossy" => (0.20, None, 0.60),
        "unshaped" => (0.85, Some(0.50), 1.0),
        _ => return None,
    };
    match peer {
        Peer::Scp => Some(scp),
        Peer::Rsync => rsync,
        Peer::Socket => Some(socket),
        Peer::Baton => None,
    }
}

/// Time of a failover, as a multiple of its slowest stage.
pub const STAGES_MAX: f64 = 1.2;

/// The most that Baton's time may be of another way to replace a lost primary, on a link, for the reference file.
pub fn failover_ratio(link: &str, file: FileKind, way: Way) -> Option<f64> {
    if file != REFERENCE {
        return None;
    }
    let (scp, rsync, native) = match link {
        "gigabit" => (0.50, 0.50, 0.42),
        "wan" => (0.30, 0.46, 0.34),
        "unshaped" => (0.55, 0.50, 0.40),
        _ => return None,
    };
    match way {
        Way::Scp => Some(scp),
        Way::Rsync => Some(rsync),
        Way::Native => Some(native),
        Way::NativeAtOnce | Way::File | Way::Live => None,
    }
}

/// The least share of clones that join partially.
pub const CLONES_PARTIAL_MIN: f64 = 1.0;

/// Says whether a figure is within a bar from above, as two cells: the bar and the verdict.
pub fn at_most(value: Option<f64>, bar: Option<f64>) -> [String; 2] {
    judge(value, bar, "<=", |value, bar| value <= bar)
}

pub fn at_least(value: Option<f64>, bar: Option<f64>) -> [String; 2] {
    judge(value, bar, ">=", |value, bar| value >= bar)
}

fn judge(value: Option<f64>, bar: Option<f64>, sign: &str, holds: fn(f64, f64) -> bool) -> [String; 2] {
    let Some(bar) = bar else { return ["-".to_owned(), "-".to_owned()] };
    let verdict = value.map_or("-", |value| if holds(value, bar) { "pass" } else { "FAIL" });
    [format!("{sign} {bar:.2}"), verdict.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_neither_passes_nor_fails() {
        assert_eq!(at_most(None, Some(0.6)), ["<= 0.60", "-"]);
        assert_eq!(at_most(Some(0.6), Some(0.6)), ["<= 0.60", "pass"]);
        assert_eq!(at_most(Some(0.61), Some(0.6)), ["<= 0.60", "FAIL"]);
        assert_eq!(at_least(Some(24.0), Some(25.0)), [">= 25.00", "FAIL"]);
        assert_eq!(at_most(Some(1.0), None), ["-", "-"]);
    }

    #[test]
    fn bars_against_peers_are_about_the_reference_file_only() {
        assert_eq!(ratio("wan", REFERENCE, Peer::Scp), Some(0.36));
        assert_eq!(ratio("lossy", REFERENCE, Peer::Rsync), None);
        assert_eq!(ratio("wan", FileKind::new(Mix::Json, 525), Peer::Scp), None);
    }
}
