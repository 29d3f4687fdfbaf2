//! The snapshots that are moved: written once by a real server's `SAVE`, and kept for the next run.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};

use crate::dataset::{Dataset, Mix};
use crate::host::Host;
use crate::programs::profile_dir;
use crate::servers::ServerProgram;

/// Changes whenever the data sets do, so that files of an older generator are not taken for today's.
const GENERATION: u32 = 1;
const SEED: u64 = 1;

/// Which data, and how large the snapshot is to be, in millions of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    pub mix: Mix,
    pub megabytes: u64,
}

impl FileKind {
    pub const fn new(mix: Mix, megabytes: u64) -> Self {
        Self { mix, megabytes }
    }

    fn dataset(self) -> Dataset {
        // Bytes of data for a thousand bytes of snapshot, as measured on Redis 7.0. Only the size asked for hangs on it: the
        // figures are made of the file's true size.
        let per_mille = match self.mix {
            Mix::Mixed => 1064,
            Mix::Json => 1006,
            Mix::Random => 996,
        };
        Dataset { seed: SEED, bytes: self.megabytes * 1000 * per_mille, mix: self.mix }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mix = match self.mix {
            Mix::Mixed => "mixed",
            Mix::Json => "json",
            Mix::Random => "random",
        };
        write!(f, "{mix}-{}", self.megabytes)
    }
}

impl FromStr for FileKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is no file: write mixed-525, json-525 or random-2000, in MB");
        let (mix, megabytes) = text.split_once('-').ok_or_else(unknown)?;
        let mix = match mix {
            "mixed" => Mix::Mixed,
            "json" => Mix::Json,
            "random" => Mix::Random,
            _ => return Err(unknown()),
        };
        let megabytes = megabytes.parse().ok().filter(|megabytes| *megabytes > 0).ok_or_else(unknown)?;
        Ok(Self { mix, megabytes })
    }
}

/// A snapshot on disk.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub kind: FileKind,
    pub path: PathBuf,
    pub bytes: u64,
    digest: blake3::Hash,
}

impl Snapshot {
    /// Finds the snapshot of a kind, or has a server write it.
    pub fn of(kind: FileKind, program: &ServerProgram) -> anyhow::Result<Self> {
        let dir = cache_dir()?;
        let path = dir.join(format!("{kind}.g{GENERATION}.{}.rdb", program.version).replace(' ', "-"));
        if !path.is_file() {
            eprintln!("bench: making {}", path.display());
            make(kind, program, &path)?;
        }
        let (bytes, digest) = (fs::metadata(&path)?.len(), digest_of(&path)?);
        Ok(Self { kind, path, bytes, digest })
    }

    /// Reads the whole file, so that every peer finds it in the page cache.
    pub fn warm(&self) -> anyhow::Result<()> {
        let mut file = File::open(&self.path)?;
        let mut buffer = vec![0; 1 << 20];
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Fails unless the file at `path` holds the same bytes.
    pub fn verify(&self, path: &Path) -> anyhow::Result<()> {
        ensure!(digest_of(path)? == self.digest, "{} is not what was sent", path.display());
        Ok(())
    }

    pub fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

/// Where snapshots are kept: beside the build, as `target/bench-data`.
fn cache_dir() -> anyhow::Result<PathBuf> {
    let profile = profile_dir();
    let target = profile.parent().context("the build's directory has a parent")?;
    let dir = target.join("bench-data");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}

fn digest_of(path: &Path) -> anyhow::Result<blake3::Hash> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(blake3::Hasher::new().update_reader(file)?.finalize())
}

fn make(kind: FileKind, program: &ServerProgram, path: &Path) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("baton-").tempdir()?;
    let host = Host::new(dir.path(), "machine-b", crate::address::fresh(), program.clone());
    host.start_server();
    kind.dataset().load(&mut host.client());
    host.client().call(&["SAVE"]);
    fs::rename(host.dump_path(), path).with_context(|| format!("move the dump to {}", path.display()))?;
    host.kill_server();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_mix_and_its_size() {
        for name in ["mixed-525", "json-60", "random-2000"] {
            assert_eq!(name.parse::<FileKind>().unwrap().to_string(), name);
        }
        for name in ["", "mixed", "mixed-", "mixed-0", "text-5", "mixed-x"] {
            assert!(name.parse::<FileKind>().is_err(), "{name}");
        }
    }
}
