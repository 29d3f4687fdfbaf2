//! What chunks do when they are packed: how long each level takes on one core, and what remains. Measured once on real
//! snapshots, and rounded; the engine's own table is not looked at.

use std::time::Duration;

use baton_proto::chunk::CHUNK_BYTES;

use crate::transfer::dice::Dice;
use crate::transfer::sender::levels::{Level, Packed};

/// A snapshot's kind, on cores of some speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Material {
    /// A third of it does not shrink, and most strings are packed.
    Mixed = 0,
    /// Text that repeats itself, saved with `rdbcompression no`: there are no packed strings in it.
    Json,
    /// Nothing shrinks.
    Noise,
}

/// Every level, with MB/s and remaining share of each kind. Noise is given up by zstd soon, or after a probe.
const TABLE: [(Level, [(f64, f64); 3]); 15] = [
    (Level::Store, [(2000.0, 1.0), (2000.0, 1.0), (2000.0, 1.0)]),
    (Level::Zstd(-5), [(620.0, 0.63), (900.0, 0.30), (1500.0, 1.0)]),
    (Level::Zstd(-1), [(430.0, 0.57), (700.0, 0.22), (1400.0, 1.0)]),
    (Level::Zstd(1), [(350.0, 0.50), (560.0, 0.17), (900.0, 1.0)]),
    (Level::Zstd(2), [(300.0, 0.48), (500.0, 0.16), (800.0, 1.0)]),
    (Level::Zstd(3), [(210.0, 0.46), (330.0, 0.145), (500.0, 1.0)]),
    (Level::Zstd(4), [(160.0, 0.455), (270.0, 0.142), (1300.0, 1.0)]),
    (Level::Zstd(6), [(80.0, 0.44), (130.0, 0.125), (1300.0, 1.0)]),
    (Level::Zstd(7), [(58.0, 0.435), (105.0, 0.122), (1300.0, 1.0)]),
    (Level::Zstd(9), [(40.0, 0.43), (75.0, 0.12), (1300.0, 1.0)]),
    (Level::Plain(1), [(130.0, 0.43), (540.0, 0.17), (800.0, 1.0)]),
    (Level::Plain(2), [(110.0, 0.41), (480.0, 0.16), (700.0, 1.0)]),
    (Level::Plain(3), [(90.0, 0.39), (320.0, 0.145), (450.0, 1.0)]),
    (Level::Plain(6), [(46.0, 0.38), (128.0, 0.125), (1000.0, 1.0)]),
    (Level::Plain(9), [(28.0, 0.37), (74.0, 0.12), (1000.0, 1.0)]),
];

pub(super) fn levels() -> impl Iterator<Item = Level> {
    TABLE.iter().map(|(level, _)| *level)
}

impl Material {
    /// Packs a chunk on a core of this speed. Chunks differ a little from each other.
    pub(super) fn pack(self, level: Level, core: f64, dice: &mut Dice) -> Packed {
        let (_, kinds) = TABLE.iter().find(|(known, _)| *known == level).expect("a level of the table");
        let (rate, share) = kinds[self as usize];
        let seconds = CHUNK_BYTES as f64 / (rate * 1e6 * core) * (0.9 + 0.2 * dice.share());
        let stored = share == 1.0;
        let wire = if stored { 1.0 } else { share * (0.95 + 0.1 * dice.share()) };
        Packed {
            level,
            stored,
            barren: matches!(level, Level::Plain(_)) && self != Material::Mixed,
            raw_bytes: CHUNK_BYTES as u32,
            wire_bytes: (CHUNK_BYTES as f64 * wire) as u32,
            took: Duration::from_secs_f64(seconds),
            worked: Duration::from_secs_f64(seconds),
        }
    }
}
