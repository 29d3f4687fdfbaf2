//! The preflight: every check that a goal wants, each one a function from the scene to lines. All are made, so that all
//! refusals are seen at once.

pub mod batch;
pub mod catalogue;
mod condition;
mod handover;
mod held;
mod live_source;
mod path;
mod primary;
mod rejoin;
mod silent;
mod source;
mod target;

use std::fmt;

use crate::plan::{Check, Goal, Level, Mode, Scene};

type CheckFn = fn(&Scene) -> Vec<Check>;

/// The primary that was lost, and who survives it.
const LOST: &[CheckFn] = &[
    primary::is_dead,
    primary::is_expected,
    primary::stands_as_seen,
    source::is_freshest,
    source::has_data,
    source::knows_its_history,
    source::is_recent,
    source::siblings_stand,
    silent::siblings_answer,
    condition::is_unmanaged,
    condition::leader_serves,
];

/// What the survivor is to save, and to keep meanwhile.
const SAVED: &[CheckFn] = &[source::is_idle, source::can_save, live_source::keeps_what_is_written];

/// The survivor that takes over where it is.
const ALONE: &[CheckFn] = &[source::is_followed];

const COPIED: &[CheckFn] = &[source::has_data, source::is_idle, source::can_save];

const CLONED: &[CheckFn] = &[
    live_source::serves,
    source::is_idle,
    source::can_save,
    live_source::keeps_what_is_written,
    condition::is_unmanaged,
    condition::leader_serves,
];

/// What surrounds those between whom a snapshot moves.
const MOVED: &[CheckFn] =
    &[condition::source_forks, condition::source_is_sound, condition::target_matches, condition::agents_meet];

/// What surrounds those whose role changes.
const CHANGED: &[CheckFn] = &[condition::takes_orders, condition::files_can_be_written];

const HANDED_OVER: &[CheckFn] = &[
    handover::primary_serves,
    primary::is_expected,
    primary::stands_as_seen,
    handover::is_unmanaged,
    handover::can_hand_over,
    handover::replica_keeps_up,
    handover::replica_can_lead,
    handover::siblings_move,
    silent::siblings_answer,
];

const REJOINED: &[CheckFn] = &[rejoin::is_deposed, rejoin::has_room];

/// The server that is to load the snapshot.
const TARGET: &[CheckFn] = &[
    rejoin::nobody_is_deposed,
    target::is_free,
    target::has_no_followers,
    target::can_land,
    target::takes_arguments,
    target::reads_snapshot,
    target::has_modules,
    target::has_memory,
    target::has_disk,
];

/// The way of each replica to its primary to be.
const PATH: &[CheckFn] = &[path::formats_fit, path::passwords_fit, path::is_open, path::clocks_agree];

/// Makes every check of the goal.
pub fn of(scene: &Scene) -> Vec<Check> {
    let parts: &[&[CheckFn]] = match scene.intent.goal {
        Goal::Failover(Mode::InPlace) => &[LOST, ALONE, PATH, CHANGED],
        Goal::Failover(_) => &[LOST, SAVED, TARGET, PATH, MOVED, CHANGED],
        Goal::Copy { .. } => &[COPIED, TARGET, MOVED],
        Goal::Switchover { .. } => &[HANDED_OVER, PATH, CHANGED],
        Goal::Clone => &[CLONED, TARGET, PATH, MOVED, CHANGED],
        Goal::Rejoin => &[REJOINED, PATH, CHANGED],
    };
    let first: &[CheckFn] = &[held::is_nobodys];
    first.iter().chain(parts.iter().copied().flatten()).flat_map(|check| check(scene)).collect()
}

fn line(id: &str, level: Level, says: impl fmt::Display, remedy: Option<String>) -> Check {
    debug_assert!(catalogue::entry(id).is_some(), "`{id}` is not in the catalogue");
    Check { id: id.into(), level, says: says.to_string(), remedy }
}

fn ok(id: &str, says: impl fmt::Display) -> Check {
    line(id, Level::Ok, says, None)
}

fn warn(id: &str, says: impl fmt::Display, remedy: impl fmt::Display) -> Check {
    line(id, Level::Warn, says, Some(remedy.to_string()))
}

/// It would not work.
fn refuse(id: &str, says: impl fmt::Display, remedy: impl fmt::Display) -> Check {
    line(id, Level::Refuse, says, Some(remedy.to_string()))
}

/// It could lose data.
fn danger(id: &str, says: impl fmt::Display, remedy: impl fmt::Display) -> Check {
    line(id, Level::Danger, says, Some(remedy.to_string()))
}
