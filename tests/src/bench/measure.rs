//! The measurements, one file a subcommand. Each makes its own hosts, and yields sections.

pub mod civility;
pub mod clone;
pub mod failover;
pub mod fifty;
pub mod latency;
pub mod links;
pub mod memory;
pub mod resume;
pub mod save;
pub mod switchover;

use crate::bench::files::{FileKind, Snapshot};
use crate::bench::lab::Lab;
use crate::bench::network::Kind;
use crate::servers::ServerProgram;

/// What all measurements are told.
#[derive(Debug, Clone)]
pub struct Setting {
    pub program: ServerProgram,
    pub repetitions: usize,
    /// Congestion control of TCP, if not the machine's own.
    pub tcp: Option<String>,
    /// Files and link, where a person chose others than the measurement's own.
    pub files: Vec<FileKind>,
    pub link: Option<Kind>,
}

impl Setting {
    fn lab(&self, kind: Kind) -> anyhow::Result<Lab> {
        Lab::new(kind, self.tcp.as_deref(), &self.program)
    }

    fn snapshot(&self, kind: FileKind) -> anyhow::Result<Snapshot> {
        Snapshot::of(kind, &self.program)
    }

    /// The chosen files, or these.
    fn files_or(&self, own: &[FileKind]) -> Vec<FileKind> {
        if self.files.is_empty() { own.to_vec() } else { self.files.clone() }
    }

    /// The one file of a measurement that takes one.
    fn file_or(&self, own: FileKind) -> FileKind {
        self.files.first().copied().unwrap_or(own)
    }
}

/// Says on stderr what is being done, since a run takes long.
pub(crate) fn say(text: &str) {
    eprintln!("bench: {text}");
}
