//! The programs under test: `coord` and `baton-agent`, beside the test's own executable. `tests/run` builds them once.
//!
//! With `BATON_NEIGHBOURS=DIR` another build's programs stand in DIR, and those that `BATON_NEIGHBOURS_ARE` names run from there:
//! `coord`, `agents`, or hosts by name. So every suite can be run with both builds beside each other: see `tests/neighbours`.

use std::path::{Path, PathBuf};

use baton_neighbour::VARIABLE;

/// A program as it is started.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    /// How it differs from its build, as `BATON_NEIGHBOUR` has it.
    plays: Option<String>,
}

impl Program {
    /// The program of this build, playing another release.
    pub fn playing(path: PathBuf, words: &str) -> Program {
        Program { path, plays: Some(words.into()) }
    }

    /// What has the program play, if it is to.
    pub fn environment(&self) -> Option<(&'static str, &str)> {
        self.plays.as_deref().map(|words| (VARIABLE, words))
    }
}

impl From<PathBuf> for Program {
    fn from(path: PathBuf) -> Program {
        Program { path, plays: None }
    }
}

/// Where the executables of this build are: `target/debug` or `target/release`.
pub fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("the path of the running test is known");
    let dir = own.parent().expect("an executable is in a directory");
    // Tests are in `target/debug/deps`, the programs one above.
    if dir.ends_with("deps") { dir.parent().expect("deps is in a directory").to_owned() } else { dir.to_owned() }
}

fn program(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing\nhint: run `tests/run`, or `cargo build -p baton-agent -p baton-coord` before the tests",
        path.display()
    );
    path
}

pub fn coord() -> PathBuf {
    program(&profile_dir(), "coord")
}

pub fn agent() -> PathBuf {
    program(&profile_dir(), "baton-agent")
}

/// The `coord` that a suite runs.
pub fn usual_coord() -> Program {
    neighbours_for(&["coord"]).map_or_else(coord, |dir| program(&dir, "coord")).into()
}

/// The agent that a suite runs on a host.
pub fn usual_agent(host: &str) -> Program {
    neighbours_for(&["agents", host]).map_or_else(agent, |dir| program(&dir, "baton-agent")).into()
}

/// Another build's programs: where there is none, this one's at another place, below `dir`.
pub fn other_build(dir: &Path) -> [PathBuf; 2] {
    let dir = neighbours().unwrap_or_else(|| {
        let other = dir.join("other-build");
        std::fs::create_dir_all(&other).expect("a directory for programs can be made");
        for path in [coord(), agent()] {
            let copy = other.join(path.file_name().expect("a program has a name"));
            if !copy.exists() && std::fs::hard_link(&path, &copy).is_err() {
                std::fs::copy(&path, &copy).expect("a program can be copied");
            }
        }
        other
    });
    ["coord", "baton-agent"].map(|name| program(&dir, name))
}

fn neighbours() -> Option<PathBuf> {
    std::env::var_os("BATON_NEIGHBOURS").map(PathBuf::from)
}

fn neighbours_for(names: &[&str]) -> Option<PathBuf> {
    let who = std::env::var("BATON_NEIGHBOURS_ARE").unwrap_or_default();
    neighbours().filter(|_| who.split_whitespace().any(|word| names.contains(&word)))
}
