//! Runs `coord` as an operator would, in the directory of coord.toml, without a terminal, and keeps what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Process, hermetic, signal};
use crate::programs::{self, Program};
use crate::wait::{PATIENCE, wait_for, wait_within};

/// Exit codes of `coord`.
pub mod code {
    pub const DONE: i32 = 0;
    pub const USAGE: i32 = 2;
    pub const PREFLIGHT: i32 = 3;
    pub const REFUSED: i32 = 4;
    pub const DEGRADED: i32 = 5;
    pub const ROLLED_BACK: i32 = 6;
    pub const STOPPED: i32 = 7;
    pub const VERIFICATION: i32 = 8;
    pub const INTERRUPTED: i32 = 130;
}

/// Numbers the output files of one process's runs.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A `coord` that runs.
#[derive(Debug)]
pub struct Running {
    process: Process,
    command: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A `coord` that has ended.
#[derive(Debug, Clone)]
pub struct Said {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Starts `coord` below `dir`.
pub fn start(dir: &Path, args: &[&str]) -> Running {
    start_program(&programs::usual_coord(), dir, args)
}

/// The same with a `coord` of one's choice.
pub fn start_program(program: &Program, dir: &Path, args: &[&str]) -> Running {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (stdout, stderr) = (dir.join(format!("coord-{number}.stdout")), dir.join(format!("coord-{number}.log")));
    let mut command = hermetic(&program.path, dir);
    command.args(args).envs(program.environment());
    let process = Process::start_split(command, &stdout, &stderr);
    Running { process, command: format!("coord {}", args.join(" ")), stdout, stderr }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it said, if it has ended; the code is -1 if a signal ended it.
    pub fn ended(&mut self) -> Option<Said> {
        let status = self.process.ended()?;
        Some(self.said(status.code().unwrap_or(-1)))
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn wait(self) -> Said {
        self.wait_within(PATIENCE)
    }

    /// The same for one that itself waits for long.
    #[track_caller]
    pub fn wait_within(mut self, patience: Duration) -> Said {
        let fact = format!("`{}` ends", self.command);
        let status = wait_within(patience, &fact, || self.process.ended().ok_or_else(|| self.said(0).to_string()));
        self.said(status.code().unwrap_or(-1))
    }

    /// The `--json` events so far.
    pub fn events(&self) -> Vec<Value> {
        self.said(0).events()
    }

    /// The run's name, as soon as one of its events tells it.
    #[track_caller]
    pub fn run(&self) -> String {
        wait_for(&format!("`{}` names its run", self.command), || {
            let named = self.events().iter().find_map(|event| event["run"].as_str().map(str::to_owned));
            named.ok_or_else(|| self.said(0).to_string())
        })
    }

    /// Stops it as it is, or lets it go on.
    pub fn signal(&self, kind: Signal) {
        signal(self.process.pid(), kind);
    }

    /// What it wrote so far, to both outputs.
    pub fn so_far(&self) -> Said {
        self.said(0)
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        signal(self.process.pid(), Signal::INT);
    }

    /// Kills it, as a lost session would.
    pub fn kill(self) {
        self.process.kill();
    }

    fn said(&self, code: i32) -> Said {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Said { command: self.command.clone(), code, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Said {
    /// The `--json` events; the last line may still be in the making.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last event, which tells how the run ended.
    #[track_caller]
    pub fn result(&self) -> Value {
        let found = self.events().into_iter().rfind(|event| event["event"] == "result");
        found.unwrap_or_else(|| panic!("there is no result event\n{self}"))
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{self}");
        self
    }

    /// Asserts that both outputs together hold all these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(all.contains(word), "`{word}` is not said\n{self}");
        }
        self
    }

    /// The run's name, out of the result event.
    #[track_caller]
    pub fn run(&self) -> String {
        self.result()["run"].as_str().unwrap_or_else(|| panic!("the result names no run\n{self}")).to_owned()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}\n--- exit code {}; stdout:", self.command, self.code)?;
        writeln!(f, "{}\n--- stderr:\n{}\n---", self.stdout.trim_end(), self.stderr.trim_end())
    }
}
