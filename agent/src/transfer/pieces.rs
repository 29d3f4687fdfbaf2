//! Reading and writing of a chunk in short calls. What a server kernel does for a thread it does to the end of the call,
//! whoever waits for the core: a chunk in one call holds it for milliseconds, even on behalf of a thread that is to run
//! only where a core is idle.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Most bytes of one call: some ten microseconds of copying, beside which the cost of the call itself is little.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// Writes all bytes at this offset.
pub(super) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    for piece in bytes.chunks(PIECE_BYTES) {
        file.write_all_at(piece, at)?;
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(())
}

/// Fills the buffer from this offset.
pub(super) fn read(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    for piece in bytes.chunks_mut(PIECE_BYTES) {
        file.read_exact_at(piece, at)?;
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_at_an_offset_is_read_from_there_at_every_length() {
        let file = tempfile::tempfile().unwrap();
        for bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7] {
            let written: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
            write(&file, &written, 1000).unwrap();
            let mut found = vec![0; bytes];
            read(&file, &mut found, 1000).unwrap();
            assert!(found == written, "{bytes} bytes");
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_said_to() {
        let file = tempfile::tempfile().unwrap();
        write(&file, &vec![1; 2 * PIECE_BYTES], 0).unwrap();
        let error = read(&file, &mut vec![0; 2 * PIECE_BYTES], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
