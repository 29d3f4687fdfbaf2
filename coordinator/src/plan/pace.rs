//! How fast a snapshot is expected to pass each stage of its way, and what that rests on: what the agents have seen of
//! past runs, what the source's server tells of its own last save, or, where nobody has seen anything, what is assumed.
//!
//! ```text
//!   by file   max(save, transfer) + load            live   max(save, transfer, load)
//! ```
//!
//! Nothing is tried for the sake of a plan: a disk or a line that is tried is one that is busy, and the source may serve.
//! What a device has written for others tells how busy it was, and not how fast it is.

use std::fmt;

use baton_proto::control::SaveMethod;
use baton_proto::speeds::{Speed, Transferred};
use serde::{Deserialize, Serialize};

use crate::plan::{Scene, Way, landing, steps};
use crate::report::units::{Bytes, Rate, Seconds, Span};

/// Bytes a second that a server writes and loads, and the share that is left of them on the wire: those of a mixed data set
/// on one core of a 2024 server. They tell two ways apart, and promise nothing.
const SAVE_RATE: f64 = 150e6;
const LOAD_RATE: f64 = 180e6;
const WIRE_SHARE: f64 = 0.45;
/// Most networks are no slower than this (1 Gbit/s).
const WIRE_RATE: f64 = 117e6;
/// A server that is started answers after about so long.
const BOOT_SECONDS: f64 = 0.2;
/// Orders, links, journals and syncs take about so long, whatever the data.
const ORDERS_SECONDS: f64 = 0.3;
/// A server tells how long its last save took in whole seconds: less than so many say too little.
const OWN_SAVE_SECONDS_MIN: u64 = 3;
/// A dump is that of a save if it is no older or newer than it by more than this.
const SAME_SAVE_SECONDS: u64 = 2;
/// A source streams by itself only where that takes this much less time, in seconds and as a factor: a file that stays
/// there is worth something.
const GAIN_SECONDS_MIN: f64 = 2.0;
const GAIN_MIN: f64 = 1.25;

/// On what a rate rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "basis", rename_all = "kebab-case")]
pub enum Basis {
    /// Past runs, with so many bytes of snapshots.
    Measured {
        bytes: u64,
        age_seconds: u64,
    },
    /// The server's own last background save.
    OwnSave {
        bytes: u64,
    },
    /// The limit that the operator has set.
    Limit,
    Assumed,
}

/// The rate of a stage, in bytes of the snapshot a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    pub bytes_per_second: f64,
    #[serde(flatten)]
    pub basis: Basis,
}

/// The rates of all stages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paces {
    pub save: Pace,
    /// The save on a disk that takes no time; none where it is not known how much of it was the disk's.
    pub work: Option<Pace>,
    pub transfer: Pace,
    pub load: Pace,
}

/// What a plan expects, from the start of the snapshot until the target has loaded it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub way: Way,
    /// What the snapshot is taken to be.
    pub bytes: u64,
    pub file: f64,
    pub live: f64,
    /// None: the dump that is there is taken.
    pub save: Option<Pace>,
    pub transfer: Pace,
    pub load: Pace,
}

impl Pace {
    fn assumed(rate: f64) -> Pace {
        Pace { bytes_per_second: rate, basis: Basis::Assumed }
    }

    fn measured(speed: &Speed) -> Option<Pace> {
        let basis = Basis::Measured { bytes: speed.bytes, age_seconds: speed.age_seconds };
        Some(Pace { bytes_per_second: speed.rate()?, basis })
    }

    fn seconds(&self, bytes: u64) -> f64 {
        bytes as f64 / self.bytes_per_second
    }

    fn slower_than(self, rate: f64) -> f64 {
        self.bytes_per_second.min(rate)
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", Rate(self.bytes_per_second))?;
        match self.basis {
            Basis::Measured { bytes, age_seconds } => {
                write!(f, "measured {} ago on {})", Span(age_seconds), Bytes(bytes))
            }
            Basis::OwnSave { bytes } => write!(f, "its own last save, of {})", Bytes(bytes)),
            Basis::Limit => write!(f, "the limit)"),
            Basis::Assumed => write!(f, "assumed)"),
        }
    }
}

/// What is known of each stage of the plan's transfer.
pub fn of(scene: &Scene) -> Paces {
    let (source, target) = (scene.source.report, scene.target.report);
    let save = source.speeds.save.as_ref().and_then(Pace::measured).or_else(|| own_save(scene));
    let load = target.speeds.load.as_ref().and_then(Pace::measured);
    Paces {
        save: save.unwrap_or(Pace::assumed(SAVE_RATE)),
        work: source.speeds.work.as_ref().and_then(Pace::measured),
        transfer: transfer(transferred(scene), scene.intent.budget.max_rate),
        load: load.unwrap_or(Pace::assumed(LOAD_RATE)),
    }
}

/// What was seen of the way between the two hosts: by the target itself, or by another instance of its host.
fn transferred<'a>(scene: &Scene<'a>) -> Option<&'a Transferred> {
    let from = &scene.source.name.host;
    let own = scene.target.report.speeds.transfers.get(from);
    let host = scene.world.report(&scene.target.name.host)?;
    own.or_else(|| host.instances.iter().find_map(|instance| instance.speeds.transfers.get(from)))
}

fn transfer(seen: Option<&Transferred>, max_rate: Option<u64>) -> Pace {
    let share = seen.and_then(Transferred::share).unwrap_or(WIRE_SHARE);
    let pace = seen.and_then(|seen| Pace::measured(&seen.speed)).unwrap_or(Pace::assumed(WIRE_RATE / WIRE_SHARE));
    match max_rate.map(|max_rate| max_rate as f64 / share) {
        Some(limit) if limit < pace.bytes_per_second => Pace { bytes_per_second: limit, basis: Basis::Limit },
        _ => pace,
    }
}

/// What the server's own last background save tells, if its dump still stands there.
fn own_save(scene: &Scene) -> Option<Pace> {
    let (files, saved) = (&scene.source.report.files, &scene.source.running()?.persistence);
    let (bytes, seconds) = (files.dump_bytes?, saved.last_save_seconds?);
    let is_its = saved.last_save_ok && files.dump_modified_unix?.abs_diff(saved.last_save_unix) <= SAME_SAVE_SECONDS;
    let pace = Pace { bytes_per_second: bytes as f64 / seconds as f64, basis: Basis::OwnSave { bytes } };
    (is_its && seconds >= OWN_SAVE_SECONDS_MIN && bytes > 0).then_some(pace)
}

impl Paces {
    /// What stands for the save, if it is done in this way.
    fn writing(&self, method: SaveMethod) -> Option<Pace> {
        match method {
            SaveMethod::Existing => None,
            SaveMethod::Save | SaveMethod::Bgsave => Some(self.save),
            SaveMethod::Stream => Some(self.work.unwrap_or(Pace::assumed(SAVE_RATE))),
        }
    }

    fn expected(&self, way: Way, method: SaveMethod, (bytes, boots): (u64, bool)) -> Expected {
        let save = self.writing(method);
        let arrives = save.map_or(0.0, |save| save.seconds(bytes)).max(self.transfer.seconds(bytes));
        let load = self.load.seconds(bytes);
        let boot = if boots { BOOT_SECONDS } else { 0.0 };
        Expected {
            way,
            bytes,
            file: arrives + load + BOOT_SECONDS + ORDERS_SECONDS,
            live: arrives.max(load) + boot + ORDERS_SECONDS,
            save,
            transfer: self.transfer,
            load: self.load,
        }
    }
}

/// What the plan expects; `None` where no server is to load the snapshot.
pub fn expected(scene: &Scene) -> Option<Expected> {
    let way = landing::choose(scene)?.way;
    let (method, _) = steps::save_method(scene);
    Some(of(scene).expected(way, method, (scene.snapshot_bytes(), landing::boots(scene))))
}

impl Expected {
    /// Seconds of the way that was chosen.
    pub fn seconds(&self) -> f64 {
        match self.way {
            Way::File => self.file,
            Way::Live => self.live,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected { way, bytes, transfer, load, .. } = self;
        let (own, other) = match way {
            Way::File => (self.file, format!("live {}", Seconds(self.live))),
            Way::Live => (self.live, format!("by file {}", Seconds(self.file))),
        };
        write!(f, "about {}, {other}, for {}: ", Seconds(own), Bytes(*bytes))?;
        if let Some(save) = self.save {
            write!(f, "save {save}, ")?;
        }
        write!(f, "transfer {transfer}, load {load}")
    }
}

/// Bytes a second that cross the network for certain, as far as is known: nothing of them shrinks, and no line is faster
/// than most are.
pub fn cautious_wire(scene: &Scene) -> f64 {
    let limit = scene.intent.budget.max_rate.map_or(WIRE_RATE, |rate| WIRE_RATE.min(rate as f64));
    let seen = transferred(scene).and_then(|seen| Pace::measured(&seen.speed));
    seen.map_or(limit, |seen| seen.slower_than(limit))
}

/// Seconds from the start of the save until the target has loaded, if the snapshot is as large as it may be, does not
/// shrink on the wire, and nothing is faster than it is assumed to be.
pub fn cautious_seconds(scene: &Scene) -> Option<f64> {
    let way = landing::choose(scene)?.way;
    let (bytes, paces) = (scene.data_bytes() as f64, of(scene));
    let (method, _) = steps::save_method(scene);
    let written = paces.writing(method).map_or(0.0, |save| bytes / save.slower_than(SAVE_RATE));
    let (arrives, load) = (written.max(bytes / cautious_wire(scene)), bytes / paces.load.slower_than(LOAD_RATE));
    Some(match way {
        Way::File => arrives + load + BOOT_SECONDS,
        Way::Live => arrives.max(load),
    })
}

/// Whether the source's disk is what would take the most time, and a stream, which leaves it out, less. Only what was
/// measured counts: a guess is no reason to leave no file. Says why so.
pub fn disk_holds_up(scene: &Scene) -> Option<String> {
    let paces = of(scene);
    let work = paces.work.filter(|_| matches!(paces.save.basis, Basis::Measured { .. }))?;
    let bytes = scene.snapshot_bytes();
    let beside = match landing::of(scene) {
        Way::Live => paces.transfer.seconds(bytes).max(paces.load.seconds(bytes)),
        Way::File => paces.transfer.seconds(bytes),
    };
    let (file, stream) = (paces.save.seconds(bytes).max(beside), work.seconds(bytes).max(beside));
    let gains = file - stream >= GAIN_SECONDS_MIN && file >= stream * GAIN_MIN;
    gains.then(|| format!("its disk takes {}, and the transfer {}", paces.save, paces.transfer))
}
