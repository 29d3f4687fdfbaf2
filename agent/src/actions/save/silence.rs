//! How long a save may go on without a sign of life. A server that writes by SAVE answers nobody, and a child may outlive
//! its server: only the file then tells that there is still something to wait for.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::super::stamp::Stamp;
use super::candidates;
use crate::blocking::blocking;

/// How long a silent server's file may stand still: what is left of a save by then is to sync it.
pub(in crate::actions) const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// What is seen of a server that does not answer: the files that are being written in its directory.
pub(super) struct Silence {
    dir: PathBuf,
    files: Vec<Stamp>,
    /// When the server answered, or a file changed, for the last time.
    since: Instant,
}

impl Silence {
    /// Begins with a server that has just been heard of.
    pub(super) fn new(dir: PathBuf) -> Silence {
        Silence { dir, files: Vec::new(), since: Instant::now() }
    }

    /// The server has answered.
    pub(super) fn heard(&mut self) {
        self.since = Instant::now();
    }

    /// Looks at the files, since the server does not answer.
    pub(super) async fn look(&mut self) {
        let dir = self.dir.clone();
        let files = blocking(move || candidates::all(&dir)).await.flatten().unwrap_or_default();
        if files != self.files {
            (self.files, self.since) = (files, Instant::now());
        }
    }

    /// Whether there is a file that a save may be writing.
    pub(super) fn sees_files(&self) -> bool {
        !self.files.is_empty()
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.since.elapsed() >= SILENCE_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Lets time pass, and looks.
    async fn later(silence: &mut Silence) -> bool {
        tokio::time::advance(SILENCE_TIMEOUT / 2).await;
        silence.look().await;
        silence.is_too_long()
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_grows_and_an_answer_end_a_silence_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut silence = Silence::new(dir.path().to_owned());
        assert!(!later(&mut silence).await && !silence.sees_files());
        for text in ["", "RE", "REDIS"] {
            fs::write(dir.path().join("temp-7.rdb"), text).unwrap();
            assert!(!later(&mut silence).await && silence.sees_files());
        }
        assert!(!later(&mut silence).await);
        silence.heard();
        assert!(!later(&mut silence).await);
        fs::write(dir.path().join("appendonly.aof"), "no save").unwrap();
        assert!(later(&mut silence).await);
    }
}
