//! What a server said since a moment: the reason that its answers do not give. A failed `SAVE` says `-ERR` and nothing
//! more, and a server that cannot load its dump just exits; the reason is in the log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_proto::Fault;

use super::program;
use crate::config::ServiceConfig;
use crate::instance::Instance;
use crate::server::Server;

/// How much of a log is looked at: some hundred lines.
const TAIL_BYTES_MAX: u64 = 32 * 1024;
/// Most lines that are quoted, so that a fault stays readable.
const LINES_MAX: usize = 6;
/// How long `journalctl` may take; it is asked when something has failed already.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A place in an instance's logs: what is written from here on can be quoted later.
#[derive(Debug)]
pub struct LogMark {
    files: Vec<(PathBuf, u64)>,
    journal: Option<String>,
    since: SystemTime,
}

/// Where the output of a server that the agent starts is collected.
pub(super) fn own_log(instance: &Instance) -> PathBuf {
    instance.state_dir().join(format!("{}.log", instance.name()))
}

impl LogMark {
    /// Marks the present end of the logs. A server that is asked knows best where it logs to; else its configuration
    /// file says so.
    pub async fn now(instance: &Instance, server: Option<&mut Server>) -> LogMark {
        let mut logfile = None;
        let mut dir = None;
        if let Some(server) = server {
            logfile = server.config("logfile").await.ok().flatten();
            dir = server.config("dir").await.ok().flatten();
        }
        if let (None, Ok(conf)) = (&logfile, instance.conf()) {
            logfile = conf.last("logfile").and_then(|args| args.first().cloned());
            dir = Some(conf.dir().to_string_lossy().into_owned());
        }
        let mut files = Vec::new();
        let mut journal = None;
        if let Some(logfile) = logfile.filter(|name| !name.is_empty()) {
            // A server opens its log anew for each line, relative to where it is then: its data directory.
            let base = dir.map_or_else(|| instance.conf_dir().to_owned(), |dir| instance.conf_dir().join(dir));
            files.push(base.join(logfile));
        }
        match &instance.config().service {
            ServiceConfig::Systemd(unit) => journal = Some(unit.clone()),
            ServiceConfig::Exec(_) | ServiceConfig::Command { .. } => files.push(own_log(instance)),
        }
        let end = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let files = files.into_iter().map(|path| (end(&path), path)).map(|(end, path)| (path, end)).collect();
        LogMark { files, journal, since: SystemTime::now() }
    }

    /// The lines written since that say most about a failure, oldest first.
    pub async fn tail(&self) -> Vec<String> {
        for (path, from) in &self.files {
            let lines = telling(&read_from(path, *from).unwrap_or_default());
            if !lines.is_empty() {
                return lines;
            }
        }
        match &self.journal {
            Some(unit) => telling(&self.read_journal(unit).await.unwrap_or_default()),
            None => Vec::new(),
        }
    }

    /// Adds what the log says to a fault.
    pub async fn explain(&self, mut fault: Fault) -> Fault {
        let lines = self.tail().await;
        if lines.is_empty() {
            return fault.because(format!("nothing about it in {}", self.places()));
        }
        for line in lines {
            fault = fault.because(line);
        }
        fault
    }

    fn places(&self) -> String {
        let files = self.files.iter().map(|(path, _)| path.display().to_string());
        let journal = self.journal.iter().map(|unit| format!("the journal of {unit}"));
        files.chain(journal).collect::<Vec<_>>().join(" or ")
    }

    async fn read_journal(&self, unit: &str) -> Option<String> {
        let since = self.since.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let argv =
            ["journalctl", "-u", unit, "-n", "50", "-o", "cat", "-q", "--no-pager", "--since", &format!("@{since}")];
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        Some(program::run(&argv, JOURNAL_TIMEOUT, None).await.ok()?.stdout)
    }
}

fn read_from(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    // A log that became shorter was rotated: all of it is new.
    let from = if end < from { 0 } else { from }.max(end.saturating_sub(TAIL_BYTES_MAX));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What servers say at every start, as warnings, and that explains nothing.
const NOISE: &[&str] = &[
    "WARNING",
    "oO0OoO",
    "Configuration loaded",
    "Server initialized",
    "Ready to accept connections",
    "bits, commit=",
    "just started",
    "no config file specified",
];

/// Picks the lines that say why: the last warnings, or the last lines where there is none.
fn telling(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_banner(line));
    let lines: Vec<&str> = lines.filter(|line| !NOISE.iter().any(|noise| line.contains(noise))).collect();
    let warnings: Vec<&str> = lines.iter().copied().filter(|line| line.contains(" # ")).collect();
    let chosen = if warnings.is_empty() { lines } else { warnings };
    let skip = chosen.len().saturating_sub(LINES_MAX);
    chosen.into_iter().skip(skip).map(str::to_owned).collect()
}

/// The picture that servers print at their start.
fn is_banner(line: &str) -> bool {
    ["_._", ".-`", "`-.", "|`-", "PID:", "Port:", "Running in", "https://", "http://"]
        .iter()
        .any(|art| line.contains(art))
        && !line.contains(" # ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED_SAVE: &str = "\
1234:M 22 Nov 2026 18:05:55.004 * Connecting to MASTER 127.0.0.1:1
1234:M 22 Nov 2026 18:05:55.042 # Write error saving DB on disk(rdbSaveRio): No space left on device
1234:M 22 Nov 2026 18:05:56.042 * MASTER <-> REPLICA sync started
";

    #[test]
    fn warnings_are_quoted_before_chatter() {
        let lines = telling(FAILED_SAVE);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("No space left on device"));
    }

    #[test]
    fn a_configuration_error_is_quoted_without_the_noise_of_a_start() {
        let text = "1:C 22 Nov 2026 18:05:55.004 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo\n\
                    \x20         _.-``    `.  `_.  ''-._           Redis 6.2.14 (40305114/0) 64 bit\n\
                    *** FATAL CONFIG FILE ERROR (Redis 6.2.14) ***\nReading the configuration file, at line 10\n\
                    >>> 'replicaof'\nBad directive or wrong number of arguments\n";
        let lines = telling(text);
        assert_eq!(lines.first().unwrap(), "*** FATAL CONFIG FILE ERROR (Redis 6.2.14) ***");
        assert_eq!(lines.last().unwrap(), "Bad directive or wrong number of arguments");
    }

    #[test]
    fn only_what_came_after_the_mark_is_read_even_if_the_log_was_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        std::fs::write(&path, "before\nafter\n").unwrap();
        assert_eq!(read_from(&path, 7).unwrap(), "after\n");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(read_from(&path, 7).unwrap(), "new\n");
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert_eq!(read_from(&path, 0).unwrap().len() as u64, TAIL_BYTES_MAX);
    }

    #[test]
    fn no_more_lines_are_quoted_than_a_person_reads() {
        let text = (0..50).map(|i| format!("line {i}\n")).collect::<String>();
        let lines = telling(&text);
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines.last().unwrap(), "line 49");
    }
}
