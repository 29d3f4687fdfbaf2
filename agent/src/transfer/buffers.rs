//! Buffers of a chunk's size that are used again. A fresh one of 4 MiB costs the kernel a thousand page faults, and the
//! zeroing of as many pages: more than hashing it.
//!
//! Nobody waits for the stock: a worker that runs only where a core is idle may stop in the middle of taking from it, and
//! the network would stop with it. Whoever finds it taken makes a buffer, or drops one.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Most idle buffers kept: what is in use at a time on a busy line.
const IDLE_MAX: usize = 8;

/// A stock of buffers. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// Takes a buffer of this length; what it holds is left from an earlier use.
    pub(super) fn take(&self, bytes: usize) -> Buffer {
        let mut idle = self.stock().and_then(|mut stock| stock.pop()).unwrap_or_default();
        if idle.len() < bytes {
            idle.resize(bytes, 0);
        }
        Buffer { bytes: idle, length: bytes, home: self.clone() }
    }

    /// The stock, unless somebody is at it.
    fn stock(&self) -> Option<MutexGuard<'_, Vec<Vec<u8>>>> {
        match self.0.try_lock() {
            Ok(stock) => Some(stock),
            // The list is whole between any two statements, so a panic elsewhere does not spoil it.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A buffer, which goes back when it is dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl Buffer {
    /// Shortens what counts of it.
    pub(super) fn truncate(&mut self, bytes: usize) {
        self.length = self.length.min(bytes);
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(mut stock) = self.home.stock()
            && stock.len() < IDLE_MAX
        {
            stock.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_at_the_length_that_is_asked_for() {
        let buffers = Buffers::default();
        let mut first = buffers.take(10);
        first.copy_from_slice(b"0123456789");
        let at = first.as_ptr();
        first.truncate(4);
        assert_eq!(&*first, b"0123");
        drop(first);
        let again = buffers.take(6);
        assert_eq!((again.as_ptr(), again.len()), (at, 6));
        assert_eq!(buffers.take(3).len(), 3);
    }

    #[test]
    fn nobody_waits_for_whoever_is_at_the_stock() {
        let buffers = Buffers::default();
        let held = buffers.0.lock().unwrap();
        // It would hang here.
        assert_eq!(buffers.take(3).len(), 3);
        assert_eq!(held.len(), 0, "and the buffer is dropped");
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let buffers = Buffers::default();
        drop((0..3 * IDLE_MAX).map(|_| buffers.take(1)).collect::<Vec<_>>());
        assert_eq!(buffers.0.lock().unwrap().len(), IDLE_MAX);
    }
}
