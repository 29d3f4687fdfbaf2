//! Both hosts, the path between them and the operator, as one queue of events in virtual time.

mod operator;
mod source_side;
mod target_side;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use baton_proto::chunk::ChunkIndex;
use baton_proto::data::Extent;
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::rdb::Checksum;
use baton_proto::{Fault, FaultKind};

use super::disk::Disk;
use super::judge::Judge;
use super::network::{Conn, Network};
use super::plan::{Mishap, Plan};
use super::source::{Offer, Save};
use super::target::Process;
use crate::transfer::dice::Dice;
use crate::transfer::sender::Job;
use crate::transfer::sender::levels::Packed;

/// Most events, and the longest time, of a simulation: far more than the largest one takes.
const EVENTS_MAX: u64 = 2_000_000;
const TIME_MAX: Duration = Duration::from_secs(100_000);
/// Most attempts of the operator.
const ATTEMPTS_MAX: u32 = 300;

/// Counts the lives of a process: events of an earlier one concern nobody.
type Life = u32;

#[derive(Debug, Clone)]
enum Event {
    Mishap(usize),
    // At the operator.
    Offer,
    Pull,
    // At the source.
    Open(u64),
    Ask(Conn, ChunkIndex),
    AskExtent { session: u64, seen: u64 },
    TellExtent { life: Life, session: u64 },
    AskSeal(u64),
    Packed { life: Life, job: Job, facts: Packed },
    Delivered { life: Life, number: u64 },
    Ended { life: Life, conn: Conn },
    // At the target.
    Opened { life: Life, session: u64, answer: Result<(u32, Extent), Fault> },
    Lost { life: Life, conn: Conn },
    LostChunk { life: Life, index: ChunkIndex, conn: Conn },
    Came { life: Life, conn: Conn, index: ChunkIndex, save: u32, damaged: bool },
    Written { life: Life, index: ChunkIndex, save: u32, damaged: bool },
    Prepared { life: Life, save: u32 },
    Checked { life: Life, index: ChunkIndex },
    Synced(Life),
    Heard { life: Life, session: u64, extent: Extent },
    Grown { life: Life, session: u64, answer: Result<Extent, Fault> },
    Sealed { life: Life, session: u64, answer: Result<FileDigest, Fault> },
    Finished(Life),
    Tick(Life),
}

/// How a simulation has ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) took: Duration,
    pub(super) is_done: bool,
    pub(super) fetches: u64,
    pub(super) resumed: u32,
    pub(super) faults: Vec<String>,
    pub(super) saved_at: Duration,
    pub(super) sent_bytes: u64,
}

pub(super) struct World {
    plan: Plan,
    dice: Dice,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    /// The events in the queue, by number.
    events: std::collections::HashMap<u64, Event>,
    number: u64,
    network: Network,
    save: Save,
    source_life: Life,
    source_up: bool,
    mute_until: Duration,
    offer: Option<Offer>,
    damage: u8,
    sent_bytes: u64,
    target_life: Life,
    target: Option<Process>,
    disk: Disk,
    sessions: u64,
    attempts: u32,
    judge: Judge,
    outcome: Option<Outcome>,
}

/// The digest that a chunk of a save has. `only`: the file is this one chunk.
fn digest(save: u32, index: ChunkIndex, only: bool) -> ChunkDigest {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&index.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&save.to_le_bytes());
    bytes[8] = only.into();
    ChunkDigest(bytes)
}

/// A checksum that stands in for a chunk's: as good as any for a file that has none at its end.
fn checksum(bytes: u32) -> Checksum {
    Checksum::of(&[0xa5; 18][..bytes.min(18) as usize])
}

impl World {
    pub(super) fn new(plan: Plan) -> World {
        let mut world = World {
            dice: Dice::new(plan.seed ^ 0xda7a),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            number: 0,
            network: Network::new(&plan),
            save: Save::begin(&plan, 0, Duration::ZERO),
            source_life: 1,
            source_up: true,
            mute_until: Duration::ZERO,
            offer: None,
            damage: 0,
            sent_bytes: 0,
            target_life: 1,
            target: None,
            disk: Disk::default(),
            sessions: 0,
            attempts: 0,
            judge: Judge::default(),
            outcome: None,
            plan,
        };
        for (number, (at, _)) in world.plan.mishaps.clone().into_iter().enumerate() {
            world.at(at, Event::Mishap(number));
        }
        world.at(Duration::ZERO, Event::Offer);
        world.at(Duration::ZERO, Event::Pull);
        world
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at.max(self.now), self.number)));
        self.events.insert(self.number, event);
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    /// A short while, up to so many milliseconds.
    fn while_ms(&mut self, most: u64) -> Duration {
        self.dice.time(Duration::from_millis(most))
    }

    /// Simulates until the snapshot is there, or known to be none.
    pub(super) fn run(mut self) -> Outcome {
        for _ in 0..EVENTS_MAX {
            let Some(Reverse((now, number))) = self.queue.pop() else { break };
            assert!(now < TIME_MAX, "it never ends; {:?}", self.judge.faults);
            self.now = now;
            let event = self.events.remove(&number).expect("each event is there once");
            self.handle(event);
            if let Some(outcome) = self.outcome {
                return outcome;
            }
        }
        panic!("nothing happens any more, or too much: {:?}, {:?}", self.judge.faults, self.target);
    }

    fn handle(&mut self, event: Event) {
        let (source, target) = (self.source_life, self.target_life);
        match event {
            Event::Mishap(number) => self.befall(self.plan.mishaps[number].1),
            Event::Offer => self.offer(),
            Event::Pull => self.pull(),
            Event::Open(session) => self.open(session),
            Event::Ask(conn, index) => self.ask(conn, index),
            Event::AskExtent { session, seen } => self.ask_extent(session, seen),
            Event::TellExtent { life, session } if life == source => self.tell_extent(session),
            Event::AskSeal(session) => self.ask_seal(session),
            Event::Packed { life, job, facts } if life == source => self.packed(job, facts),
            Event::Delivered { life, number } if life == source => self.delivered(number),
            Event::Ended { life, conn } if life == source => self.ended(conn),
            Event::Opened { life, session, answer } if life == target => self.opened(session, answer),
            Event::Lost { life, conn } if life == target => self.lost(conn),
            Event::LostChunk { life, index, conn } if life == target => self.lost_chunk(index, conn),
            Event::Came { life, conn, index, save, damaged } if life == target => self.came(conn, index, save, damaged),
            Event::Written { life, index, save, damaged } if life == target => self.written(index, save, damaged),
            Event::Prepared { life, save } if life == target => self.prepared(save),
            Event::Checked { life, index } if life == target => self.checked(index),
            Event::Synced(life) if life == target => self.synced(),
            Event::Heard { life, session, extent } if life == target => self.heard(session, extent),
            Event::Grown { life, session, answer } if life == target => self.grown(session, answer),
            Event::Sealed { life, session, answer } if life == target => self.sealed(session, answer),
            Event::Finished(life) if life == target => self.finished(),
            Event::Tick(life) if life == target => self.tick(),
            // Of a process that has ended.
            _ => {}
        }
    }

    /// The chunks of the snapshot as it is at its end.
    fn truth(&self) -> Vec<ChunkDigest> {
        let count = self.plan.bytes.div_ceil(baton_proto::chunk::CHUNK_BYTES) as u32;
        (0..count).map(|index| digest(self.save.number, ChunkIndex(index), count == 1)).collect()
    }

    fn conns(&self, session: u64) -> impl Iterator<Item = Conn> + use<> {
        (0..self.plan.lanes).map(move |lane| Conn { session, lane })
    }
}

fn peer(words: &str) -> Fault {
    Fault::new(FaultKind::Peer, words)
}
