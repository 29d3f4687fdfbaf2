//! A host's clock, which a test can have jump: a small library that is preloaded into its agent and its server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clock of one host. Until it jumps it is right.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Makes a clock for what works below a directory.
    pub fn below(dir: &Path) -> Self {
        let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
        fs::write(&source, include_str!("clock.c")).expect("the clock's source can be written");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        assert!(built.is_ok_and(|status| status.success()), "cc makes the clock; `tests/servers` installs it");
        let clock = Self { library, offset: dir.join("clock.offset") };
        clock.jump(0);
        clock
    }

    /// Puts the clock so many seconds before or behind the right time.
    pub fn jump(&self, seconds: i64) {
        let new = self.offset.with_extension("new");
        fs::write(&new, seconds.to_string()).and_then(|()| fs::rename(&new, &self.offset)).expect("the clock jumps");
    }

    /// Has a program go by this clock.
    pub fn keep(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("BATON_CLOCK", &self.offset);
    }
}
