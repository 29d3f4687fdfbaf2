//! What all who ask at the same time get of one making.

use tokio::sync::Mutex;
use tokio::time::Instant;

/// What was made last, and when that was ended.
pub(super) struct Shared<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Shared<T> {
    pub(super) fn new() -> Shared<T> {
        Shared(Mutex::const_new(None))
    }

    /// Waits for what is being made, and takes it; makes it where nothing was ended since the caller came.
    pub(super) async fn get(&self, make: impl Future<Output = T>) -> T {
        let came = Instant::now();
        // Whoever makes it and leaves gives the next one the turn.
        let mut last = self.0.lock().await;
        if let Some((ended, made)) = &*last
            && *ended > came
        {
            return made.clone();
        }
        let made = make.await;
        *last = Some((Instant::now(), made.clone()));
        made
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_come_together_share_and_who_comes_later_gets_it_anew() {
        let (shared, made) = (Shared::new(), AtomicU32::new(0));
        let get = || {
            shared.get(async {
                sleep(Duration::from_secs(1)).await;
                made.fetch_add(1, Ordering::Relaxed)
            })
        };
        assert_eq!(tokio::join!(get(), get(), get(), get()), (0, 0, 0, 0));
        assert_eq!(get().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_holds_up_nobody() {
        let shared = Shared::new();
        let hung = timeout(Duration::from_secs(1), shared.get(std::future::pending()));
        let (left, got) = tokio::join!(hung, shared.get(async { 7 }));
        assert_eq!((left.is_err(), got), (true, 7));
    }
}
