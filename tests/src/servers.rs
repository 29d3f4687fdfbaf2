//! The server programs that the suites run: those that `tests/servers` gets, or one that a person names.

use std::path::{Path, PathBuf};
use std::process::Command;

use baton_proto::version::{Product, ServerVersion};

use crate::programs::profile_dir;

/// The names that `tests/servers` gives.
pub const REDIS_6_2: &str = "redis-6.2";
pub const REDIS_7_0: &str = "redis-7.0";
pub const VALKEY_9_1: &str = "valkey-9.1";

/// Those of them that speak TLS. Redis 6.2 and Valkey 9.1 come out of wheels that were built without it.
pub const BUILT_WITH_TLS: [&str; 1] = [REDIS_7_0];
pub const BUILT_WITHOUT_TLS: [&str; 2] = [REDIS_6_2, VALKEY_9_1];

/// A server program and its version.
#[derive(Debug, Clone)]
pub struct ServerProgram {
    pub path: PathBuf,
    pub version: ServerVersion,
}

impl ServerProgram {
    /// Finds one that `tests/servers` got. A missing one fails the test: a suite that skips in silence proves nothing.
    pub fn named(name: &str) -> Self {
        let found = profile_dir().ancestors().map(|dir| dir.join("servers").join(name)).find(|dir| dir.is_dir());
        let dir = found.unwrap_or_else(|| panic!("there is no server `{name}`\nhint: run `tests/servers`"));
        Self::at(&dir.join("bin/redis-server")).unwrap_or_else(|error| panic!("{error}\nhint: run `tests/servers`"))
    }

    /// Asks a program for its version.
    pub fn at(path: &Path) -> Result<Self, String> {
        let asked = Command::new(path).arg("--version").output();
        let output = asked.map_err(|error| format!("{} does not run: {error}", path.display()))?;
        let banner = String::from_utf8_lossy(&output.stdout);
        let version = ServerVersion::from_banner(&banner).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), version })
    }

    /// Takes what a person names: a path, or a name of `tests/servers`. Without a name, the machine's own server.
    pub fn chosen(name: Option<&str>) -> Result<Self, String> {
        match name {
            Some(path) if path.contains('/') => Self::at(Path::new(path)),
            Some(name) => Ok(Self::named(name)),
            None => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
                let programs = ["redis-server", "valkey-server"];
                let candidates = programs.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
                let found = candidates.into_iter().find(|candidate| candidate.is_file());
                found.map_or_else(|| Ok(Self::named(REDIS_7_0)), |path| Self::at(&path))
            }
        }
    }

    /// Whether functions, `enable-debug-command` and the multi-part append-only file are there.
    pub fn is_7_or_later(&self) -> bool {
        self.version.product == Product::Valkey || self.version.major >= 7
    }
}
