//! How fast the line takes what is packed, as far as it is known.

use std::time::Duration;

/// For how long a measured arrival counts: long enough for some chunks on a slow line, short enough to see it change.
const MEMORY: Duration = Duration::from_secs(1);
/// Most that is hoped for, beyond what is known.
const HOPE_MAX: f64 = 1.25;

/// How fast bytes arrive. While packing waits for the wire, what arrives is what the wire (and all that is behind it)
/// takes. Else the transport's estimate stands, and a little more for each chunk: only what is tried is known. While the
/// transport still finds more, nothing is known: the wire that a chunk meets is several times faster than what was seen.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) path: f64,
    pub(super) grows: bool,
    pub(super) hope: f64,
    pub(super) bytes: f64,
    pub(super) seconds: f64,
    pub(super) waits: bool,
    /// The last arrival while packing waits. The first one only begins: nobody knows when its bytes began to arrive.
    pub(super) since: Option<Duration>,
}

impl Wire {
    pub(super) fn rate(&self) -> Option<f64> {
        let measured = (self.seconds > 0.0 && self.bytes > 0.0).then(|| self.bytes / self.seconds);
        let path = (self.path > 0.0).then_some(self.path);
        let known = if self.waits { measured.or(path) } else { path.or(measured) };
        known.filter(|_| !self.grows).map(|rate| rate * self.hope.clamp(1.0, HOPE_MAX))
    }

    pub(super) fn waits(&mut self, waits: bool) {
        if waits != self.waits {
            (self.waits, self.since, self.hope) = (waits, None, 1.0);
        }
    }

    pub(super) fn arrived(&mut self, now: Duration, bytes: u64) {
        if !self.waits {
            return;
        }
        if let Some(since) = self.since.replace(now) {
            let seconds = now.saturating_sub(since).as_secs_f64();
            let fades = (-seconds / MEMORY.as_secs_f64()).exp();
            self.bytes = self.bytes * fades + bytes as f64;
            self.seconds = self.seconds * fades + seconds;
        }
    }
}
