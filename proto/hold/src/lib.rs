//! Points at which a program stops for a test: to be killed there, or to have something else happen first.
//!
//! A program that runs with `BATON_HOLD=DIR` stops at the point `NAME` while `DIR/NAME` exists. It says that it has come
//! there by `DIR/NAME.held`, and goes on when the test has removed `DIR/NAME`. Release builds have no such points.

#[cfg(debug_assertions)]
use std::path::{Path, PathBuf};
#[cfg(debug_assertions)]
use std::time::Duration;

/// The variable that names the directory.
pub const VARIABLE: &str = "BATON_HOLD";

/// How often a program that is held looks whether it may go on.
#[cfg(debug_assertions)]
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Stops here if a test wants it.
#[cfg(debug_assertions)]
pub async fn at(point: impl FnOnce() -> String) {
    if let Some(dir) = std::env::var_os(VARIABLE) {
        held_in(Path::new(&dir), &point()).await;
    }
}

/// Nothing: this is a release build.
#[cfg(not(debug_assertions))]
pub async fn at(_: impl FnOnce() -> String) {}

/// The same on a thread that may block, for work on files.
#[cfg(debug_assertions)]
pub fn at_blocking(point: impl FnOnce() -> String) {
    if let Some(dir) = std::env::var_os(VARIABLE) {
        blocked_in(Path::new(&dir), &point());
    }
}

/// Nothing: this is a release build.
#[cfg(not(debug_assertions))]
pub fn at_blocking(_: impl FnOnce() -> String) {}

#[cfg(debug_assertions)]
async fn held_in(dir: &Path, point: &str) {
    let Some(held) = Held::at(dir, point) else { return };
    while held.wanted.exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(debug_assertions)]
fn blocked_in(dir: &Path, point: &str) {
    let Some(held) = Held::at(dir, point) else { return };
    while held.wanted.exists() {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A program that has come to a point that is wanted.
#[cfg(debug_assertions)]
struct Held {
    wanted: PathBuf,
    said: PathBuf,
}

#[cfg(debug_assertions)]
impl Held {
    fn at(dir: &Path, point: &str) -> Option<Self> {
        let (wanted, said) = (dir.join(point), dir.join(format!("{point}.held")));
        if !wanted.exists() {
            return None;
        }
        // Where it cannot be said that the program has come here, the test that waits for it fails.
        let _ = std::fs::write(&said, "");
        Some(Self { wanted, said })
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.said);
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_waits_at_a_point_that_is_wanted_and_passes_every_other() {
        let dir = tempfile::tempdir().unwrap();
        held_in(dir.path(), "gate-before").await;
        let wanted = dir.path().join("gate-before");
        std::fs::write(&wanted, "").unwrap();
        let path = dir.path().to_owned();
        let program = tokio::spawn(async move { held_in(&path, "gate-before").await });
        while !dir.path().join("gate-before.held").exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert!(!program.is_finished());
        std::fs::remove_file(&wanted).unwrap();
        program.await.unwrap();
        assert!(!dir.path().join("gate-before.held").exists());
    }
    #[test]
    fn a_thread_waits_as_well() {
        let dir = tempfile::tempdir().unwrap();
        blocked_in(dir.path(), "place-link");
        let wanted = dir.path().join("place-link");
        std::fs::write(&wanted, "").unwrap();
        let path = dir.path().to_owned();
        let program = std::thread::spawn(move || blocked_in(&path, "place-link"));
        while !dir.path().join("place-link.held").exists() {
            std::thread::sleep(LOOK_EVERY);
        }
        assert!(!program.is_finished());
        std::fs::remove_file(&wanted).unwrap();
        program.join().unwrap();
        assert!(!dir.path().join("place-link.held").exists());
    }
}
