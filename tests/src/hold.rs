//! Points at which a program of a debug build stops until a test lets it go: see `proto/hold`.
//!
//! `coord` has a point before and after each step, such as `gate-before`; an agent before and after each action of an order,
//! such as `pull-after`. Every program that the harness starts looks in `hold/` below its home: that of `coord` is the
//! world's directory, an agent's its host's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wait::wait_until;

/// A point that is set. Dropped, the program goes on.
#[derive(Debug)]
pub struct Hold {
    wanted: PathBuf,
}

impl Hold {
    /// Has the program with this home stop at a point from now on.
    pub fn set(home: &Path, point: &str) -> Self {
        let dir = dir(home);
        fs::create_dir_all(&dir).expect("the directory of holds can be made");
        let wanted = dir.join(point);
        fs::write(&wanted, "").expect("a hold can be set");
        Self { wanted }
    }

    /// Whether the program has come there.
    pub fn is_held(&self) -> bool {
        self.wanted.with_added_extension("held").exists()
    }

    /// Waits until the program has come there.
    #[track_caller]
    pub fn wait(&self) {
        wait_until(&format!("a program comes to {}", self.wanted.display()), || self.is_held());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.wanted);
        let _ = fs::remove_file(self.wanted.with_added_extension("held"));
    }
}

/// Where a program with this home looks.
pub fn dir(home: &Path) -> PathBuf {
    home.join("hold")
}
