//! The world around a [`Receiver`]: it does what the engine says, or fails at it, and loses what was not synced when it
//! crashes. A crash restarts the engine from what the map holds, as a new pull does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::transfer::Whole;
use baton_proto::chunk::{ChunkIndex, Chunking};
use baton_proto::data::SnapshotId;
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::{Fault, FaultKind};
use proptest::prelude::*;

use super::super::*;

pub(super) fn manifest(bytes: u64) -> Whole {
    Whole { snapshot: SnapshotId("fo-1/0".into()), bytes, format: "REDIS0010".parse().unwrap() }
}

/// SplitMix64: enough to choose events by.
pub(super) struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Something that befalls the transfer. The number picks among what is pending.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Connect,
    FailConnect,
    Prepare,
    Arrive(u8),
    Damage(u8),
    BreakLink(u8),
    Sync,
    Seal,
    Verify,
    Pass(u8),
    Crash,
}

impl Act {
    /// Arrivals are common, breaks are rare, crashes rarer.
    pub(super) fn random(rng: &mut Rng) -> Act {
        let pick = (rng.next() >> 8) as u8;
        match rng.next() % 100 {
            0..60 => Act::Arrive(pick),
            60..63 => Act::Damage(pick),
            63..66 => Act::BreakLink(pick),
            66..76 => Act::Connect,
            76..78 => Act::FailConnect,
            78..82 => Act::Prepare,
            82..88 => Act::Sync,
            88..92 => Act::Pass(pick),
            92..95 => Act::Seal,
            95..98 => Act::Verify,
            _ => Act::Crash,
        }
    }

    pub(super) fn any() -> impl Strategy<Value = Act> {
        prop_oneof![
            10 => any::<u8>().prop_map(Act::Arrive),
            1 => any::<u8>().prop_map(Act::Damage),
            4 => Just(Act::Connect),
            1 => Just(Act::FailConnect),
            1 => any::<u8>().prop_map(Act::BreakLink),
            3 => Just(Act::Prepare),
            3 => Just(Act::Sync),
            2 => Just(Act::Seal),
            2 => Just(Act::Verify),
            2 => any::<u8>().prop_map(Act::Pass),
            1 => Just(Act::Crash),
        ]
    }
}

/// What an observer sees, without a look into the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Fetch(ChunkIndex),
    /// It came whole, or it did not.
    Came(ChunkIndex, bool),
    SyncAsked(Vec<ChunkIndex>),
    Recorded(Vec<ChunkIndex>),
    FoundBad(Vec<ChunkIndex>),
    Crash,
    Done(FileDigest),
    Failed(String),
}

/// A source, a line and a disk.
pub(super) struct World {
    truth: Vec<ChunkDigest>,
    manifest: Whole,
    engine: Receiver,
    now: Duration,
    events: Vec<Event>,
    /// What the engine has asked for and was not answered yet.
    connect: bool,
    prepare: bool,
    fetches: Vec<(ChunkIndex, LinkNumber)>,
    sync: Option<Vec<(ChunkIndex, ChunkDigest)>>,
    seal: Option<LinkNumber>,
    verify: Option<Vec<ChunkDigest>>,
    link: LinkNumber,
    over: bool,
    /// The part file: what is on the platter, and what is only in the cache.
    synced: BTreeMap<ChunkIndex, ChunkDigest>,
    cached: BTreeMap<ChunkIndex, ChunkDigest>,
    map: BTreeMap<ChunkIndex, ChunkDigest>,
    seed: u64,
}

/// Most steps of a calm end: far more than a transfer of these sizes takes.
const STEPS_MAX: usize = 20_000;

impl World {
    pub(super) fn new(bytes: u64, seed: u64) -> World {
        let count = Chunking::new(bytes).unwrap().count();
        let truth = (0..count).map(|index| ChunkDigest(*blake3::hash(&index.to_le_bytes()).as_bytes())).collect();
        let mut world = World {
            truth,
            manifest: manifest(bytes),
            engine: Receiver::default(),
            now: Duration::ZERO,
            events: Vec::new(),
            connect: false,
            prepare: false,
            fetches: Vec::new(),
            sync: None,
            seal: None,
            verify: None,
            link: 0,
            over: false,
            synced: BTreeMap::new(),
            cached: BTreeMap::new(),
            map: BTreeMap::new(),
            seed,
        };
        world.drain();
        world
    }

    /// Obeys the law: polls until `Wait`.
    fn drain(&mut self) {
        for _ in 0..STEPS_MAX {
            match self.engine.poll_output(self.now) {
                Output::Connect { link, .. } => {
                    assert!(!self.connect, "dialled twice");
                    self.connect = true;
                    self.link = link;
                }
                Output::Prepare(manifest) => {
                    assert_eq!(manifest, self.manifest);
                    self.prepare = true;
                }
                Output::Fetch { index, link } => {
                    self.events.push(Event::Fetch(index));
                    self.fetches.push((index, link));
                }
                Output::Sync(batch) => {
                    assert!(self.sync.is_none(), "two syncs at a time");
                    self.events.push(Event::SyncAsked(batch.iter().map(|(index, _)| *index).collect()));
                    self.sync = Some(batch);
                }
                Output::Seal { link } => self.seal = Some(link),
                Output::Verify(digests) => self.verify = Some(digests),
                Output::Done(digest) => {
                    self.events.push(Event::Done(digest));
                    self.over = true;
                }
                Output::Fail(fault) => {
                    self.events.push(Event::Failed(fault.to_string()));
                    self.over = true;
                }
                Output::Wait { .. } => return,
            }
        }
        panic!("seed {}: the engine never waits", self.seed);
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Crash => self.restart(),
            // A failed pull is begun anew by whoever ordered it.
            _ if self.over && self.events.iter().any(|event| matches!(event, Event::Done(_))) => return,
            _ if self.over => self.restart(),
            Act::Connect if self.connect => {
                self.connect = false;
                self.engine.handle_connected(self.now, self.manifest.clone()).unwrap();
            }
            Act::FailConnect if self.connect => {
                self.connect = false;
                self.engine.handle_connect_failed(lost()).unwrap();
            }
            Act::Prepare if self.prepare => {
                self.prepare = false;
                let held = (0..self.truth.len()).map(|index| self.map.get(&ChunkIndex(index as u32)).copied());
                self.engine.handle_prepared(&held.collect()).unwrap();
            }
            Act::Arrive(pick) => self.arrive(pick, true),
            Act::Damage(pick) => self.arrive(pick, false),
            Act::BreakLink(pick) => self.break_link(pick),
            Act::Sync => self.sync(),
            Act::Seal => {
                if let Some(link) = self.seal.take() {
                    if link == self.link {
                        self.engine.handle_sealed(file_digest(&self.truth)).unwrap();
                    } else {
                        self.engine.handle_seal_failed(link, lost()).unwrap();
                    }
                }
            }
            Act::Verify => self.verify(),
            Act::Pass(steps) => {
                self.now += Duration::from_millis(u64::from(steps) * 20);
                self.engine.handle_tick(self.now);
            }
            Act::Connect | Act::FailConnect | Act::Prepare => {}
        }
        self.drain();
    }

    fn arrive(&mut self, pick: u8, whole: bool) {
        if self.fetches.is_empty() {
            return;
        }
        let (index, link) = self.fetches.swap_remove(usize::from(pick) % self.fetches.len());
        self.events.push(Event::Came(index, whole));
        if whole {
            let digest = self.truth[index.0 as usize];
            self.cached.insert(index, digest);
            self.engine.handle_written(self.now, index, digest).unwrap();
        } else {
            let fault = Fault::new(FaultKind::Verification, "damaged");
            self.engine.handle_chunk_failed(index, link, Trouble::Damage(fault)).unwrap();
        }
    }

    /// What is on its way is lost, each chunk with its own news. Some of it comes late, when there is another link
    /// already; and some chunks had come a moment before the break.
    fn break_link(&mut self, pick: u8) {
        let late = usize::from(pick) % (self.fetches.len() + 1);
        for (index, link) in self.fetches.split_off(late) {
            self.events.push(Event::Came(index, false));
            self.engine.handle_chunk_failed(index, link, lost()).unwrap();
        }
        if let Some(link) = self.seal.take() {
            self.engine.handle_seal_failed(link, lost()).unwrap();
        }
    }

    fn sync(&mut self) {
        if let Some(batch) = self.sync.take() {
            self.synced.append(&mut self.cached);
            self.map.extend(batch.iter().copied());
            self.events.push(Event::Recorded(batch.iter().map(|(index, _)| *index).collect()));
            self.engine.handle_synced().unwrap();
        }
    }

    fn verify(&mut self) {
        let Some(digests) = self.verify.take() else { return };
        let file: Vec<_> = (0..self.truth.len() as u32)
            .map(|index| {
                let index = ChunkIndex(index);
                *self.cached.get(&index).or(self.synced.get(&index)).unwrap_or(&ChunkDigest([0; 32]))
            })
            .collect();
        let bad: Vec<_> = (0..).zip(file.iter().zip(&digests)).filter(|(_, (a, b))| a != b).collect();
        let bad: Vec<_> = bad.into_iter().map(|(index, _)| ChunkIndex(index)).collect();
        self.events.push(Event::FoundBad(bad.clone()));
        self.engine.handle_verified(Verdict { bad, digest: file_digest(&file), rdb: Ok(()) }).unwrap();
    }

    /// The machine dies, or a failed pull is begun anew: what was not synced is gone.
    fn restart(&mut self) {
        self.events.push(Event::Crash);
        self.cached.clear();
        self.engine = Receiver::default();
        self.connect = false;
        self.prepare = false;
        self.fetches.clear();
        self.sync = None;
        self.seal = None;
        self.verify = None;
        self.over = false;
        self.now = Duration::ZERO;
    }

    /// Spoils every other chunk on the platter.
    pub(super) fn rot_on_disk(&mut self) {
        for (_, digest) in self.synced.iter_mut().step_by(2) {
            digest.0[0] ^= 1;
        }
    }

    /// Lets everything that is pending succeed until the engine is through.
    pub(super) fn finish_calmly(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.events.iter().any(|event| matches!(event, Event::Done(_))) {
                return self.judge();
            }
            if self.over {
                self.act(Act::Crash);
            }
            for act in [Act::Connect, Act::Prepare, Act::Arrive(0), Act::Pass(1), Act::Sync, Act::Seal, Act::Verify] {
                self.act(act);
            }
        }
        panic!("seed {}: never done; {:?}", self.seed, self.engine);
    }

    pub(super) fn expect_done(&self) {
        let done = self.events.iter().any(|event| *event == Event::Done(file_digest(&self.truth)));
        assert!(done, "seed {}: {:?}", self.seed, self.events.last());
    }

    pub(super) fn fetches(&self) -> u64 {
        self.events.iter().filter(|event| matches!(event, Event::Fetch(_))).count() as u64
    }

    pub(super) fn log(&self) -> Vec<Event> {
        self.events.clone()
    }

    /// Judges the log by the promises alone.
    fn judge(&self) {
        let seed = self.seed;
        let mut recorded = BTreeSet::new();
        let mut came = BTreeSet::new();
        let mut in_flight = BTreeSet::new();
        for event in &self.events {
            match event {
                Event::Fetch(index) => {
                    assert!(!recorded.contains(index), "seed {seed}: {index:?} is held and fetched again");
                    assert!(!came.contains(index), "seed {seed}: {index:?} is written and fetched again");
                    assert!(in_flight.insert(*index), "seed {seed}: {index:?} is fetched twice at a time");
                    assert!(in_flight.len() <= WINDOW_CHUNKS, "seed {seed}: more in flight than the window");
                }
                Event::Came(index, whole) => {
                    assert!(in_flight.remove(index));
                    if *whole {
                        came.insert(*index);
                    }
                }
                Event::SyncAsked(batch) => {
                    assert!(batch.iter().all(|index| came.contains(index)), "seed {seed}: synced before it came");
                }
                Event::Recorded(batch) => recorded.extend(batch.iter().copied()),
                Event::FoundBad(bad) => {
                    for index in bad {
                        recorded.remove(index);
                        came.remove(index);
                    }
                }
                Event::Crash => {
                    in_flight.clear();
                    came.clone_from(&recorded);
                }
                Event::Done(digest) => {
                    assert_eq!(*digest, file_digest(&self.truth), "seed {seed}");
                    assert_eq!(recorded.len(), self.truth.len(), "seed {seed}: done before all was recorded");
                    assert!(self.synced.values().eq(self.truth.iter()), "seed {seed}: done with another file");
                }
                Event::Failed(_) => {}
            }
        }
    }
}

fn lost() -> Trouble {
    Trouble::Link(Fault::new(FaultKind::Peer, "the connection to the agent was lost"))
}
