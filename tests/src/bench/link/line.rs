//! When a packet arrives, if it does: the rate, the delay, the loss and the queue of one direction. No socket and no
//! clock. Everything is counted by segment, as the wire sees it, however many of them a host hands over at once.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// What Ethernet adds to each packet: preamble, header, checksum, gap.
const FRAME_BYTES: usize = 38;
/// A queue holds one round trip at full rate, or this much where that is less, as switches do.
const QUEUE_BYTES_MIN: u64 = 512 << 10;
/// Longest time on the line of segments that travel as one: the first of them arrives later by so much than it would
/// alone, which is less than what network cards wait for more before they wake their host.
const RUN_TIME: Duration = Duration::from_micros(150);

/// What a link is like. Both directions are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub megabits: f64,
    pub round_trip: Duration,
    /// Of a hundred packets, how many are lost by chance, in each direction.
    pub loss_percent: f64,
}

impl Shape {
    fn bytes_per_second(&self) -> f64 {
        self.megabits * 1e6 / 8.0
    }

    pub fn queue_bytes(&self) -> u64 {
        QUEUE_BYTES_MIN.max((self.bytes_per_second() * self.round_trip.as_secs_f64()) as u64)
    }

    /// How many bytes, frames included, make a run.
    fn run_bytes(&self) -> usize {
        (self.bytes_per_second() * RUN_TIME.as_secs_f64()) as usize
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Line {
    shape: Shape,
    free_at: Instant,
    rng: Rng,
}

/// What became of one segment.
#[derive(Debug, PartialEq, Eq)]
enum Passage {
    Arrives(Instant),
    Full,
    Lost,
}

/// Neighbouring segments that arrive together, when the last of them is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) due: Instant,
    pub(super) segments: Range<usize>,
}

/// What became of all segments of one packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) runs: Vec<Run>,
    /// How many met a full queue.
    pub(super) full: u64,
    /// How many were lost by chance.
    pub(super) lost: u64,
}

impl Line {
    pub(super) fn new(shape: Shape, seed: u64, now: Instant) -> Self {
        Self { shape, free_at: now, rng: Rng::new(seed) }
    }

    /// Sends segments of these lengths, one behind the other.
    pub(super) fn send(&mut self, now: Instant, lengths: impl Iterator<Item = usize>) -> Sent {
        let mut sent = Sent::default();
        // Bytes of the run that the next segment may join; none where it cannot.
        let mut open = None;
        for (number, bytes) in lengths.enumerate() {
            let framed = bytes + FRAME_BYTES;
            match self.pass(now, framed) {
                Passage::Arrives(due) => {
                    let joined = open.map(|run_bytes: usize| run_bytes + framed);
                    let joined = joined.filter(|run_bytes| *run_bytes <= self.shape.run_bytes());
                    match (joined, sent.runs.last_mut()) {
                        (Some(_), Some(run)) => *run = Run { due, segments: run.segments.start..number + 1 },
                        _ => sent.runs.push(Run { due, segments: number..number + 1 }),
                    }
                    open = joined.or(Some(framed));
                }
                Passage::Full => (sent.full, open) = (sent.full + 1, None),
                Passage::Lost => (sent.lost, open) = (sent.lost + 1, None),
            }
        }
        sent
    }

    fn pass(&mut self, now: Instant, framed: usize) -> Passage {
        // A millionth is fine enough for every loss that is asked for.
        if (self.rng.below(1_000_000) as f64) < self.shape.loss_percent * 10_000.0 {
            return Passage::Lost;
        }
        let rate = self.shape.bytes_per_second();
        let starts = self.free_at.max(now);
        if (starts - now).as_secs_f64() * rate > self.shape.queue_bytes() as f64 {
            return Passage::Full;
        }
        self.free_at = starts + Duration::from_secs_f64(framed as f64 / rate);
        Passage::Arrives(self.free_at + self.shape.round_trip / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::{once, repeat_n};

    const SHAPE: Shape = Shape { megabits: 200.0, round_trip: Duration::from_millis(40), loss_percent: 0.0 };
    /// 1500 + 38 bytes at 25 MB/s.
    const ON_THE_LINE: Duration = Duration::from_nanos(61_520);

    fn segments(sent: &Sent) -> usize {
        sent.runs.iter().map(|run| run.segments.len()).sum()
    }

    #[test]
    fn a_packet_arrives_after_its_own_time_on_the_line_and_the_delay() {
        let now = Instant::now();
        let mut line = Line::new(SHAPE, 1, now);
        let first = now + ON_THE_LINE + Duration::from_millis(20);
        for due in [first, first + ON_THE_LINE] {
            assert_eq!(line.send(now, once(1500)).runs, [Run { due, segments: 0..1 }]);
        }
    }

    #[test]
    fn segments_travel_together_up_to_the_time_of_a_run_and_arrive_with_the_last() {
        let now = Instant::now();
        let mut line = Line::new(SHAPE, 1, now);
        let arrival = |segments: u32| now + ON_THE_LINE * segments + Duration::from_millis(20);
        // Two take 123 of 150 microseconds.
        let expected = [(2, 0..2), (4, 2..4), (5, 4..5)].map(|(last, segments)| Run { due: arrival(last), segments });
        assert_eq!(line.send(now, repeat_n(1500, 5)).runs, expected);
        // What comes later never joins.
        assert_eq!(line.send(now, once(1500)).runs, [Run { due: arrival(6), segments: 0..1 }]);
    }

    #[test]
    fn a_line_slower_than_a_run_carries_single_segments() {
        let now = Instant::now();
        let mut line = Line::new(Shape { megabits: 20.0, ..SHAPE }, 1, now);
        let sent = line.send(now, repeat_n(1500, 4));
        assert!(sent.runs.iter().all(|run| run.segments.len() == 1), "{sent:?}");
        assert_eq!(segments(&sent), 4);
    }

    #[test]
    fn a_burst_fills_the_queue_of_one_round_trip_and_the_rest_is_dropped_however_it_is_handed_over() {
        let now = Instant::now();
        // Those that begin within the first million bytes.
        let fitting = 1_000_000 / 1538 + 1;
        for at_once in [1, 7, 40, 2000] {
            let mut line = Line::new(SHAPE, 1, now);
            let (mut passed, mut full) = (0, 0);
            for begin in (0..2000).step_by(at_once) {
                let sent = line.send(now, repeat_n(1500, at_once.min(2000 - begin)));
                (passed, full) = (passed + segments(&sent), full + sent.full);
            }
            assert_eq!((passed, full), (fitting, 2000 - fitting as u64), "{at_once} at once");
            let later = now + Duration::from_millis(40);
            assert_eq!(segments(&line.send(later, once(1500))), 1);
        }
    }

    #[test]
    fn loss_by_chance_is_as_frequent_as_asked_for_and_cuts_runs() {
        let mut now = Instant::now();
        let mut line = Line::new(Shape { megabits: 1000.0, loss_percent: 0.5, ..SHAPE }, 7, now);
        let (mut lost, mut cut) = (0, 0);
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            let sent = line.send(now, repeat_n(1500, 10));
            assert_eq!(segments(&sent) as u64 + sent.lost, 10);
            assert!(sent.runs.len() as u64 <= sent.lost + 1, "{sent:?}");
            assert!(sent.runs.windows(2).all(|pair| pair[0].segments.end < pair[1].segments.start), "{sent:?}");
            lost += sent.lost;
            cut += u32::from(sent.runs.len() > 1);
        }
        assert!((400..600).contains(&lost), "{lost} of 100000");
        // All but those that were the first or the last of their packet.
        assert!(cut > 300, "{cut}");
    }
}
