//! The journal of a run: one file of JSON lines, one event a line, each synced before the run goes on.
//!
//! The hosts that take part [keep](kept) copies of it, by which a run is [found](find) and taken up from another machine.
//!
//! A step's start is written before anything is done and its end after. A line that cannot be written stops the run. A
//! crash can tear the last line only; reading leaves a torn last line out, and nothing else.

mod copies;
pub mod find;
pub mod kept;
pub mod seal;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use baton_proto::{Fault, HostName, RunId};
use baton_wire::TrustError;
use serde::{Deserialize, Serialize};

use crate::run::Event;

/// Largest journal that is read: a run writes about fifty lines.
const JOURNAL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since 1970.
    pub at_unix_ms: u64,
    pub event: Event,
}

impl Record {
    /// An event of this moment.
    pub fn now(event: &Event) -> Record {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Record { at_unix_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX), event: event.clone() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{doing} {path}: {error}")]
    File { doing: &'static str, path: PathBuf, error: io::Error },
    #[error("no journal of run `{run}` in {dir}")]
    Unknown { run: RunId, dir: PathBuf },
    #[error("journal {path}, line {line}: {error}")]
    Line { path: PathBuf, line: usize, error: serde_json::Error },
    #[error("journal {path} is larger than {JOURNAL_BYTES_MAX} bytes")]
    Large { path: PathBuf },
    #[error("write an event as JSON: {0}")]
    Event(serde_json::Error),
    #[error("sign a line of the journal: {0}")]
    Seal(TrustError),
    #[error("the journal that {host} keeps, line {line}: {error}")]
    Copy { host: HostName, line: usize, error: serde_json::Error },
    #[error("the journal of run {run} that {host} keeps is not believed: {reason}")]
    Unsealed { run: RunId, host: HostName, reason: String },
    #[error("no host that takes part keeps the journal: {0}")]
    NoCopy(Fault),
    #[error("{0}")]
    Held(Fault),
}

impl JournalError {
    /// What to do about one that cannot be written.
    pub fn hint(&self) -> String {
        match self {
            JournalError::NoCopy(fault) | JournalError::Held(fault) => {
                fault.hint.clone().unwrap_or_else(|| "see `coord status` and `coord runs`".into())
            }
            _ => "mend `state` in coord.toml".into(),
        }
    }
}

/// The directory that holds the journals of all runs.
#[derive(Debug, Clone)]
pub struct Journals {
    dir: PathBuf,
}

/// The open journal of one run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journals {
    /// The journals below the coordinator's state directory.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("runs") }
    }

    /// Creates the journal of a new run; a run of that name must not exist.
    pub fn create(&self, run: &RunId) -> Result<Journal, JournalError> {
        std::fs::create_dir_all(&self.dir).map_err(|error| JournalError::File {
            doing: "create directory",
            path: self.dir.clone(),
            error,
        })?;
        let path = self.path(run);
        let file = |error| JournalError::File { doing: "create journal", path: path.clone(), error };
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path).map_err(file)?;
        for dir in [Some(self.dir.as_path()), self.dir.parent()].into_iter().flatten() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(file)?;
        }
        Ok(Journal { path, file: opened })
    }

    /// Puts a journal in the place of what there is of this run, to go on with it.
    pub fn adopt(&self, run: &RunId, text: &str) -> Result<Journal, JournalError> {
        let path = self.path(run);
        let file = |error| JournalError::File { doing: "put in place journal", path: path.clone(), error };
        std::fs::create_dir_all(&self.dir).map_err(file)?;
        let temp = self.dir.join(format!(".{run}.new"));
        let _ = std::fs::remove_file(&temp);
        let mut opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&temp).map_err(file)?;
        let written = opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all());
        written.and_then(|()| std::fs::rename(&temp, &path)).map_err(file)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(file)?;
        Ok(Journal { path, file: opened })
    }

    pub fn exists(&self, run: &RunId) -> bool {
        self.path(run).exists()
    }

    /// Names of all runs, newest first.
    pub fn list(&self) -> Result<Vec<RunId>, JournalError> {
        let unreadable = |error| JournalError::File { doing: "read directory", path: self.dir.clone(), error };
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let run = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).and_then(|run| RunId::new(run).ok());
            if let Some(run) = run {
                let changed = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
                runs.push((changed, run));
            }
        }
        runs.sort_by(|a, b| b.cmp(a));
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// Reads a run's records.
    pub fn read(&self, run: &RunId) -> Result<Vec<Record>, JournalError> {
        let path = self.path(run);
        let text = self.text(run)?;
        parse(text.as_bytes()).map_err(|(line, error)| JournalError::Line { path, line, error })
    }

    /// Reads a run's journal as it stands on disk, but for a torn last line.
    pub fn text(&self, run: &RunId) -> Result<String, JournalError> {
        let path = self.path(run);
        let unreadable = |error| JournalError::File { doing: "read journal", path: path.clone(), error };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Unknown { run: run.clone(), dir: self.dir.clone() });
            }
            Err(error) => return Err(unreadable(error)),
        };
        let mut text = Vec::new();
        file.take(JOURNAL_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > JOURNAL_BYTES_MAX {
            return Err(JournalError::Large { path });
        }
        text.truncate(whole(&text).len());
        String::from_utf8(text).map_err(|error| JournalError::File {
            doing: "read journal",
            path,
            error: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }

    fn path(&self, run: &RunId) -> PathBuf {
        self.dir.join(format!("{run}.jsonl"))
    }
}

/// Reads records from the text of a journal; an error names its line, from 1.
pub fn parse(text: &[u8]) -> Result<Vec<Record>, (usize, serde_json::Error)> {
    let mut records = Vec::new();
    for (index, line) in whole(text).split(|byte| *byte == b'\n').enumerate() {
        if !line.is_empty() {
            records.push(serde_json::from_slice(line).map_err(|error| (index + 1, error))?);
        }
    }
    Ok(records)
}

/// The lines that are whole, with their newlines. What follows the last newline was torn by a crash: it had not been synced,
/// so nothing was done on its word.
fn whole(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.get(..end).unwrap_or_default()
}

impl Journal {
    /// Appends a line, with its newline, and syncs it.
    pub fn append(&mut self, line: &str) -> Result<(), JournalError> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|error| JournalError::File { doing: "append to journal", path: self.path.clone(), error })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::End;

    fn run(name: &str) -> RunId {
        RunId::new(name).unwrap()
    }

    fn line(event: &Event) -> String {
        serde_json::to_string(&Record::now(event)).unwrap() + "\n"
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_last_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let journals = Journals::new(dir.path());
        let mut journal = journals.create(&run("fo-1")).unwrap();
        let events = [Event::Interrupted, Event::Ended { end: End::Interrupted }];
        for event in &events {
            journal.append(&line(event)).unwrap();
        }
        let read = |journals: &Journals| {
            journals.read(&run("fo-1")).unwrap().into_iter().map(|record| record.event).collect::<Vec<_>>()
        };
        assert_eq!(read(&journals), events);
        let whole = std::fs::read(journal.path()).unwrap();
        std::fs::write(journal.path(), &whole[..whole.len() - 3]).unwrap();
        assert_eq!(read(&journals), events[..1]);
    }

    #[test]
    fn a_journal_that_is_cut_off_at_any_byte_holds_the_events_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let journals = Journals::new(dir.path());
        let mut journal = journals.create(&run("fo-1")).unwrap();
        let step = |index| Event::StepStarted { index, step: "f\u{fc}nf\n\u{20ac}".into() };
        let events = [step(0), step(1), Event::Interrupted, Event::Ended { end: End::Interrupted }];
        let ends: Vec<usize> = events
            .iter()
            .map(|event| {
                let line = line(event);
                journal.append(&line).unwrap();
                line.len()
            })
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect();
        let whole = std::fs::read(journal.path()).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(journal.path(), &whole[..cut]).unwrap();
            let read = journals.read(&run("fo-1")).unwrap();
            let expected = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(
                read.iter().map(|record| &record.event).collect::<Vec<_>>(),
                events[..expected].iter().collect::<Vec<_>>()
            );
            // Taken up there, it goes on behind what is whole.
            let text = journals.text(&run("fo-1")).unwrap();
            journals.adopt(&run("fo-1"), &text).unwrap().append(&line(&Event::Interrupted)).unwrap();
            assert_eq!(journals.read(&run("fo-1")).unwrap().len(), expected + 1);
        }
    }

    #[test]
    fn damage_before_the_last_line_is_an_error_that_names_the_line() {
        let error = parse(b"{\"at_unix_ms\":1,\"event\":\"interrupted\"}\nrubbish\n{\"torn").unwrap_err();
        assert_eq!(error.0, 2);
    }

    #[test]
    fn a_run_has_one_journal() {
        let dir = tempfile::tempdir().unwrap();
        let journals = Journals::new(dir.path());
        journals.create(&run("fo-1")).unwrap();
        assert!(journals.create(&run("fo-1")).is_err());
        assert_eq!(journals.list().unwrap(), [run("fo-1")]);
        assert!(matches!(journals.read(&run("fo-2")), Err(JournalError::Unknown { .. })));
    }
}
