//! Waiting for a fact, with a deadline that says what was seen instead.

use std::time::{Duration, Instant};

/// How long a fact may take. It is generous, for a busy machine; a test that passes never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until the fact is there. `look` answers with the fact, or with what it saw instead.
#[track_caller]
pub fn wait_for<T>(fact: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait_within(PATIENCE, fact, look)
}

/// The same with another deadline.
#[track_caller]
pub fn wait_within<T>(patience: Duration, fact: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > patience => {
                panic!("waited {} s for this: {fact}\nlast seen: {seen}", patience.as_secs())
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Looks until the condition holds.
#[track_caller]
pub fn wait_until(fact: &str, mut look: impl FnMut() -> bool) {
    wait_for(fact, || if look() { Ok(()) } else { Err("not so".to_owned()) });
}
