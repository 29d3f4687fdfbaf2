//! Copies of the journals of the runs that this host takes part in: by them a run is taken up from any machine that
//! reaches the agents. What stands in a journal is the coordinator's business; here it is text.
//!
//! ```text
//!   Record at .. last ──> the file RUN.jsonl, replaced or grown, synced      Recall at ──> a piece of it
//! ```
//!
//! A copy changes as a whole: pieces that begin before its end count once the last has come.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use baton_proto::control::{Answer, RECORD_BYTES_MAX, Reply};
use baton_proto::{Fault, FaultKind, RunId};

use crate::durable;

/// Largest journal that is kept: a run writes about fifty lines.
const JOURNAL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most journals that are kept: the oldest go first.
const JOURNALS_MAX: usize = 500;
/// Most runs whose pieces are put together at a time: as many as can have an instance of a host, and then some.
const ASSEMBLED_MAX: usize = 64;

/// The copies below a state directory.
pub struct Journals {
    dir: PathBuf,
    /// Copies that are being replaced.
    assembled: Mutex<HashMap<RunId, String>>,
}

impl Journals {
    pub fn open(state: &Path) -> io::Result<Journals> {
        let dir = state.join("runs");
        std::fs::create_dir_all(&dir)?;
        Ok(Journals { dir, assembled: Mutex::default() })
    }

    /// Takes in a piece. The answer tells how much is kept or put together: a piece that does not follow on is not taken.
    /// Journals of the runs `open`, which have a server here, are kept whatever their number.
    pub fn record(&self, run: &RunId, at: u64, (text, last): (&str, bool), open: &[RunId]) -> Answer {
        self.take(run, at, (text, last), open).map(|bytes| Reply::Recorded { bytes: bytes as u64 }).map_err(|error| {
            Fault::new(FaultKind::Host, format!("keep the journal of run {run}"))
                .because(error)
                .hint("see that the agent's state directory can be written and has space")
        })
    }

    fn take(&self, run: &RunId, at: u64, (text, last): (&str, bool), open: &[RunId]) -> io::Result<usize> {
        // One at a time: a journal is written by one coordinator, and pieces are small.
        let mut assembled = self.assembled.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(run);
        let kept = std::fs::metadata(&path).map_or(0, |found| found.len());
        let at_start = at == 0;
        if !at_start && !assembled.contains_key(run) {
            let whole = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(text.len());
            if at != kept {
                // Of this length it is told once more, since the answer was lost. If it is another, nothing of it counts.
                let is_other = kept == whole as u64 && !ends_with(&path, at, text)?;
                return Ok(if is_other { 0 } else { usize::try_from(kept).unwrap_or(usize::MAX) });
            }
            bounded(whole)?;
            let mut file = OpenOptions::new().append(true).open(&path)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).inspect_err(|_| {
                // A torn end would make the next piece not follow on.
                let _ = file.set_len(kept);
            })?;
            return Ok(whole);
        }
        if at_start {
            if assembled.len() >= ASSEMBLED_MAX {
                assembled.clear();
            }
            assembled.insert(run.clone(), String::new());
        }
        let whole = assembled.entry(run.clone()).or_default();
        if at != whole.len() as u64 {
            // Nothing of it is on disk yet.
            return Ok(0);
        }
        bounded(whole.len().saturating_add(text.len()))?;
        whole.push_str(text);
        let bytes = whole.len();
        if last {
            // It counts once it is on disk, or is told from the beginning.
            let whole = assembled.remove(run).unwrap_or_default();
            self.make_room(run, open)?;
            durable::replace_file(&path, whole.as_bytes(), 0o600)?;
        }
        Ok(bytes)
    }

    /// A piece of the journal, from byte `at` on.
    pub fn recall(&self, run: &RunId, at: u64) -> Answer {
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                Fault::new(FaultKind::NotFound, format!("this agent keeps no journal of run {run}"))
                    .hint("`coord runs --agents` lists what the agents keep")
            }
            _ => Fault::new(FaultKind::Host, format!("read the journal of run {run}")).because(error),
        };
        self.read(run, at).map(|(text, bytes)| Reply::Recalled { text, bytes }).map_err(unread)
    }

    /// Reads a piece, and tells how long the whole is.
    fn read(&self, run: &RunId, at: u64) -> io::Result<(String, u64)> {
        let mut file = File::open(self.path(run))?;
        let whole = file.metadata()?.len().min(JOURNAL_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(at.min(whole)))?;
        let mut bytes = Vec::new();
        let room = (RECORD_BYTES_MAX as u64).min(whole.saturating_sub(at));
        file.take(room).read_to_end(&mut bytes)?;
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                // Cut within a character, which the next piece begins with.
                let end = error.utf8_error();
                if end.error_len().is_some() || end.valid_up_to() == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                let mut bytes = error.into_bytes();
                bytes.truncate(end.valid_up_to());
                String::from_utf8(bytes).map_err(io::Error::other)?
            }
        };
        Ok((text, whole))
    }

    /// The runs of which a journal is kept, newest first.
    pub fn list(&self) -> Vec<RunId> {
        let mut found = self.found();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, run)| run).collect()
    }

    fn found(&self) -> Vec<(SystemTime, RunId)> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name();
                let run = RunId::new(name.to_str()?.strip_suffix(".jsonl")?).ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, run))
            })
            .collect()
    }

    fn make_room(&self, run: &RunId, open: &[RunId]) -> io::Result<()> {
        let mut found = self.found();
        if found.len() < JOURNALS_MAX || found.iter().any(|(_, known)| known == run) {
            return Ok(());
        }
        found.sort();
        let oldest = found.iter().find(|(_, run)| !open.contains(run)).map(|(_, run)| self.path(run));
        oldest.map_or(Ok(()), |path| durable::remove_file(&path).map(drop))
    }

    fn path(&self, run: &RunId) -> PathBuf {
        self.dir.join(format!("{run}.jsonl"))
    }
}

fn bounded(bytes: usize) -> io::Result<()> {
    if bytes <= JOURNAL_BYTES_MAX {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a journal of {bytes} bytes is more than {JOURNAL_BYTES_MAX}"),
    ))
}

/// Whether a file, from byte `at` on, is this text and no more.
fn ends_with(path: &Path, at: u64, text: &str) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take((text.len() as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        RunId::new("fo-1").unwrap()
    }

    fn recorded(journals: &Journals, at: u64, text: &str, last: bool) -> u64 {
        match journals.record(&run(), at, (text, last), &[]).unwrap() {
            Reply::Recorded { bytes } => bytes,
            other => panic!("{other:?}"),
        }
    }

    fn recalled(journals: &Journals) -> String {
        let mut text = String::new();
        loop {
            let Reply::Recalled { text: piece, bytes } = journals.recall(&run(), text.len() as u64).unwrap() else {
                panic!("another answer")
            };
            text += &piece;
            if text.len() as u64 == bytes {
                return text;
            }
        }
    }

    #[test]
    fn a_journal_grows_and_is_replaced_only_as_a_whole() {
        let state = tempfile::tempdir().unwrap();
        let journals = Journals::open(state.path()).unwrap();
        assert_eq!(recorded(&journals, 0, "one\n", true), 4);
        assert_eq!(recorded(&journals, 4, "two\n", true), 8);
        assert_eq!(recorded(&journals, 4, "late\n", true), 8, "what does not follow on is not taken");
        assert_eq!(recorded(&journals, 0, "other ", false), 6);
        assert_eq!(recalled(&journals), "one\ntwo\n");
        assert_eq!(recorded(&journals, 6, "journal\n", true), 14);
        assert_eq!(recalled(&Journals::open(state.path()).unwrap()), "other journal\n");
        assert_eq!(journals.list(), [run()]);
    }

    #[test]
    fn what_is_told_once_more_is_kept_once_and_another_journal_of_its_length_is_told_apart() {
        let state = tempfile::tempdir().unwrap();
        let journals = Journals::open(state.path()).unwrap();
        recorded(&journals, 0, "one\n", true);
        for _ in 0..2 {
            assert_eq!(recorded(&journals, 4, "two\n", true), 8);
        }
        assert_eq!(recorded(&journals, 4, "six\n", true), 0, "nothing of it counts: it is told from the beginning");
        assert_eq!(recalled(&journals), "one\ntwo\n");
    }

    #[test]
    fn what_could_not_be_written_does_not_count_when_it_is_told_once_more() {
        let state = tempfile::tempdir().unwrap();
        let journals = Journals::open(state.path()).unwrap();
        std::fs::remove_dir(state.path().join("runs")).unwrap();
        journals.record(&run(), 0, ("one\ntwo\n", true), &[]).unwrap_err();
        assert_eq!(recorded(&journals, 4, "two\n", true), 0);
        std::fs::create_dir(state.path().join("runs")).unwrap();
        recorded(&journals, 0, "one\n", false);
        assert_eq!(recorded(&journals, 0, "one\ntwo\n", false), 8, "begun anew");
        assert_eq!(recorded(&journals, 4, "two\n", true), 0, "it is in memory only");
    }

    #[test]
    fn a_long_journal_is_told_in_pieces_that_end_between_characters() {
        let state = tempfile::tempdir().unwrap();
        let journals = Journals::open(state.path()).unwrap();
        let long = "\u{e4}\u{20ac}".repeat(RECORD_BYTES_MAX);
        recorded(&journals, 0, &long, true);
        assert_eq!(recalled(&journals), long);
        let beyond = journals.recall(&run(), long.len() as u64 + 9).unwrap();
        assert_eq!(beyond, Reply::Recalled { text: String::new(), bytes: long.len() as u64 });
        assert_eq!(journals.recall(&run(), 1).unwrap_err().kind, FaultKind::Host, "it is the middle of a character");
        assert_eq!(journals.recall(&RunId::new("fo-2").unwrap(), 0).unwrap_err().kind, FaultKind::NotFound);
    }

    #[test]
    fn the_oldest_journals_make_room() {
        let state = tempfile::tempdir().unwrap();
        let journals = Journals::open(state.path()).unwrap();
        for number in 0..=JOURNALS_MAX {
            let run = RunId::new(&format!("fo-{number}")).unwrap();
            journals.record(&run, 0, ("x", true), &[RunId::new("fo-0").unwrap()]).unwrap();
        }
        assert_eq!(journals.list().len(), JOURNALS_MAX);
        journals.recall(&RunId::new("fo-0").unwrap(), 0).unwrap();
    }
}
