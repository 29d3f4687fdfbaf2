//! Durable notes of primaries that runs have replaced, on every host of the group: so that one which returns is held off
//! writes as soon as any of them reaches its agent.
//!
//! ```text
//!   order ──> Notes ──herald──> agent of the replaced one ──hear──> Notes ──actions/guard──> its server
//! ```
//!
//! A note is synced before it counts, and is never taken back to an earlier word. Left out: when a note is believed (see
//! `baton_proto::deposed`), and what is done to the server.

mod herald;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_proto::control::{Answer, Reply};
use baton_proto::deposed::{Deposition, Held, Notice, believes};
use baton_proto::{Fault, FaultKind, HostName, RunId};
use tracing::{info, warn};

pub use self::herald::herald;
use crate::agent::Agent;
use crate::instance::Instance;
use crate::{durable, host};

/// Largest note that is read: addresses and names are some hundred bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// Most notes that are kept: each is one failover, and what is settled makes room.
const NOTES_MAX: usize = 64;

/// All notes of an agent.
pub struct Notes {
    state: PathBuf,
    held: Mutex<BTreeMap<RunId, Held>>,
}

impl Notes {
    /// Reads what is in the state directory. A note that cannot be read is logged and left.
    pub fn load(state: &Path) -> io::Result<Notes> {
        let mut held = BTreeMap::new();
        for entry in std::fs::read_dir(state)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.starts_with("deposition-") || !name.ends_with(".json") || held.len() >= NOTES_MAX {
                continue;
            }
            match read(&path) {
                Ok(note) => drop(held.insert(note.deposition.run.clone(), note)),
                Err(error) => warn!(path = %path.display(), %error, "note of a replaced primary cannot be read"),
            }
        }
        Ok(Notes { state: state.to_owned(), held: Mutex::new(held) })
    }

    /// Nothing can panic between two changes of the map, so it is whole even if poisoned.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Held> {
        self.lock().values().cloned().collect()
    }

    /// Takes in a note, and tells what is held of its run then. A word that is new is told on. The seal of what
    /// another agent says was looked at.
    pub fn keep(&self, heard: Deposition, told: bool, firsthand: bool) -> io::Result<Held> {
        let mut notes = self.lock();
        let mut note = Held { deposition: heard, told, untold: None, fenced: false, firsthand };
        if let Some(known) = notes.get(&note.deposition.run) {
            let is_news = known.gives_way_to(&note);
            if !is_news && (known.told || !told) {
                return Ok(known.clone());
            }
            // What was known of whom it is about stays: it may be more.
            let Deposition { standing, seal, .. } = note.deposition;
            note.deposition = known.deposition.clone();
            if is_news {
                (note.deposition.standing, note.deposition.seal) = (standing, seal);
            } else {
                note.firsthand = known.firsthand;
            }
            note.fenced = known.fenced;
        }
        self.make_room(&mut notes, &note.deposition.run)?;
        self.put(&mut notes, note)
    }

    /// Changes what is noted beside the deposition itself.
    pub fn change(&self, run: &RunId, change: impl FnOnce(&mut Held)) -> io::Result<()> {
        let mut notes = self.lock();
        let Some(mut note) = notes.get(run).cloned() else { return Ok(()) };
        change(&mut note);
        if notes.get(run) == Some(&note) {
            return Ok(());
        }
        self.put(&mut notes, note).map(drop)
    }

    /// The note by which an instance of this host is to be treated: one that stands before one that is settled.
    pub fn about(&self, agent: &Agent, instance: &Instance) -> Option<Held> {
        // What an instance is found by may have to be read from its file: not while others wait for the notes.
        let of_host: Vec<Held> =
            self.lock().values().filter(|held| held.deposition.host == agent.host).cloned().collect();
        let own = of_host.into_iter().filter(|held| is_about(&held.deposition, agent, instance));
        own.max_by_key(|held| (held.deposition.stands(), held.fenced, held.deposition.since_unix))
    }

    fn put(&self, notes: &mut BTreeMap<RunId, Held>, note: Held) -> io::Result<Held> {
        let run = note.deposition.run.clone();
        durable::replace_file(&self.path(&run), &serde_json::to_vec(&note)?, 0o600)?;
        notes.insert(run, note.clone());
        Ok(note)
    }

    fn make_room(&self, notes: &mut BTreeMap<RunId, Held>, run: &RunId) -> io::Result<()> {
        if notes.contains_key(run) || notes.len() < NOTES_MAX {
            return Ok(());
        }
        let settled = notes.values().filter(|held| !held.deposition.stands() && !held.fenced);
        let oldest = settled.min_by_key(|held| held.deposition.since_unix).map(|held| held.deposition.run.clone());
        let full = || io::Error::other(format!("{NOTES_MAX} replaced primaries have not been joined again"));
        let oldest = oldest.ok_or_else(full)?;
        durable::remove_file(&self.path(&oldest))?;
        notes.remove(&oldest);
        Ok(())
    }

    fn path(&self, run: &RunId) -> PathBuf {
        self.state.join(format!("deposition-{run}.json"))
    }
}

fn read(path: &Path) -> io::Result<Held> {
    durable::read_note(path, NOTE_BYTES_MAX)?.ok_or(io::ErrorKind::NotFound.into())
}

fn is_about(note: &Deposition, agent: &Agent, instance: &Instance) -> bool {
    let only = agent.instances.len() == 1;
    // A file is a lot to read for a question that comes four times a second, and mostly it is not asked for.
    let asks_for_port = note.host == agent.host && note.instance.is_none() && !only;
    let port = if asks_for_port { instance.conf().map_or(0, |conf| instance.address(&conf).port) } else { 0 };
    note.is_about(&agent.host, instance.name(), port, only)
}

/// What is noted of the servers of another host, for its agent.
pub fn notices(agent: &Agent, host: &HostName) -> Vec<Notice> {
    let about_it = agent.notes.all().into_iter().map(|held| held.deposition).filter(|note| note.host == *host);
    about_it.map(|note| Notice { age_seconds: age_seconds(&note), deposition: note }).collect()
}

/// By the own clock.
fn age_seconds(note: &Deposition) -> u64 {
    (host::clock_unix_ms() / 1000).saturating_sub(note.since_unix)
}

/// What another agent says, without a seal that is none: by itself an agent's word does not end what an operator has sealed.
fn looked_at(agent: &Agent, from: &HostName, note: Deposition) -> Deposition {
    let Some(text) = &note.seal else { return note };
    let judged = text.parse().and_then(|seal| agent.certificates.credentials().sealed_by(&note.words(), &seal));
    match judged {
        Ok(_) => note,
        Err(error) => {
            warn!(%from, run = %note.run, "the seal on what became of a primary does not count: {error}");
            Deposition { seal: None, ..note }
        }
    }
}

/// Hears from another agent what became of an instance of this host.
pub async fn hear(agent: &Agent, from: &HostName, note: Deposition, age_seconds: u64) -> Answer {
    let instance = agent.instances.values().find(|instance| is_about(&note, agent, instance)).map(Arc::clone);
    let instance = instance.ok_or_else(|| {
        Fault::new(FaultKind::NotFound, format!("host {} has no instance that {note:?} is about", agent.host))
    })?;
    let mut note = looked_at(agent, from, note);
    note.instance = Some(instance.name().clone());
    let known = agent.notes.all().iter().any(|held| held.deposition.run == note.run);
    if !known && note.stands() {
        let server = instance.running().await.ok();
        let stands = server.as_ref().map(|running| (running.uptime_seconds, &running.replication));
        if let Err(disbelief) = believes(&note, age_seconds, stands) {
            warn!(%from, run = %note.run, "deposition is not believed: {disbelief}");
            return Err(Fault::new(FaultKind::Refused, format!("{} does not believe it", agent.host))
                .because(disbelief)
                .hint("see `coord status`: stop the clients of one of the two primaries"));
        }
    }
    let told = note.standing;
    let held = agent.notes.keep(note, true, false).map_err(|error| note_fault(&error))?;
    let (run, standing) = (&held.deposition.run, held.deposition.standing);
    if held.deposition.stands() && told != standing {
        warn!(%from, %run, ?told, "only an operator's seal ends what an operator has sealed: it stays deposed");
    }
    info!(%from, %run, ?standing, instance = %instance.name(), "heard what became of it");
    Ok(Reply::Told { deposition: Box::new(held.deposition) })
}

pub(crate) fn note_fault(error: &io::Error) -> Fault {
    Fault::new(FaultKind::Host, "write the note of a replaced primary")
        .because(error)
        .hint("see that the agent's state directory can be written and has space")
}

#[cfg(test)]
mod tests {
    use baton_proto::deposed::Standing;
    use baton_proto::{HostPort, InstanceName, InstanceRef, Lineage};

    use super::*;

    fn note(run: &str, standing: Standing) -> Deposition {
        let host = |name: &str| HostName::new(name).unwrap();
        let instance = InstanceName::new("default").unwrap();
        Deposition {
            run: RunId::new(run).unwrap(),
            host: host("machine-a"),
            instance: None,
            agent: HostPort::new("10.0.0.1", 7400),
            address: HostPort::new("10.0.0.1", 6379),
            fork: Lineage { id: "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse().unwrap(), offset: 100 },
            successor: InstanceRef { host: host("machine-c"), instance },
            successor_address: HostPort::new("10.0.0.3", 6379),
            standing,
            since_unix: 1_700_000_000,
            seal: None,
        }
    }

    #[test]
    fn a_note_outlives_the_agent_and_is_never_taken_back() {
        let state = tempfile::tempdir().unwrap();
        let notes = Notes::load(state.path()).unwrap();
        assert!(!notes.keep(note("fo-1", Standing::Deposed), false, true).unwrap().told);
        notes.change(&RunId::new("fo-1").unwrap(), |held| held.told = true).unwrap();
        let notes = Notes::load(state.path()).unwrap();
        assert!(notes.all()[0].told && notes.all()[0].deposition.stands());
        // What ends it is news, and is told once more.
        assert!(!notes.keep(note("fo-1", Standing::Reinstated), false, true).unwrap().told);
        let late = notes.keep(note("fo-1", Standing::Deposed), true, false).unwrap();
        assert_eq!(late.deposition.standing, Standing::Reinstated);
        assert_eq!(Notes::load(state.path()).unwrap().all(), notes.all());
    }

    #[test]
    fn what_is_settled_makes_room_and_what_stands_does_not() {
        let state = tempfile::tempdir().unwrap();
        let notes = Notes::load(state.path()).unwrap();
        notes.keep(note("fo-settled", Standing::Rejoined), true, true).unwrap();
        for number in 1..=NOTES_MAX {
            notes.keep(note(&format!("fo-{number}"), Standing::Deposed), true, true).unwrap();
        }
        assert!(notes.all().iter().all(|held| held.deposition.stands()));
        assert!(notes.keep(note("fo-more", Standing::Deposed), true, true).is_err());
        assert_eq!(Notes::load(state.path()).unwrap().all().len(), NOTES_MAX);
    }

    #[test]
    fn a_torn_note_does_not_keep_the_agent_from_starting() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("deposition-fo-1.json"), "{\"deposition\":").unwrap();
        assert_eq!(Notes::load(state.path()).unwrap().all(), []);
    }
}
