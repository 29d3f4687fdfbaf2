//! The host: memory, cores, clock, free space.

use std::path::Path;

/// Bytes that this process may still write below `dir`, less `reserve_bytes`.
pub fn free_bytes(dir: &Path, reserve_bytes: u64) -> std::io::Result<u64> {
    unimplemented!()
}
