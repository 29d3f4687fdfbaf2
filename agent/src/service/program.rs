//! Short-lived helper programs: run one, bounded in time and output, and say in words how it ended.

use std::fs::File;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_proto::{Fault, FaultKind};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::exec::NOT_INHERITED;

/// Most output that is kept of a program: `systemctl` and `--version` print a few lines, and only those are quoted.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;
/// How long a program's output may trail behind its end. A daemon that it left behind may hold the pipe for ever.
const TRAILING_OUTPUT: Duration = Duration::from_millis(200);

/// A program that ended by itself.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    /// The last line of what it had to say, for a fault.
    pub(super) fn complaint(&self) -> String {
        let said =
            [&self.stderr, &self.stdout].into_iter().find_map(|text| text.lines().rfind(|l| !l.trim().is_empty()));
        match said {
            Some(line) => format!("{}: {}", outcome(self.status), line.trim()),
            None => outcome(self.status),
        }
    }
}

/// Says how a process ended.
pub(super) fn outcome(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Runs a program to its end. It is killed when it takes longer than `limit`.
///
/// With a `log` its output goes there instead of into the answer: for programs that leave a daemon behind, which keeps
/// what it inherited open.
pub(super) async fn run(argv: &[String], limit: Duration, log: Option<File>) -> Result<Finished, Fault> {
    let (name, args) = argv.split_first().ok_or_else(|| Fault::new(FaultKind::Invalid, "the command is empty"))?;
    let failed = |error: io::Error| Fault::new(FaultKind::Host, format!("run `{}`", argv.join(" "))).because(error);
    let mut command = Command::new(name);
    // A group of its own: what ends the agent from a terminal must not end what this program starts.
    command.args(args).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    match log {
        Some(file) => {
            command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        }
        None => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, mut out) = collect(child.stdout.take());
    let (stderr, mut err) = collect(child.stderr.take());
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.map_err(failed)?,
        Err(_) => {
            let fault = Fault::new(FaultKind::Host, format!("`{}` did not end within {limit:?}", argv.join(" ")));
            return Err(match text(&stderr).lines().last() {
                Some(line) => fault.because(line),
                None => fault,
            });
        }
    };
    let _ = tokio::time::timeout(TRAILING_OUTPUT, async {
        let _ = tokio::join!(&mut out, &mut err);
    })
    .await;
    out.abort();
    err.abort();
    Ok(Finished { status, stdout: text(&stdout), stderr: text(&stderr) })
}

type Collected = Arc<Mutex<Vec<u8>>>;

fn text(collected: &Collected) -> String {
    String::from_utf8_lossy(&collected.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Reads a pipe in the background, so that a full one does not hold the program up. What exceeds the bound is dropped.
fn collect<R: tokio::io::AsyncRead + Unpin + Send + 'static>(
    pipe: Option<R>,
) -> (Collected, tokio::task::JoinHandle<()>) {
    let collected = Collected::default();
    let kept = Arc::clone(&collected);
    let reading = tokio::spawn(async move {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len() as u64) as usize;
            kept.extend(buffer.iter().take(read.min(room)));
        }
    });
    (collected, reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|&w| w.to_owned()).collect()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_a_program_says_and_how_it_ends_is_told() {
        let finished = run(&argv(&["sh", "-c", "echo out; echo no way >&2; exit 3"]), LONG, None).await.unwrap();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "no way\n"));
        assert_eq!(finished.complaint(), "exited with status 3: no way");
        let killed = run(&argv(&["sh", "-c", "kill -9 $$"]), LONG, None).await.unwrap();
        assert_eq!(killed.complaint(), "was ended by signal 9");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_hangs_is_a_fault() {
        let missing = run(&argv(&["/nowhere/at-all"]), LONG, None).await.err().unwrap();
        assert!(missing.to_string().contains("/nowhere/at-all"), "{missing}");
        let hung = run(&argv(&["sleep", "60"]), Duration::from_millis(50), None).await.err().unwrap();
        assert!(hung.to_string().contains("did not end"), "{hung}");
        assert!(run(&[], LONG, None).await.is_err());
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_pipe_does_not_hold_us() {
        let argv = argv(&["sh", "-c", "sleep 5 & echo started"]);
        let finished =
            tokio::time::timeout(Duration::from_secs(4), run(&argv, LONG, None)).await.expect("waits for the daemon");
        assert_eq!(finished.unwrap().stdout, "started\n");
    }

    #[tokio::test]
    async fn more_output_than_is_kept_does_not_block_the_program() {
        let finished = run(&argv(&["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]), LONG, None).await.unwrap();
        assert_eq!(finished.stdout.len() as u64, OUTPUT_BYTES_MAX);
    }
}
