//! How fast snapshots were seen to be written, moved and loaded here: a file of the last sights for each instance, which a
//! plan foretells by. Nothing else depends on it: a file that cannot be read is begun anew, and one that cannot be
//! written is logged.

mod history;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use baton_proto::HostName;
use baton_proto::InstanceName;
use baton_proto::control::TransferFacts;
use baton_proto::speeds::Speeds;
use tracing::warn;

pub use self::history::{History, Sight, Stage};
use crate::blocking::blocking;
use crate::instance::Instance;
use crate::{durable, host};

/// Largest file that is read: some dozens of sights of a hundred bytes or two.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A load and the transfer that it follows end at about the same time, in one action.
static WRITING: Mutex<()> = Mutex::new(());

fn path(state: &Path, instance: &InstanceName) -> PathBuf {
    state.join(format!("speeds-{instance}.json"))
}

/// What is known of an instance now.
pub fn read(state: &Path, instance: &InstanceName) -> Speeds {
    history(&path(state, instance)).speeds(now_unix())
}

fn history(path: &Path) -> History {
    load(path).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "the speeds of past runs cannot be read, and are begun anew");
        History::default()
    })
}

fn load(path: &Path) -> io::Result<History> {
    Ok(durable::read_note(path, FILE_BYTES_MAX)?.unwrap_or_default())
}

fn keep(path: &Path, seen: Vec<Sight>) -> io::Result<()> {
    // What guards nothing is spoilt by no panic.
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut history = history(path);
    if !history.add(seen) {
        return Ok(());
    }
    durable::replace_file(path, &serde_json::to_vec(&history)?, 0o600)
}

/// Keeps what was seen.
pub(crate) async fn note(instance: &Instance, seen: Vec<Sight>) {
    let path = path(instance.state_dir(), instance.name());
    if let Err(error) = blocking(move || keep(&path, seen)).await.flatten() {
        warn!(instance = %instance.name(), %error, "how fast it went is not kept, and later plans do not know");
    }
}

/// A stage that has just ended.
pub(crate) fn sight(stage: Stage, bytes: u64, seconds: f64) -> Sight {
    Sight { at_unix: now_unix(), stage, bytes, seconds, bytes_wire: None }
}

/// A transfer that has just ended, if it tells anything of the way: one that was limited, cut off or resumed does not.
pub(crate) fn of_transfer(from: &HostName, facts: &TransferFacts) -> Option<Sight> {
    let is_plain = !facts.packing.limited && facts.reconnects == 0 && facts.chunks_resumed == 0;
    let stage = Stage::Transfer { from: from.clone() };
    let seen = sight(stage, facts.bytes_raw, facts.seconds - facts.waited_seconds);
    is_plain.then_some(Sight { bytes_wire: Some(facts.bytes_wire), ..seen })
}

fn now_unix() -> u64 {
    host::clock_unix_ms() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> InstanceName {
        InstanceName::new(name).unwrap()
    }

    #[test]
    fn what_was_seen_is_read_back_and_belongs_to_its_instance() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path(), &name("default")), Speeds::default());
        let from = HostName::new("machine-b").unwrap();
        let transfer =
            Sight { bytes_wire: Some(4 << 20), ..sight(Stage::Transfer { from: from.clone() }, 8 << 20, 0.5) };
        keep(&path(state.path(), &name("default")), vec![sight(Stage::Load, 8 << 20, 2.0), transfer]).unwrap();
        let speeds = read(state.path(), &name("default"));
        assert_eq!(speeds.load.unwrap().rate(), Some((4 << 20) as f64));
        assert_eq!(speeds.transfers[&from].share(), Some(0.5));
        assert_eq!(read(state.path(), &name("cache")), Speeds::default());
    }

    #[test]
    fn what_is_seen_at_the_same_time_is_all_kept() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), &name("default"));
        let stages = [Stage::Save, Stage::Work, Stage::Load];
        std::thread::scope(|scope| {
            for stage in stages {
                scope.spawn(|| keep(&path, vec![sight(stage, 8 << 20, 2.0)]).unwrap());
            }
        });
        let Speeds { save, work, load, .. } = read(state.path(), &name("default"));
        assert!(save.is_some() && work.is_some() && load.is_some());
    }

    #[test]
    fn a_torn_oversized_or_strange_file_is_begun_anew() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), &name("default"));
        keep(&path, vec![sight(Stage::Save, 8 << 20, 2.0)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let strange = [vec![b' '; FILE_BYTES_MAX as usize + 1], b"[{\"stage\":\"unheard-of\"}]".to_vec()];
        let torn = (1..whole.len()).map(|cut| whole[..cut].to_vec());
        for text in torn.chain(strange) {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(state.path(), &name("default")), Speeds::default());
        }
        keep(&path, vec![sight(Stage::Save, 8 << 20, 2.0)]).unwrap();
        assert!(read(state.path(), &name("default")).save.is_some());
    }
}
