//! How the snapshot comes to its server on the target: by file, which the server is started on, or live, where the server
//! runs empty and loads while the bytes arrive. What stands against the one, how long both would take, and which is taken.

use std::fmt;

use baton_proto::data::Budget;
use baton_proto::report::{Role, ServerState};
use serde::{Deserialize, Serialize};

use crate::plan::{Goal, Scene};
use crate::report::units::Seconds;

/// How the snapshot lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The file is put in the place of the dump, and the server is started on it.
    File,
    /// The server runs, empty, and is fed by its agent while the snapshot arrives.
    Live,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::File => "file",
            Way::Live => "live",
        })
    }
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub way: Way,
    /// Why the snapshot cannot land live. Chosen all the same only if it was asked for.
    pub obstacles: Vec<Obstacle>,
    /// What both would take.
    pub forecast: Forecast,
}

/// Something that keeps the snapshot from landing live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub says: String,
    pub remedy: String,
}

/// Seconds from the start of the save until the target serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    pub file: f64,
    pub live: f64,
}

/// Bytes a second that a server writes and loads, and the share that is left of them on the wire: those of a mixed data set
/// on one core of a 2024 server. They tell two ways apart, and promise nothing.
const SAVE_RATE: f64 = 150e6;
const LOAD_RATE: f64 = 180e6;
const WIRE_SHARE: f64 = 0.45;
/// Nothing was measured of the network when the plan is made; most are no slower than this (1 Gbit/s).
const WIRE_RATE: f64 = 117e6;
/// A server that is started answers after about so long.
const BOOT_SECONDS: f64 = 0.2;

/// Chooses how the snapshot lands; `None` where no server is to have it.
pub fn choose(scene: &Scene) -> Option<Choice> {
    if matches!(scene.intent.goal, Goal::Copy { start: false } | Goal::Switchover { .. } | Goal::Rejoin) {
        return None;
    }
    let obstacles = obstacles(scene);
    let way = match scene.intent.landing {
        Some(way) => way,
        None if obstacles.is_empty() => Way::Live,
        None => Way::File,
    };
    Some(Choice { way, obstacles, forecast: forecast(scene.snapshot_bytes(), WIRE_SHARE, &scene.intent.budget) })
}

/// How the snapshot lands, where it makes no difference to the caller that no server is to have it.
pub fn of(scene: &Scene) -> Way {
    choose(scene).map_or(Way::File, |choice| choice.way)
}

/// Seconds from the start of the save until the target has loaded, if the snapshot is as large as it may be and does not
/// shrink on the wire.
pub fn seconds(scene: &Scene) -> Option<f64> {
    let choice = choose(scene)?;
    let longest = forecast(scene.data_bytes(), 1.0, &scene.intent.budget);
    Some(match choice.way {
        Way::File => longest.file,
        Way::Live => longest.live,
    })
}

/// Whether the target's server must be started empty before it can be fed.
pub fn boots(scene: &Scene) -> bool {
    scene.target.running().is_none()
}

fn obstacles(scene: &Scene) -> Vec<Obstacle> {
    let (name, report) = (scene.target.name, scene.target.report);
    let settings = &report.settings;
    let mut found = Vec::new();
    let mut stands = |is: bool, says: String, remedy: String| {
        if is {
            found.push(Obstacle { says, remedy });
        }
    };
    let version = scene.target.running().map(|running| running.version).or(report.binary);
    let old = version.is_some_and(|version| !version.continues_as_replica());
    stands(old, format!("the version of {name} has no lineage"), "use `--landing file`".into());
    stands(
        settings.tls_replication,
        format!("{name} replicates over TLS only, which its agent does not speak"),
        format!("use `--landing file`, or `tls-replication no` in {}", settings.config_file),
    );
    match &report.server {
        ServerState::Running(running) => {
            stands(
                !running.keyspace.is_empty(),
                format!("{name} holds keys"),
                "use `--landing file`, which keeps its old dump aside".into(),
            );
            stands(
                !matches!(&running.role, Role::Primary { replicas } if replicas.is_empty()),
                format!("{name} has a role in another group"),
                "choose a target that belongs to no group".into(),
            );
            stands(
                !settings.configurable,
                format!("the agent of {name} may not use CONFIG there"),
                "use `--landing file`, or allow the agent's user CONFIG".into(),
            );
        }
        _ => {
            let files = &report.files;
            stands(
                files.dump_bytes.is_some() || files.has_aof,
                format!("{name} is stopped, and would not come up empty: its directory holds data"),
                format!("use `--landing file`, or move what is in {} away", settings.dir),
            );
        }
    }
    found
}

/// Bytes a second that the network carries, as far as is known.
pub(super) fn wire_rate(budget: &Budget) -> f64 {
    budget.max_rate.map_or(WIRE_RATE, |rate| WIRE_RATE.min(rate as f64))
}

fn forecast(snapshot_bytes: u64, wire_share: f64, budget: &Budget) -> Forecast {
    let bytes = snapshot_bytes as f64;
    let wire = wire_rate(budget);
    let (save, wire, load) = (bytes / SAVE_RATE, bytes * wire_share / wire, bytes / LOAD_RATE);
    Forecast { file: save.max(wire) + load + BOOT_SECONDS, live: save.max(wire).max(load) }
}

impl Choice {
    /// The choice in words, with its reason and what the other way would take.
    pub fn says(&self) -> String {
        let Forecast { file, live } = self.forecast;
        match (self.way, self.obstacles.first()) {
            (Way::Live, _) => {
                format!(
                    "live: it loads while the bytes arrive, about {}; by file {} (at 1 Gbit/s)",
                    Seconds(live),
                    Seconds(file)
                )
            }
            (Way::File, Some(obstacle)) => {
                format!("by file, about {} (at 1 Gbit/s), since {}", Seconds(file), obstacle.says)
            }
            (Way::File, None) => {
                format!("by file as asked, about {}; live {} (at 1 Gbit/s)", Seconds(file), Seconds(live))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_takes_as_long_as_its_slowest_stage_and_by_file_the_load_comes_after() {
        let unlimited = forecast(900_000_000, WIRE_SHARE, &Budget::default());
        assert_eq!((unlimited.live, unlimited.file), (6.0, 6.0 + 5.0 + BOOT_SECONDS));
        let slow = forecast(900_000_000, WIRE_SHARE, &Budget { max_rate: Some(9_000_000), cpu: None });
        assert_eq!(slow.live, 45.0, "the wire is the slowest");
        assert_eq!(forecast(0, WIRE_SHARE, &Budget::default()).live, 0.0);
    }
}
