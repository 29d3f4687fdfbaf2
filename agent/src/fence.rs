//! Durable notes of the agent about an instance: which primary it was taken off, by which run, and since when.
//!
//! A fenced replica no longer tells whom it followed, so the note is written before the server is told, and removed only
//! after the server follows another or is a primary. A note whose server still follows its primary is the trace of a
//! crash between the two and means nothing.

use std::io;
use std::path::{Path, PathBuf};

use baton_proto::report::{Fence, Role, ServerState};
use baton_proto::{HostPort, InstanceName};
use tracing::warn;

use crate::durable;

/// Where a fenced replica is pointed: a port on which nothing listens, on its own host.
pub fn address() -> HostPort {
    HostPort::new("127.0.0.1", 1)
}

/// Largest note that is read: an address and a run's name are a few hundred bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

fn path(state: &Path, instance: &InstanceName) -> PathBuf {
    state.join(format!("fence-{instance}.json"))
}

/// Reads the note of an instance. One that cannot be read counts as none, and is logged.
pub fn read(state: &Path, instance: &InstanceName) -> Option<Fence> {
    let path = path(state, instance);
    load(&path).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "fence note cannot be read and is taken as absent");
        None
    })
}

fn load(path: &Path) -> io::Result<Option<Fence>> {
    durable::read_note(path, NOTE_BYTES_MAX)
}

/// Reads the note of an instance, if its server is as it says. One that leads, or follows another, was given back by somebody
/// who knows of no notes. Of a server that does not answer the note is all that is known.
pub fn in_force(state: &Path, instance: &InstanceName, server: &ServerState) -> Option<Fence> {
    let is_fenced = match server.running().map(|running| &running.role) {
        Some(Role::Replica { primary, .. }) => *primary == address(),
        Some(Role::Primary { .. }) => false,
        None => true,
    };
    is_fenced.then(|| read(state, instance)).flatten()
}

/// Writes the note of an instance, in place of an older one.
pub fn write(state: &Path, instance: &InstanceName, fence: &Fence) -> io::Result<()> {
    durable::replace_file(&path(state, instance), &serde_json::to_vec(fence)?, 0o600)
}

/// Removes the note of an instance, if there is one.
pub fn remove(state: &Path, instance: &InstanceName) -> io::Result<()> {
    durable::remove_file(&path(state, instance)).map(drop)
}

#[cfg(test)]
mod tests {
    use baton_proto::RunId;
    use baton_proto::report::Link;

    use super::*;

    fn name(name: &str) -> InstanceName {
        InstanceName::new(name).unwrap()
    }

    fn fence(run: &str) -> Fence {
        Fence { run: RunId::new(run).unwrap(), from: HostPort::new("10.0.0.1", 6379), since_unix: 1_700_000_000 }
    }

    #[test]
    fn a_note_is_read_back_and_belongs_to_its_instance() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path(), &name("default")), None);
        write(state.path(), &name("default"), &fence("fo-1")).unwrap();
        assert_eq!(read(state.path(), &name("default")), Some(fence("fo-1")));
        assert_eq!(read(state.path(), &name("cache")), None);
        write(state.path(), &name("default"), &fence("fo-2")).unwrap();
        assert_eq!(read(state.path(), &name("default")), Some(fence("fo-2")));
        remove(state.path(), &name("default")).unwrap();
        remove(state.path(), &name("default")).unwrap();
        assert_eq!(read(state.path(), &name("default")), None);
    }

    #[test]
    fn a_note_does_not_count_of_a_server_that_leads_or_follows_another() {
        let state = tempfile::tempdir().unwrap();
        write(state.path(), &name("default"), &fence("fo-1")).unwrap();
        let told = |server: &ServerState| in_force(state.path(), &name("default"), server);
        let mut running = crate::info::parse_running(include_str!("info/fixtures/redis-7.0.orphan.txt")).unwrap();
        let (link, priority) = (Link::Down { since_seconds: None }, 100);
        for (role, counts) in [
            (Role::Replica { primary: address(), link: link.clone(), priority }, true),
            (Role::Replica { primary: HostPort::new("10.0.0.1", 6379), link, priority }, false),
            (Role::Primary { replicas: Vec::new() }, false),
        ] {
            running.role = role;
            assert_eq!(told(&ServerState::Running(Box::new(running.clone()))).is_some(), counts, "{:?}", running.role);
        }
        assert!(told(&ServerState::Stopped).is_some());
    }

    #[test]
    fn a_torn_or_oversized_note_is_taken_as_absent() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("fence-default.json");
        let whole = serde_json::to_vec(&fence("fo-1")).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(state.path(), &name("default")), None, "cut to {cut} bytes");
        }
        std::fs::write(&path, vec![b' '; NOTE_BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(read(state.path(), &name("default")), None);
    }
}
