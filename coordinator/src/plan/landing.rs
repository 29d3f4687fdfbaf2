//! How the snapshot comes to its server on the target: by file, which the server is started on, or live, where the server
//! runs empty and loads while the bytes arrive. What stands against the one, and which is taken. How long both would take is
//! in [`super::pace`].

use std::fmt;

use baton_proto::report::{Role, ServerState};
use serde::{Deserialize, Serialize};

use crate::plan::{Goal, Mode, Scene};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub way: Way,
    /// Why the snapshot cannot land live. Chosen all the same only if it was asked for.
    pub obstacles: Vec<Obstacle>,
}

/// Something that keeps the snapshot from landing live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub says: String,
    pub remedy: String,
}

/// Chooses how the snapshot lands; `None` where no server is to have it.
pub fn choose(scene: &Scene) -> Option<Choice> {
    let goal = scene.intent.goal;
    if matches!(goal, Goal::Copy { start: false } | Goal::Switchover { .. } | Goal::Rejoin)
        || goal == Goal::Failover(Mode::InPlace)
    {
        return None;
    }
    let obstacles = obstacles(scene);
    let way = match scene.intent.landing {
        Some(way) => way,
        None if obstacles.is_empty() => Way::Live,
        None => Way::File,
    };
    Some(Choice { way, obstacles })
}

/// How the snapshot lands, where it makes no difference to the caller that no server is to have it.
pub fn of(scene: &Scene) -> Way {
    choose(scene).map_or(Way::File, |choice| choice.way)
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

impl Choice {
    /// The choice in words, with its reason.
    pub fn says(&self) -> String {
        match (self.way, self.obstacles.first()) {
            (Way::Live, _) => "live: it loads while the bytes arrive".into(),
            (Way::File, Some(obstacle)) => format!("by file, since {}", obstacle.says),
            (Way::File, None) => "by file, as asked".into(),
        }
    }
}
