//! What this machine last saw of each host, in a file of the coordinator's state directory. It is looked up for hosts that do
//! not answer, and nothing depends on it but what is said of them: a file that cannot be read or written is none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use baton_proto::HostName;

use crate::topology::remembered::Remembered;

const FILE: &str = "seen.json";
/// Largest file that is read: an instance takes some hundred bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What was seen of each host, as far as it is known.
pub fn recall(state: &Path) -> BTreeMap<HostName, Remembered> {
    read(&state.join(FILE)).unwrap_or_default()
}

fn read(path: &Path) -> io::Result<BTreeMap<HostName, Remembered>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Keeps what was seen now.
pub fn keep(state: &Path, seen: &BTreeMap<HostName, Remembered>) {
    let write = || {
        fs::create_dir_all(state)?;
        // Of two that write at the same moment one is kept, and it is whole.
        let path = state.join(format!("{FILE}.{}", std::process::id()));
        File::create(&path)?.write_all(&serde_json::to_vec(seen)?)?;
        fs::rename(&path, state.join(FILE))
    };
    let _: io::Result<()> = write();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use crate::topology::fixture::{healthy, host};

    #[test]
    fn what_was_seen_is_recalled_and_a_file_that_is_none_is_nothing() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(recall(state.path()), BTreeMap::new());
        let world = healthy();
        let seen = Topology::of(&world).seen(&world, 7);
        assert_eq!(seen[&host("machine-b")].members.len(), 1);
        assert_eq!(seen[&host("machine-c")].members, [], "it is a spare");
        keep(&state.path().join("below"), &seen);
        assert_eq!(recall(&state.path().join("below")), seen);
        keep(state.path(), &seen);
        std::fs::write(state.path().join(FILE), "{").unwrap();
        assert_eq!(recall(state.path()), BTreeMap::new());
    }
}
