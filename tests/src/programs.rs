//! The programs under test: `coord` and `baton-agent`, beside the test's own executable. `tests/run` builds them once.

use std::path::PathBuf;

/// Where the executables of this build are: `target/debug` or `target/release`.
pub fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("the path of the running test is known");
    let dir = own.parent().expect("an executable is in a directory");
    // Tests are in `target/debug/deps`, the programs one above.
    if dir.ends_with("deps") { dir.parent().expect("deps is in a directory").to_owned() } else { dir.to_owned() }
}

fn program(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    assert!(
        path.is_file(),
        "{} is missing\nhint: run `tests/run`, or `cargo build -p baton-agent -p baton-coord` before the tests",
        path.display()
    );
    path
}

pub fn coord() -> PathBuf {
    program("coord")
}

pub fn agent() -> PathBuf {
    program("baton-agent")
}
