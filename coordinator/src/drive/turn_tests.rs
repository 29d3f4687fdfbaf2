//! A run that is one of many, and waits for its turn.

use super::tests::{Memory, Nobody, Puppet, did, replace};
use super::*;

/// Hands that let nothing begin but what is urgent.
struct Waiting(Puppet);

impl Hands for Waiting {
    async fn admitted(&self, step: &Step) {
        if !step.is_urgent() {
            std::future::pending().await
        }
    }

    async fn perform(
        &self,
        step: &Step,
        ledger: &Ledger,
        progress: &(dyn Fn(&InstanceRef, &Progress) + Sync),
    ) -> Result<Vec<Learnt>, Fault> {
        self.0.perform(step, ledger, progress).await
    }

    async fn undo(&self, step: &Step) -> Result<Vec<Learnt>, Fault> {
        self.0.undo(step).await
    }
}

/// An operator who has it stop after a while.
struct Later(u32);

impl Interrupts for Later {
    async fn next(&mut self) {
        while self.0 > 0 {
            self.0 -= 1;
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_turn_has_begun_nothing_but_the_fence_and_stops_at_once() {
    let (mut run, hands, mut log) = (Run::new(replace()), Waiting(Puppet::default()), Memory::default());
    let end = drive(&mut run, &hands, &mut log, &Nobody, &mut Later(9)).await.unwrap();
    assert_eq!((end, did(&hands.0)), (End::Interrupted, vec!["fence".to_owned()]));
    assert!(!run.is_begun() && matches!(run.next(), Next::End(End::Interrupted)));
    let ended = [Event::Interrupted, Event::Ended { end }];
    assert_eq!(log.events.split_off(2), ended);
}

#[tokio::test]
async fn who_waits_for_a_turn_hears_that_another_coordinator_has_the_run() {
    // After the fence, which has one event when it starts and one when it ends.
    let mut log = Memory { taken_at: Some(2), ..Memory::default() };
    let (mut run, hands) = (Run::new(replace()), Waiting(Puppet::default()));
    let error = drive(&mut run, &hands, &mut log, &Nobody, &mut Later(1000)).await.unwrap_err();
    assert!(matches!(error, DriveError::Held(_)), "{error}");
}
