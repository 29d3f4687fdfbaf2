//! Chooses with which level a chunk is packed, from what was measured: how fast each level packs and how far it shrinks
//! this snapshot, and how fast bytes arrive.
//!
//! The level that is best for long is the one with the highest least of the packers' rate and the wire's. Above it, time
//! decides: as long as what is on its way keeps the wire busy until the chunk is packed, a higher level costs nothing. So
//! a slow wire gets the highest level that the cores can keep up with, mixed from two neighbours where that is between
//! them, and a fast one is never kept waiting. Levels that were not tried yet are judged by how they usually compare.
//!
//! The plain form of a chunk (see `plain`) shrinks further at each level, and costs both hosts more. It is for wires that are
//! slower than one core of the target, and for snapshots whose strings the server packed.

mod strings;
mod wire;

use std::time::Duration;

use baton_proto::chunk::CHUNK_BYTES;
use baton_proto::data::PackingFacts;

use strings::Strings;
use wire::Wire;

/// How a chunk is packed: not at all, by zstd, or by zstd in its plain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Store,
    Zstd(i8),
    Plain(i8),
}

/// A chunk that was packed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packed {
    /// The level that was asked for.
    pub level: Level,
    /// Whether it is sent as it is, because it did not shrink.
    pub stored: bool,
    /// Whether it was to be in its plain form, and had next to no packed strings.
    pub barren: bool,
    pub raw_bytes: u32,
    pub wire_bytes: u32,
    /// How long it took.
    pub took: Duration,
    /// How long a core worked at it: less, where others wanted the cores as well, or the disk was waited for.
    pub worked: Duration,
}

/// The levels that are used, lowest first, and then those of the plain form, with bytes a second and remaining share on a
/// mixed snapshot, one core of a 2024 server. Only the proportions count: they stand in for a level until it has been tried.
const LEVELS: [(Level, f64, f64); 15] = [
    (Level::Store, 2000e6, 1.0),
    (Level::Zstd(-5), 560e6, 0.625),
    (Level::Zstd(-1), 405e6, 0.566),
    (Level::Zstd(1), 340e6, 0.497),
    (Level::Zstd(2), 300e6, 0.473),
    (Level::Zstd(3), 220e6, 0.461),
    (Level::Zstd(4), 170e6, 0.457),
    (Level::Zstd(6), 75e6, 0.442),
    (Level::Zstd(7), 56e6, 0.436),
    (Level::Zstd(9), 38e6, 0.431),
    (Level::Plain(1), 135e6, 0.427),
    (Level::Plain(2), 115e6, 0.407),
    (Level::Plain(3), 95e6, 0.389),
    (Level::Plain(6), 48e6, 0.380),
    (Level::Plain(9), 27e6, 0.368),
];
/// Where the plain form begins.
const PLAIN_FIRST: usize = 10;
/// How much faster than it is made, at the lowest level, a core of the target is believed to take a plain form: it packs the
/// strings, and has neither to unpack them before nor to look for what zstd finds.
const TAKEN_FASTER: f64 = 1.5;
/// Where a transfer begins: right for most links, and soon corrected.
const FIRST: usize = 4;
/// Weight of the newest chunk in what is known of a level: the last eight count most.
const NEWEST: f64 = 0.2;
/// What part of the time that the wire is busy may be spent on a chunk: the rest is for what was measured wrongly, and for
/// a server that saves or loads and has the cores first for some tenths of a second.
const SPENDABLE: f64 = 0.25;
/// What is better by less than this is not: the first level is good for most, and packing longer takes cores.
const PREFERENCE: f64 = 1.05;
/// The same for a lower level: it sends more bytes, which takes the cores of both hosts too, about as much as it spares.
const PREFERENCE_DOWN: f64 = 1.25;
/// Most times longer than it worked that a chunk is believed to take.
const STRETCH_MAX: f64 = 4.0;
/// What is hoped for, beyond what is known, for each chunk that was packed without having to wait for the wire.
const HOPE: f64 = 1.01;
/// After so many chunks in a row that did not shrink, they are sent as they are, but for one in as many; the more of those
/// do not shrink either, the rarer, up to a bound.
const STORED_IN_A_ROW: u32 = 8;
const UNTRIED_MAX: u32 = 32;
/// A chunk that does not shrink below this share is sent as it is: the target need not unpack it then.
pub const STORE_ABOVE: f64 = 0.97;
/// A chunk of which packed strings are less than this share is not sent in its plain form: it would gain next to nothing.
pub const PLAIN_FROM: f64 = 0.05;

/// What is known of a level: bytes a second on a core of its own, and the remaining share.
#[derive(Debug, Clone, Copy)]
struct Known {
    rate: f64,
    share: f64,
}

/// The controller of one offer.
#[derive(Debug)]
pub struct Levels {
    workers: f64,
    known: [Option<Known>; LEVELS.len()],
    /// How many times longer than it was worked at a chunk takes, since others want the cores too, or its bytes come from a
    /// slow disk. It is one for all levels: it says nothing of them.
    stretch: f64,
    wire: Wire,
    strings: Strings,
    stored_in_a_row: u32,
    /// Chunks chosen to be sent as they are since the last that was not.
    untried: u32,
    chosen: usize,
    why: Why,
    chunks: u32,
    stored: u32,
    plain: u32,
    level_sum: i64,
}

/// Why a level was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    First,
    Throughput { wire: f64 },
    Time { wire: f64, busy_seconds: f64 },
    Incompressible,
}

impl Levels {
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers as f64,
            known: [None; LEVELS.len()],
            stretch: 1.0,
            wire: Wire::default(),
            strings: Strings::default(),
            stored_in_a_row: 0,
            untried: 0,
            chosen: FIRST,
            why: Why::First,
            chunks: 0,
            stored: 0,
            plain: 0,
            level_sum: 0,
        }
    }

    /// Takes notice of a packed chunk.
    pub fn packed(&mut self, packed: &Packed) {
        self.chunks += 1;
        self.wire.hope = self.wire.hope.max(1.0) * HOPE;
        match packed.level {
            // Not tried.
            Level::Store => self.stored += 1,
            Level::Zstd(_) | Level::Plain(_) if packed.stored => {
                self.stored += 1;
                self.stored_in_a_row += 1;
            }
            Level::Zstd(level) | Level::Plain(level) => {
                self.stored_in_a_row = 0;
                self.level_sum += i64::from(level);
            }
        }
        // Without strings it was packed as it is.
        let level = match packed.level {
            Level::Plain(level) if packed.barren => Level::Zstd(level),
            level => level,
        };
        if let Level::Plain(_) = packed.level {
            self.strings.searched(packed.barren);
            self.plain += u32::from(!packed.barren && !packed.stored);
        }
        let raw = f64::from(packed.raw_bytes);
        let seconds = packed.worked.as_secs_f64();
        if seconds > 0.0 {
            let stretch = (packed.took.as_secs_f64() / seconds).clamp(1.0, STRETCH_MAX);
            self.stretch += NEWEST * (stretch - self.stretch);
        }
        let place = LEVELS.iter().position(|(known, ..)| *known == level);
        let Some(slot) = place.and_then(|place| self.known.get_mut(place)) else { return };
        if raw > 0.0 && seconds > 0.0 {
            let (rate, share) = (raw / seconds, f64::from(packed.wire_bytes) / raw);
            let blend = |old: f64, new: f64| old + NEWEST * (new - old);
            *slot = Some(match *slot {
                // A mean of times, not of rates: it is time that is spent.
                Some(known) => {
                    Known { rate: 1.0 / blend(1.0 / known.rate, 1.0 / rate), share: blend(known.share, share) }
                }
                None => Known { rate, share },
            });
        }
    }

    /// Takes notice of the transport's estimate of the path's rate, in bytes a second; 0 if it has none. It `grows` while the
    /// transport still finds more.
    pub fn path(&mut self, rate: f64, grows: bool) {
        (self.wire.path, self.wire.grows) = (rate, grows);
        if grows {
            (self.wire.bytes, self.wire.seconds, self.wire.since) = (0.0, 0.0, None);
        }
    }

    /// Whether packing waits for the wire.
    pub fn is_waiting(&self) -> bool {
        self.wire.waits
    }

    /// Takes notice whether packing waits for the wire.
    pub fn waits(&mut self, waits: bool) {
        self.wire.waits(waits);
    }

    /// Takes notice of an arrival.
    pub fn arrived(&mut self, now: Duration, bytes: u64) {
        self.wire.arrived(now, bytes);
    }

    /// What a chunk packed now will probably take on the wire.
    pub fn expected_bytes(&self) -> u64 {
        (self.estimate(self.chosen).share * CHUNK_BYTES as f64) as u64
    }

    /// Chooses for the next chunk, while so many bytes wait for the wire.
    pub fn choose(&mut self, backlog: u64) -> Level {
        let (place, why) = self.pick(backlog);
        (self.chosen, self.why) = (place, why);
        self.untried = if place == 0 { self.untried + 1 } else { 0 };
        self.strings.chosen(place >= PLAIN_FIRST);
        LEVELS.get(place).map_or(Level::Store, |(level, ..)| *level)
    }

    fn pick(&self, backlog: u64) -> (usize, Why) {
        if self.stored_in_a_row >= STORED_IN_A_ROW {
            let place = if self.untried >= self.stored_in_a_row.min(UNTRIED_MAX) { FIRST } else { 0 };
            return (place, Why::Incompressible);
        }
        let Some(wire) = self.wire.rate() else { return (FIRST, Why::First) };
        let whole = |place: usize| {
            let Known { rate, share } = self.estimate(place);
            (self.workers * rate / self.stretch).min(wire / share)
        };
        let mut best = (FIRST, whole(FIRST));
        let open = |place: &usize| *place < PLAIN_FIRST || self.is_plain_open(*place, wire);
        for place in (0..FIRST).rev().chain(FIRST + 1..LEVELS.len()).filter(open) {
            let preference = if place < FIRST { PREFERENCE_DOWN } else { PREFERENCE };
            if whole(place) > best.1 * preference {
                best = (place, whole(place));
            }
        }
        let busy_seconds = backlog as f64 / wire;
        let in_time =
            |place: &usize| CHUNK_BYTES as f64 * self.stretch / self.estimate(*place).rate <= SPENDABLE * busy_seconds;
        // One step beyond what was tried: how long it takes is only guessed.
        let tried = self.known.iter().rposition(Option::is_some).unwrap_or(FIRST);
        let shrinks_more = |place: &usize| self.estimate(*place).share < self.estimate(best.0).share;
        let higher = (best.0 + 1..LEVELS.len().min(tried + 2)).rev().filter(open);
        match higher.filter(shrinks_more).find(in_time) {
            Some(place) if self.shrinks() => (place, Why::Time { wire, busy_seconds }),
            _ => (best.0, Why::Throughput { wire }),
        }
    }

    /// Whether a plain form may be sent: only while one core of the target does as much as the wire brings, by what one here
    /// does. A target that had to be waited for would look like a slow wire, for which it would be sent even more work.
    fn is_plain_open(&self, place: usize, wire: f64) -> bool {
        self.strings.hoped_for() && wire / self.estimate(place).share <= self.estimate(PLAIN_FIRST).rate * TAKEN_FASTER
    }

    /// Whether the snapshot is one that packing helps.
    fn shrinks(&self) -> bool {
        self.stored_in_a_row == 0
    }

    /// What is known of a level, or would be by its proportion to the nearest one that was tried.
    fn estimate(&self, place: usize) -> Known {
        let usual = |place: usize| {
            LEVELS.get(place).map_or(Known { rate: 1.0, share: 1.0 }, |&(_, rate, share)| Known { rate, share })
        };
        if let Some(known) = self.known.get(place).copied().flatten() {
            return known;
        }
        let tried = self.known.iter().enumerate().skip(1).filter_map(|(at, known)| known.map(|known| (at, known)));
        let here = usual(place);
        let strange = |at: usize| (at < PLAIN_FIRST) != (place < PLAIN_FIRST);
        match tried.min_by_key(|(at, _)| (strange(*at), at.abs_diff(place))) {
            Some((at, known)) if place > 0 => {
                let there = usual(at);
                let rate = here.rate * known.rate / there.rate;
                let shrinks = (1.0 - here.share) * (1.0 - known.share) / (1.0 - there.share);
                // Strings that were packed shrink in their way, whatever the rest does.
                let share = if strange(at) { known.share * here.share / there.share } else { 1.0 - shrinks };
                Known { rate, share: share.clamp(0.01, 1.0) }
            }
            _ => here,
        }
    }

    /// What was done so far, and why the last level was chosen.
    pub fn facts(&self) -> PackingFacts {
        let packed = self.chunks - self.stored;
        let mean_level = (packed > 0).then(|| self.level_sum as f64 / f64::from(packed));
        let (stored, plain, chunks) = (self.stored, self.plain, self.chunks);
        PackingFacts { mean_level, stored, plain, chunks, limited: false, why: self.words() }
    }

    fn words(&self) -> String {
        let Known { rate, share } = self.estimate(self.chosen);
        let name = match LEVELS.get(self.chosen) {
            Some((Level::Zstd(level), ..)) => format!("level {level}"),
            Some((Level::Plain(level), ..)) => format!("level {level} with strings made plain"),
            _ => "no packing".to_owned(),
        };
        let megabytes = |rate: f64| rate / 1e6;
        let packs = format!("{name} packs {:.0} MB/s a core to {:.0} %", megabytes(rate), share * 100.0);
        let why = match self.why {
            Why::First => format!("{name}: nothing was measured yet"),
            Why::Throughput { wire } => format!("{packs}, and the wire takes {:.1} MB/s: most in all", megabytes(wire)),
            Why::Time { wire, busy_seconds } => format!(
                "{packs}, in the {:.0} ms for which the wire was busy at {:.1} MB/s",
                busy_seconds * 1e3,
                megabytes(wire)
            ),
            Why::Incompressible => "sent as it is: the last chunks did not shrink".to_owned(),
        };
        let barren = if self.strings.missing() { "; the server has packed no strings" } else { "" };
        format!("{why}{barren}")
    }
}
