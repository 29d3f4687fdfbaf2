//! Servers that the agent itself starts.
//!
//! Such a server has a process group of its own and outlives the agent. The agent starts it on order only, and never
//! again by itself: a primary that comes back empty wipes its replicas. Its end is noticed at once while the agent
//! lives, and it is reaped; afterwards it is a process like any other, found by asking the server.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;
use tokio::sync::watch;
use tracing::info;

use super::program;

/// Size from which a server's collected output is put aside before its next start. Output is small where the server has
/// a `logfile`; where it has none, this bounds it to twice that, and a start at a time.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Variables of the agent's own service that a server, or `systemctl`, would take for its own.
pub(super) const NOT_INHERITED: &[&str] =
    &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"];

/// A program that was started and is watched.
#[derive(Debug)]
pub(super) struct Child {
    exited: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exited.borrow()
    }
}

/// Starts a program in `dir`, its output appended to `log`.
pub(super) fn spawn(argv: &[String], dir: &Path, log: &Path) -> io::Result<Child> {
    let (name, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let log = open_log(log)?;
    let mut command = Command::new(name);
    command.args(args).current_dir(dir).process_group(0).kill_on_drop(false);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    let mut child = command.spawn()?;
    let (sender, exited) = watch::channel(None);
    let (program, pid) = (name.clone(), child.id().unwrap_or_default());
    tokio::spawn(async move {
        if let Ok(status) = child.wait().await {
            info!(program, pid, "{}", program::outcome(status));
            sender.send_replace(Some(status));
        }
    });
    Ok(Child { exited })
}

/// Opens a server's collected output for appending.
pub(super) fn open_log(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|&w| w.to_owned()).collect()
    }

    #[tokio::test]
    async fn the_end_of_a_program_is_noticed_and_its_output_collected() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        for _ in 0..2 {
            let mut child = spawn(&argv(&["sh", "-c", "pwd; echo bad >&2; exit 7"]), dir.path(), &log).unwrap();
            let status = *child.exited.wait_for(Option::is_some).await.unwrap();
            assert_eq!(program::outcome(status.unwrap()), "exited with status 7");
        }
        let here = dir.path().canonicalize().unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("{}\nbad\n", here.display()).repeat(2));
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(spawn(&argv(&["/nowhere/redis-server"]), dir.path(), &dir.path().join("x.log")).is_err());
        assert!(spawn(&[], dir.path(), &dir.path().join("x.log")).is_err());
    }

    #[test]
    fn a_large_log_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("default.log");
        File::create(&log).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        assert_eq!(open_log(&log).unwrap().metadata().unwrap().len(), 0);
        assert!(dir.path().join("default.log.1").exists());
    }
}
