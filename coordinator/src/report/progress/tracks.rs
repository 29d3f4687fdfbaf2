//! How far each instance is that a step works on: rates and the line that tells of all of them. Pure: time comes in.

use std::time::{Duration, Instant};

use baton_proto::InstanceRef;
use baton_proto::control::Progress;

use crate::plan::Step;
use crate::report::units::{Bytes, Rate, Span};

/// A rate is measured over at least so long.
const RATE_OVER: Duration = Duration::from_millis(200);

/// One step's work, an entry for each instance in the order in which they were first heard of.
#[derive(Debug)]
pub(super) struct Tracks {
    pub(super) since: Instant,
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    on: InstanceRef,
    told: Instant,
    last: (Instant, u64),
    rate: f64,
    doing: String,
    text: String,
}

/// What to make of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Due {
    /// Whether it is time to tell of it.
    pub(super) is_due: bool,
    /// Whether something else is done there than before.
    pub(super) is_new: bool,
    pub(super) bytes_per_second: f64,
}

impl Tracks {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, tracks: Vec::new() }
    }

    /// Takes in a report. It is due if the instance was not told of for `every`.
    pub(super) fn take_in(
        &mut self,
        now: Instant,
        every: Duration,
        step: &Step,
        on: &InstanceRef,
        progress: &Progress,
    ) -> Due {
        let found = self.tracks.iter().position(|track| track.on == *on);
        let index = found.unwrap_or_else(|| {
            let last = (now, progress.bytes_done);
            let (doing, text) = (String::new(), String::new());
            self.tracks.push(Track { on: on.clone(), told: self.since, last, rate: 0.0, doing, text });
            self.tracks.len() - 1
        });
        let Some(track) = self.tracks.get_mut(index) else {
            return Due { is_due: false, is_new: false, bytes_per_second: 0.0 };
        };
        let elapsed = now.duration_since(track.last.0);
        if elapsed > RATE_OVER {
            let moved = progress.bytes_done.saturating_sub(track.last.1) as f64 / elapsed.as_secs_f64();
            // A moving average: steady enough to read, quick enough to show a stall.
            track.rate = if track.rate == 0.0 { moved } else { 0.7 * track.rate + 0.3 * moved };
            track.last = (now, progress.bytes_done);
        }
        let is_new = track.doing != progress.doing;
        if is_new {
            track.doing.clone_from(&progress.doing);
        }
        track.text = describe(step, on, progress, track.rate);
        let is_due = now.duration_since(track.told) >= every;
        if is_due {
            track.told = now;
        }
        Due { is_due, is_new, bytes_per_second: track.rate }
    }

    /// All instances in one line.
    pub(super) fn line(&self) -> String {
        self.tracks.iter().map(|track| track.text.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// Tells that the line was shown, so that none of its parts is due.
    pub(super) fn told(&mut self, now: Instant) {
        self.tracks.iter_mut().for_each(|track| track.told = now);
    }
}

fn describe(step: &Step, on: &InstanceRef, progress: &Progress, rate: f64) -> String {
    // While a snapshot is sent its save may still run.
    let name = match step {
        Step::Transfer { source, .. } if source == on => "snapshot",
        _ => step.name(),
    };
    let mut text = format!("{name} on {on}: {}", progress.doing);
    let total = progress.bytes_total.filter(|total| *total > 0);
    match total {
        Some(total) if total == progress.bytes_done => text.push_str(&format!(" {}", Bytes(total))),
        Some(total) => text.push_str(&format!(" {} of {}", Bytes(progress.bytes_done), Bytes(total))),
        None if progress.bytes_done > 0 => text.push_str(&format!(" {}", Bytes(progress.bytes_done))),
        None => return text,
    }
    let left = total.map_or(0, |total| total.saturating_sub(progress.bytes_done));
    if rate > 0.0 && left > 0 {
        text.push_str(&format!(", {}, {} left", Rate(rate), Span((left as f64 / rate).ceil() as u64)));
    } else if rate > 0.0 && total.is_none() {
        text.push_str(&format!(", {}", Rate(rate)));
    }
    if progress.bytes_wire > 0 {
        let ratio = progress.bytes_done as f64 / progress.bytes_wire as f64;
        text.push_str(&format!(", ratio {ratio:.2}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use baton_proto::control::{Landing, SaveMethod};
    use baton_proto::data::Budget;

    use super::*;
    use crate::topology::fixture::named;

    const EVERY: Duration = Duration::from_secs(5);

    fn transfer() -> Step {
        let (method, budget, landing) = (SaveMethod::Save, Budget::default(), Landing::File { loads: true });
        Step::Transfer { source: named("b"), target: named("c"), method, budget, landing }
    }

    fn progress(doing: &str, megabytes: u64, total: Option<u64>, wire: u64) -> Progress {
        let mega = |megabytes: u64| megabytes * 1_000_000;
        let (bytes_done, bytes_total, bytes_wire) = (mega(megabytes), total.map(mega), mega(wire));
        Progress { doing: doing.into(), bytes_done, bytes_total, bytes_wire, ready: false }
    }

    #[test]
    fn a_save_and_the_transfer_beside_it_are_both_told_of_and_keep_rates_of_their_own() {
        let begun = Instant::now();
        let mut tracks = Tracks::new(begun);
        let mut hear = |seconds: u64, on: &str, progress: Progress| {
            let now = begun + Duration::from_secs(seconds);
            tracks.take_in(now, EVERY, &transfer(), &named(on), &progress);
            tracks.line()
        };
        assert_eq!(hear(1, "b", progress("saving", 100, None, 0)), "snapshot on b: saving 100.0 MB");
        hear(1, "c", progress("transferring", 80, None, 40));
        hear(2, "b", progress("saving", 200, None, 0));
        let line = hear(2, "c", progress("transferring", 140, None, 70));
        assert_eq!(
            line,
            "snapshot on b: saving 200.0 MB, 100.0 MB/s; \
             transfer on c: transferring 140.0 MB, 60.0 MB/s, ratio 2.00"
        );
        hear(3, "b", progress("saved", 240, Some(240), 0));
        let line = hear(3, "c", progress("transferring", 200, Some(240), 100));
        assert_eq!(
            line,
            "snapshot on b: saved 240.0 MB; \
             transfer on c: transferring 200.0 MB of 240.0 MB, 60.0 MB/s, 1s left, ratio 2.00"
        );
    }

    #[test]
    fn a_report_is_due_once_in_a_while_and_new_when_something_else_is_done() {
        let begun = Instant::now();
        let mut tracks = Tracks::new(begun);
        let mut hear = |seconds: u64, doing: &str| {
            let now = begun + Duration::from_secs(seconds);
            let due = tracks.take_in(now, EVERY, &transfer(), &named("c"), &progress(doing, 1, None, 0));
            (due.is_due, due.is_new)
        };
        assert_eq!(hear(1, "connecting"), (false, true));
        assert_eq!(hear(2, "connecting"), (false, false));
        assert_eq!(hear(5, "connecting"), (true, false));
        assert_eq!(hear(6, "transferring"), (false, true));
        assert_eq!(hear(10, "transferring"), (true, false));
    }
}
