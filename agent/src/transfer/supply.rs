//! How much of a snapshot has arrived that can be used at once, from its beginning on.

/// What whoever reads a snapshot while it arrives may rely on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supply {
    /// Bytes without a gap, each chunk verified. It shrinks once if what an earlier attempt left turns out to be wrong.
    pub held_bytes: u64,
    /// Whether these are all, and the whole file was verified.
    pub verified: bool,
}
