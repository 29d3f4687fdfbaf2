//! What a simulated transfer is made of, and what befalls it when.

use std::time::Duration;

use baton_proto::chunk::CHUNK_BYTES;
use proptest::prelude::*;

use crate::transfer::dice::Dice;
use crate::transfer::material::Material;

const CHUNK: u64 = CHUNK_BYTES;

/// Something that befalls a transfer. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// One connection breaks; each side notices in its own time.
    CutLane(u8),
    /// All connections break.
    CutAll,
    /// Nothing gets through for a time. Connections live on if it is short.
    Outage {
        ms: u32,
    },
    /// The source takes questions and does not answer them for a time; its connections live.
    Mute {
        ms: u32,
    },
    /// The target's process ends, and is started again.
    KillTarget {
        ms: u32,
    },
    /// The target's machine loses what it has not synced.
    CutPower {
        ms: u32,
    },
    KillSource {
        ms: u32,
    },
    /// The next chunks come damaged.
    Damage {
        chunks: u8,
    },
    /// A question, and a chunk, come a second time.
    Duplicate(u8),
    /// The wire becomes so many times slower, or faster.
    Rate {
        percent: u16,
    },
}

/// A transfer to simulate.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) bytes: u64,
    pub(super) material: Material,
    /// Bytes a second that the save writes; none: the snapshot is there.
    pub(super) save: Option<f64>,
    /// Saves that fail before one does not, each after so many bytes.
    pub(super) failing_saves: Vec<u64>,
    /// Bytes a second.
    pub(super) wire: f64,
    pub(super) delay: Duration,
    /// Most by which a message is later than another: it may be overtaken.
    pub(super) jitter: Duration,
    pub(super) lanes: u8,
    pub(super) workers: usize,
    pub(super) room_bytes: u64,
    pub(super) mishaps: Vec<(Duration, Mishap)>,
}

impl Plan {
    /// Nothing goes wrong.
    pub(super) fn calm(seed: u64, bytes: u64) -> Plan {
        Plan {
            seed,
            bytes,
            material: Material::Mixed,
            save: None,
            failing_saves: Vec::new(),
            wire: 50e6,
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            lanes: 1,
            workers: 2,
            room_bytes: u64::MAX,
            mishaps: Vec::new(),
        }
    }

    /// Much goes wrong, during the time that a calm transfer takes and some more.
    pub(super) fn random(seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        let sizes = [1, 17, 18, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 7, 12 * CHUNK, 13 * CHUNK + 1];
        let large = [30 * CHUNK, 60 * CHUNK + 3, 120 * CHUNK];
        let bytes = if dice.once_in(3) { dice.pick(&large) } else { dice.pick(&sizes) };
        let save = (!dice.once_in(3)).then(|| dice.pick(&[2e6, 20e6, 80e6, 500e6]));
        let wire = dice.pick(&[1e6, 5e6, 25e6, 117e6, 1e9]);
        let mut plan = Plan {
            material: dice.pick(&[Material::Mixed, Material::Json, Material::Noise]),
            save,
            wire,
            delay: dice.time(Duration::from_millis(80)),
            jitter: if dice.once_in(2) { Duration::ZERO } else { dice.time(Duration::from_millis(400)) },
            lanes: dice.pick(&[1, 1, 2, 4]),
            workers: dice.pick(&[1, 2, 4]),
            ..Plan::calm(seed, bytes)
        };
        if save.is_some() && dice.once_in(4) {
            plan.failing_saves = (0..=dice.below(2)).map(|_| dice.below(bytes)).collect();
        }
        let calm = bytes as f64 / wire + save.map_or(0.0, |rate| bytes as f64 / rate);
        let span = Duration::from_secs_f64(calm * 1.5 + 2.0);
        let mishaps = dice.below(10);
        plan.mishaps = (0..mishaps).map(|_| (dice.time(span), Mishap::random(&mut dice))).collect();
        plan
    }

    /// Whether the snapshot is one that a server can have written: magic, end mark and checksum.
    pub(super) fn is_snapshot(&self) -> bool {
        self.bytes >= baton_proto::rdb::RDB_BYTES_MIN
    }
}

impl Mishap {
    fn random(dice: &mut Dice) -> Mishap {
        let ms = dice.pick(&[1, 50, 400, 3000, 20_000]);
        match dice.below(20) {
            0..4 => Mishap::CutLane(dice.throw() as u8),
            4..6 => Mishap::CutAll,
            6..8 => Mishap::Outage { ms },
            8 => Mishap::Mute { ms: ms * 20 },
            9..11 => Mishap::KillTarget { ms },
            11..13 => Mishap::CutPower { ms },
            13 => Mishap::KillSource { ms },
            14..16 => Mishap::Damage { chunks: dice.below(4) as u8 },
            16..18 => Mishap::Duplicate(dice.throw() as u8),
            _ => Mishap::Rate { percent: dice.pick(&[10, 50, 200, 1000]) },
        }
    }
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        any::<u8>().prop_map(Mishap::CutLane),
        Just(Mishap::CutAll),
        (1u32..30_000).prop_map(|ms| Mishap::Outage { ms }),
        (1u32..400_000).prop_map(|ms| Mishap::Mute { ms }),
        (1u32..30_000).prop_map(|ms| Mishap::KillTarget { ms }),
        (1u32..30_000).prop_map(|ms| Mishap::CutPower { ms }),
        (1u32..30_000).prop_map(|ms| Mishap::KillSource { ms }),
        (0u8..4).prop_map(|chunks| Mishap::Damage { chunks }),
        any::<u8>().prop_map(Mishap::Duplicate),
        (5u16..2000).prop_map(|percent| Mishap::Rate { percent }),
    ]
}

/// Any sequence of mishaps, which shrinks to the few that matter.
pub(super) fn mishaps() -> impl Strategy<Value = Vec<(Duration, Mishap)>> {
    proptest::collection::vec(((0u64..60_000).prop_map(Duration::from_millis), mishap()), 0..12)
}
