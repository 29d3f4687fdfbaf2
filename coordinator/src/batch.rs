//! One host's primaries replaced by one command: many runs, each with a plan and a journal of its own, that share a target
//! host, its memory and disk, the network, and whoever watches.
//!
//! ```text
//!   groups lost on A ──pairing──> a free server of C for each ──plan──> one run a group
//!
//!   all runs at once:   fence, depose, promote       a host that comes back must not find a replica that still follows it
//!   so many at a time:  snapshot, transfer, load ... each when it has its turn ([`turns`]), sending at its share ([`shares`])
//! ```
//!
//! Left out: observing and driving ([`crate::cli::batch`]), and what a single run does.

pub mod pairing;
pub mod row;
pub mod shares;
pub mod turns;

/// How many runs have their turn at the same time, unless told otherwise. One alone leaves disk, network and cores idle for
/// about half of its time: it waits for a sync, a start, a replica's link. Four fill these gaps, and keep the agents within
/// a few hundred megabytes, at 64 MiB a transfer.
pub const JOBS_DEFAULT: usize = 4;
/// Most that may be asked for: far below the 256 offers and the 128 requests on their way that an agent bears.
pub const JOBS_MAX: usize = 32;

/// Seconds until the last of several runs has ended, if so many have their turn at a time and each next one begins as soon
/// as one before it has ended.
pub fn makespan(seconds: impl IntoIterator<Item = f64>, jobs: usize) -> f64 {
    let mut ends = vec![0.0_f64; jobs.max(1)];
    for seconds in seconds {
        if let Some(earliest) = ends.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *earliest += seconds;
        }
    }
    ends.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_ends_when_its_turn_does() {
        assert_eq!(makespan([], 4), 0.0);
        assert_eq!(makespan([3.0, 1.0, 1.0, 1.0], 1), 6.0);
        assert_eq!(makespan([3.0, 1.0, 1.0, 1.0], 2), 3.0);
        assert_eq!(makespan([1.0, 1.0, 1.0, 3.0], 2), 4.0, "in the order in which they are");
        assert_eq!(makespan([5.0], 0), 5.0);
    }
}
