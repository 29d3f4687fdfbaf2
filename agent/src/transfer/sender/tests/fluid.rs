//! A transfer as a flow: cores that pack, a wire of some rate and delay, and a disk behind it. Time is virtual.
//!
//! The same world is run with the engine and with a sender that knows one level and packs whenever a core is free: the
//! best of those is what the engine is measured by.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex};

use crate::transfer::dice::Dice;
use crate::transfer::material::Material;
use crate::transfer::receiver::WINDOW_CHUNKS;
use crate::transfer::sender::levels::{Level, Packed};
use crate::transfer::sender::{Job, PIPE_BYTES_MAX, Sender};

/// What the transport tells of the path's rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Told {
    Nothing,
    /// A third too much or too little, each time anew.
    Roughly,
    Well,
}

/// What a transfer is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    pub(super) material: Material,
    pub(super) chunks: u32,
    pub(super) workers: usize,
    /// Speed of a core, against the one of the table.
    pub(super) core: f64,
    /// Bytes a second.
    pub(super) wire: f64,
    /// Another rate of the wire, from this time on.
    pub(super) change: Option<(Duration, f64)>,
    pub(super) round_trip: Duration,
    /// Bytes a second that the target's disk takes.
    pub(super) disk: f64,
    /// Bytes a second that the target makes of plain forms, on one core of those of the table.
    pub(super) redo: f64,
    pub(super) told: Told,
    pub(super) seed: u64,
}

impl Default for World {
    fn default() -> World {
        World {
            material: Material::Mixed,
            chunks: 250,
            workers: 2,
            core: 1.0,
            wire: 117e6,
            change: None,
            round_trip: Duration::from_millis(1),
            disk: 4e9,
            redo: 200e6,
            told: Told::Well,
            seed: 1,
        }
    }
}

/// How a transfer went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) seconds: f64,
    /// Time spent on packing, all cores together.
    pub(super) cpu_seconds: f64,
    /// Longest time for which the wire had nothing to carry while chunks were asked for, the start left out.
    pub(super) longest_gap: f64,
    pub(super) wire_bytes: u64,
}

/// Who packs.
enum Packer {
    Engine(Box<Sender>),
    /// One level up to a time, another from then on.
    Fixed {
        levels: [Level; 2],
        from: Duration,
        workers: usize,
        asked: BTreeSet<ChunkIndex>,
        packing: usize,
        flying: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked(u32),
    Packed(u32),
    /// The last byte of it has come.
    Came(u32),
    /// Its acknowledgement has.
    Delivered(u32),
    Written(u32),
}

struct Run {
    world: World,
    packer: Packer,
    dice: Dice,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    number: u64,
    now: Duration,
    facts: Vec<Option<Packed>>,
    wire_free: Duration,
    redo_free: Duration,
    disk_free: Duration,
    asked: u32,
    written: u32,
    /// Rate at which the last chunk was carried: what a transport can know.
    carried: f64,
    flow: Flow,
}

impl World {
    /// Runs with the engine.
    pub(super) fn run(self) -> Flow {
        let sender = Sender::new(self.workers);
        self.run_with(Packer::Engine(Box::new(sender)))
    }

    pub(super) fn run_fixed(self, level: Level) -> Flow {
        self.run_switching(level, level)
    }

    /// Runs with one level, and with another once the wire has changed.
    pub(super) fn run_switching(self, before: Level, after: Level) -> Flow {
        let from = self.change.map_or(Duration::MAX, |(at, _)| at);
        let (levels, workers) = ([before, after], self.workers);
        self.run_with(Packer::Fixed { levels, from, workers, asked: BTreeSet::new(), packing: 0, flying: 0 })
    }

    fn run_with(self, packer: Packer) -> Flow {
        let mut run = Run {
            world: self,
            packer,
            dice: Dice::new(self.seed),
            events: BinaryHeap::new(),
            number: 0,
            now: Duration::ZERO,
            facts: vec![None; self.chunks as usize],
            wire_free: Duration::ZERO,
            redo_free: Duration::ZERO,
            disk_free: Duration::ZERO,
            asked: 0,
            written: 0,
            carried: 0.0,
            flow: Flow { seconds: 0.0, cpu_seconds: 0.0, longest_gap: 0.0, wire_bytes: 0 },
        };
        (0..WINDOW_CHUNKS).for_each(|_| run.ask());
        while let Some(Reverse((now, _, event))) = run.events.pop() {
            run.now = now;
            run.handle(event);
            run.pack();
        }
        assert_eq!(run.written, self.chunks, "{self:?} stands still");
        run.flow.seconds = run.now.as_secs_f64();
        run.flow
    }
}

impl Run {
    fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn half_trip(&self) -> Duration {
        self.world.round_trip / 2
    }

    fn ask(&mut self) {
        if self.asked < self.world.chunks {
            self.at(self.now + self.half_trip(), Event::Asked(self.asked));
            self.asked += 1;
        }
    }

    fn wire_rate(&self, at: Duration) -> f64 {
        self.world.change.filter(|(from, _)| at >= *from).map_or(self.world.wire, |(_, rate)| rate)
    }

    /// When bytes that begin to be carried at a time are through, also if the rate changes meanwhile.
    fn carry(&self, begin: Duration, bytes: f64) -> Duration {
        let end = begin + Duration::from_secs_f64(bytes / self.wire_rate(begin));
        match self.world.change {
            Some((at, rate)) if begin < at && end > at => {
                let before = (at - begin).as_secs_f64() * self.world.wire;
                at + Duration::from_secs_f64((bytes - before) / rate)
            }
            _ => end,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Asked(index) => match &mut self.packer {
                Packer::Engine(sender) => {
                    let rate = match self.world.told {
                        Told::Nothing => 0.0,
                        Told::Roughly => self.carried * (0.66 + 0.67 * self.dice.share()),
                        Told::Well => self.carried,
                    };
                    sender.handle_path((rate * self.world.round_trip.as_secs_f64()) as u64, rate, false);
                    sender.handle_asked(ChunkIndex(index));
                }
                Packer::Fixed { asked, .. } => drop(asked.insert(ChunkIndex(index))),
            },
            Event::Packed(index) => self.packed(index),
            Event::Came(index) => {
                let facts = self.facts[index as usize].unwrap();
                let raw = f64::from(facts.raw_bytes);
                let mut ready = self.now;
                if matches!(facts.level, Level::Plain(_)) && !facts.barren {
                    let takes = Duration::from_secs_f64(raw / (self.world.redo * self.world.core));
                    self.redo_free = self.redo_free.max(ready) + takes;
                    ready = self.redo_free;
                }
                self.disk_free = self.disk_free.max(ready) + Duration::from_secs_f64(raw / self.world.disk);
                self.at(self.disk_free, Event::Written(index));
                self.at(self.now + self.half_trip(), Event::Delivered(index));
            }
            Event::Delivered(index) => {
                let bytes = self.facts[index as usize].unwrap().wire_bytes;
                match &mut self.packer {
                    Packer::Engine(sender) => sender.handle_delivered(self.now, bytes),
                    Packer::Fixed { flying, .. } => *flying -= u64::from(bytes),
                }
            }
            Event::Written(_) => {
                self.written += 1;
                self.ask();
            }
        }
    }

    fn packed(&mut self, index: u32) {
        let facts = self.facts[index as usize].unwrap();
        match &mut self.packer {
            Packer::Engine(sender) => sender.handle_packed(Some(facts)),
            Packer::Fixed { packing, flying, .. } => {
                *packing -= 1;
                *flying += u64::from(facts.wire_bytes);
            }
        }
        let begin = self.wire_free.max(self.now);
        if self.wire_free > Duration::ZERO {
            self.flow.longest_gap = self.flow.longest_gap.max((begin - self.wire_free).as_secs_f64());
        }
        self.wire_free = self.carry(begin, f64::from(facts.wire_bytes));
        self.carried = f64::from(facts.wire_bytes) / (self.wire_free - begin).as_secs_f64();
        self.flow.wire_bytes += u64::from(facts.wire_bytes);
        self.at(self.wire_free + self.half_trip(), Event::Came(index));
    }

    fn pack(&mut self) {
        loop {
            let job = match &mut self.packer {
                Packer::Engine(sender) => sender.poll_job(),
                Packer::Fixed { levels: [before, after], from, workers, asked, packing, flying } => {
                    let free = *packing < *workers && *flying + CHUNK_BYTES <= PIPE_BYTES_MAX;
                    let level = if self.now < *from { *before } else { *after };
                    let index = if free { asked.pop_first() } else { None };
                    *packing += usize::from(index.is_some());
                    index.map(|index| Job { index, level })
                }
            };
            let Some(job) = job else { return };
            let facts = self.world.material.pack(job.level, self.world.core, &mut self.dice);
            self.facts[job.index.0 as usize] = Some(facts);
            self.flow.cpu_seconds += facts.took.as_secs_f64();
            self.at(self.now + facts.took, Event::Packed(job.index.0));
        }
    }
}
