//! The world around a [`Receiver`]: it does what the engine says, or fails at it. A crash restarts the engine from what
//! the disk holds, as a new pull does; a power cut takes the chunks that were not synced, and leaves their records.

use std::collections::{BTreeMap, BTreeSet};

use super::acts::Act;
use super::*;

/// What an observer sees, without a look into the engine.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Fetch(ChunkIndex),
    /// It came whole, or it did not.
    Came(ChunkIndex, bool),
    Checked(ChunkIndex, bool),
    SyncBegan,
    Synced,
    Kill,
    PowerCut,
    Done(FileDigest),
    Failed(Fault),
}

/// What the engine has asked for and was not answered yet.
#[derive(Default)]
struct Pending {
    connect: bool,
    prepare: bool,
    /// The link, and what there was when it was asked.
    extent: Option<(LinkNumber, Extent)>,
    fetches: Vec<(ChunkIndex, LinkNumber)>,
    checks: Vec<(ChunkIndex, ChunkDigest)>,
    /// What a sync that was begun will have synced.
    sync: Option<BTreeMap<ChunkIndex, ChunkDigest>>,
    seal: Option<LinkNumber>,
    finish: bool,
}

/// A source, a line and a disk.
pub(super) struct World {
    seed: u64,
    truth: Vec<ChunkSums>,
    digest: FileDigest,
    bytes: u64,
    extent: Extent,
    engine: Receiver,
    now: Duration,
    events: Vec<Event>,
    pending: Pending,
    link: LinkNumber,
    over: bool,
    /// The part file: what is on the platter, and what is to be read.
    synced: BTreeMap<ChunkIndex, ChunkDigest>,
    part: BTreeMap<ChunkIndex, ChunkDigest>,
    map: Held,
}

/// Most steps of a calm end: far more than a transfer of these sizes takes.
const STEPS_MAX: usize = 20_000;

impl World {
    pub(super) fn new(bytes: u64, seed: u64) -> World {
        let count = bytes.div_ceil(CHUNK) as u32;
        let digest = |index: u32| ChunkDigest(*blake3::hash(&index.to_le_bytes()).as_bytes());
        let crc = Checksum::of(&[0; 18]);
        let digests: Vec<_> = (0..count).map(digest).collect();
        let mut world = World {
            seed,
            digest: file_digest(&digests),
            truth: digests.into_iter().map(|digest| ChunkSums { digest, crc }).collect(),
            bytes,
            extent: if seed.is_multiple_of(2) { whole(bytes) } else { growing(0) },
            engine: Receiver::default(),
            now: NOW,
            events: Vec::new(),
            pending: Pending::default(),
            link: 0,
            over: false,
            synced: BTreeMap::new(),
            part: BTreeMap::new(),
            map: Held::new(),
        };
        world.drain();
        world
    }

    /// Obeys the law: polls until `Wait`.
    fn drain(&mut self) {
        let (outputs, _) = outputs(&mut self.engine, self.now);
        let pending = &mut self.pending;
        for output in outputs {
            match output {
                Output::Connect { link, .. } => {
                    assert!(!pending.connect, "dialled twice");
                    (pending.connect, self.link) = (true, link);
                }
                Output::Prepare { manifest: found, extent } => {
                    assert!(!pending.prepare && found == manifest() && extent.bytes <= self.extent.bytes);
                    pending.prepare = true;
                }
                Output::Extent { link, seen } => {
                    assert!(pending.extent.is_none() && seen <= self.extent.bytes, "asked twice, or ahead");
                    pending.extent = Some((link, self.extent));
                }
                Output::Fetch { index, link, chunking } => {
                    assert!(chunking.span(index).is_ok(), "a chunk that cannot be had");
                    self.events.push(Event::Fetch(index));
                    pending.fetches.push((index, link));
                }
                Output::Check { index, digest, .. } => {
                    pending.checks.push((index, digest));
                    assert!(pending.checks.len() <= CHECKING_MAX, "too many checks at a time");
                }
                Output::Sync => {
                    assert!(pending.sync.is_none(), "two syncs at a time");
                    pending.sync = Some(self.part.clone());
                    self.events.push(Event::SyncBegan);
                }
                Output::Seal { link } => pending.seal = Some(link),
                Output::Finish { bytes } => {
                    assert_eq!(bytes, self.bytes);
                    pending.finish = true;
                }
                Output::Done(received) => {
                    self.events.push(Event::Done(received.digest));
                    self.over = true;
                }
                Output::Fail(fault) => {
                    self.events.push(Event::Failed(fault));
                    self.over = true;
                }
                Output::Wait { .. } => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.events.last(), Some(Event::Done(_)))
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            _ if self.is_done() => {}
            Act::PowerCut => {
                self.part.clone_from(&self.synced);
                self.restart(Event::PowerCut);
            }
            // A failed pull is begun anew by whoever ordered it.
            _ if self.over => self.restart(Event::Kill),
            Act::Kill => self.restart(Event::Kill),
            Act::Grow(steps) => {
                let bytes = (self.extent.bytes + u64::from(steps) * CHUNK / 16).min(self.bytes);
                let whole = self.extent.whole || (bytes == self.bytes && steps.is_multiple_of(2));
                self.extent = Extent { bytes, whole };
            }
            Act::Pass(steps) => {
                self.now += Duration::from_millis(u64::from(steps) * 20);
                self.engine.handle_tick(self.now);
            }
            Act::Arrive(pick) => self.arrive(pick, true),
            Act::Damage(pick) => self.arrive(pick, false),
            Act::BreakLink(pick) => self.break_link(pick),
            act => self.answer(act),
        }
        self.drain();
    }

    /// Answers one of the questions that are asked one at a time.
    fn answer(&mut self, act: Act) {
        let digest = self.digest;
        let (engine, pending) = (&mut self.engine, &mut self.pending);
        match act {
            Act::Connect if std::mem::take(&mut pending.connect) => {
                engine.handle_connected(self.now, manifest(), self.extent).unwrap();
            }
            Act::FailConnect if std::mem::take(&mut pending.connect) => engine.handle_connect_failed(lost()).unwrap(),
            Act::Prepare if std::mem::take(&mut pending.prepare) => {
                engine.handle_prepared(self.map.clone(), SNAPSHOT_BYTES_MAX).unwrap();
            }
            Act::Extent => match pending.extent.take() {
                Some((link, _)) if link == self.link => engine.handle_extent(link, self.extent).unwrap(),
                // It was under way when its link was given up.
                Some((link, old)) => engine.handle_extent(link, old).unwrap(),
                None => {}
            },
            Act::Check(pick) if !pending.checks.is_empty() => {
                let (index, digest) = pending.checks.swap_remove(usize::from(pick) % pending.checks.len());
                let good = self.part.get(&index) == Some(&digest);
                self.events.push(Event::Checked(index, good));
                let crc = good.then(|| self.truth[index.0 as usize].crc);
                engine.handle_checked(index, crc).unwrap();
            }
            Act::Sync => {
                if let Some(begun) = pending.sync.take() {
                    self.synced = begun;
                    self.events.push(Event::Synced);
                    engine.handle_synced().unwrap();
                }
            }
            Act::Seal => match pending.seal.take() {
                Some(link) if link == self.link => engine.handle_sealed(digest, packing()).unwrap(),
                Some(link) => engine.handle_seal_failed(link, lost()).unwrap(),
                None => {}
            },
            Act::Finish if std::mem::take(&mut pending.finish) => {
                self.synced.clone_from(&self.part);
                engine.handle_finished(&TAIL).unwrap();
            }
            _ => {}
        }
    }

    fn arrive(&mut self, pick: u8, good: bool) {
        if self.pending.fetches.is_empty() {
            return;
        }
        let pick = usize::from(pick) % self.pending.fetches.len();
        let (index, link) = self.pending.fetches.swap_remove(pick);
        self.events.push(Event::Came(index, good));
        if good {
            let sums = self.truth[index.0 as usize];
            self.part.insert(index, sums.digest);
            self.map.insert(index, sums.digest);
            self.engine.handle_written(self.now, index, sums).unwrap();
        } else {
            let fault = Fault::new(FaultKind::Verification, "damaged");
            self.engine.handle_chunk_failed(index, link, Trouble::Damage(fault)).unwrap();
        }
    }

    /// What is on its way is lost, each chunk with its own news. Some of it comes late, when there is another link already.
    fn break_link(&mut self, pick: u8) {
        let late = usize::from(pick) % (self.pending.fetches.len() + 1);
        for (index, link) in self.pending.fetches.split_off(late) {
            self.events.push(Event::Came(index, false));
            self.engine.handle_chunk_failed(index, link, lost()).unwrap();
        }
        if let Some(link) = self.pending.seal.take() {
            self.engine.handle_seal_failed(link, lost()).unwrap();
        }
        if let Some((link, _)) = self.pending.extent.take_if(|_| pick.is_multiple_of(2)) {
            self.engine.handle_extent_failed(link, lost()).unwrap();
        }
    }

    fn restart(&mut self, event: Event) {
        self.events.push(event);
        (self.engine, self.pending) = (Receiver::default(), Pending::default());
        (self.over, self.now) = (false, NOW);
    }

    /// Spoils every other chunk on the platter.
    pub(super) fn rot_on_disk(&mut self) {
        for (_, digest) in self.synced.iter_mut().step_by(2) {
            digest.0[0] ^= 1;
        }
        self.act(Act::PowerCut);
    }

    /// Lets everything that is pending succeed until the engine is through, and judges all that was seen.
    pub(super) fn finish_calmly(&mut self) {
        use Act::*;
        for _ in 0..STEPS_MAX {
            if self.is_done() {
                return self.judge();
            }
            for act in [Connect, Prepare, Grow(254), Extent, Arrive(0), Check(0), Pass(1), Sync, Seal, Finish] {
                self.act(act);
            }
        }
        panic!("seed {}: never done; {:?}", self.seed, self.events.last());
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
        let (mut here, mut begun, mut synced) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        // What this attempt has brought.
        let (mut in_flight, mut brought) = (BTreeSet::new(), BTreeSet::new());
        for event in &self.events {
            match event {
                Event::Fetch(index) => {
                    assert!(!here.contains(index), "seed {seed}: {index:?} is here and fetched again");
                    assert!(in_flight.insert(*index), "seed {seed}: {index:?} is fetched twice at a time");
                    assert!(in_flight.len() <= WINDOW_CHUNKS, "seed {seed}: more in flight than the window");
                }
                Event::Came(index, good) => {
                    assert!(in_flight.remove(index));
                    here.extend(good.then_some(*index));
                    brought.extend(good.then_some(*index));
                }
                Event::Checked(index, good) if !good => drop(here.remove(index)),
                Event::Checked(index, _) => assert!(here.contains(index), "seed {seed}: {index:?} came from nowhere"),
                Event::SyncBegan => begun.clone_from(&here),
                Event::Synced => synced.clone_from(&begun),
                Event::Kill => {
                    in_flight.clear();
                    brought.clear();
                }
                Event::PowerCut => {
                    in_flight.clear();
                    brought.clear();
                    here.clone_from(&synced);
                }
                Event::Done(digest) => {
                    assert_eq!(*digest, self.digest, "seed {seed}");
                    let truth = self.truth.iter().map(|sums| &sums.digest);
                    assert!(self.synced.values().eq(truth), "seed {seed}: done with another file, or before a sync");
                }
                Event::Failed(fault) => {
                    assert!(brought.is_subset(&synced), "seed {seed}: failed before what had come was synced: {fault}");
                    let named = matches!(fault.kind, FaultKind::Peer | FaultKind::Verification);
                    assert!(named, "seed {seed}: {fault:?}");
                }
            }
        }
    }
}
