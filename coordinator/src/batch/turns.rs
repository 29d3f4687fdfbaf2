//! The hands of one run among many: urgent steps are done at once, the others when the run has its turn, and a transfer
//! sends at the run's share of the rate.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baton_proto::control::Progress;
use baton_proto::data::Budget;
use baton_proto::{Fault, InstanceRef, RunId};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::batch::shares::Shares;
use crate::drive::Hands;
use crate::drive::hands::AgentHands;
use crate::plan::Step;
use crate::run::{Learnt, Ledger};

/// How long a transfer waits for others to make room: an order takes milliseconds, and an agent that is away sends nothing.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// Pause before a rate is ordered again that could not be: the snapshot is not offered yet, or its agent is away.
const AGAIN: Duration = Duration::from_millis(200);

/// The rate that all share.
pub struct Purse {
    shares: Mutex<Shares>,
    changed: watch::Sender<()>,
}

impl Purse {
    pub fn new(whole: u64) -> Purse {
        Purse { shares: Mutex::new(Shares::new(whole)), changed: watch::Sender::new(()) }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        // Whole between any two statements.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Shares) -> T) -> T {
        let result = change(&mut self.shares());
        self.changed.send_replace(());
        result
    }

    /// Joins, waits until the others have made room, and yields the rate to begin with. The share is given back with the
    /// value.
    async fn begin<'a>(&'a self, run: &'a RunId) -> (Share<'a>, u64) {
        let share = Share { purse: self, run };
        let mut changed = self.changed.subscribe();
        self.change(|shares| shares.join(run));
        let room = async {
            loop {
                changed.borrow_and_update();
                if let Some(rate) = self.shares().begin(run) {
                    return rate;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let rate = match tokio::time::timeout(ROOM_WAIT, room).await {
            Ok(rate) => rate,
            Err(_) => self.shares().begin_anyhow(run),
        };
        (share, rate)
    }
}

/// A run's part of the purse while it sends.
struct Share<'a> {
    purse: &'a Purse,
    run: &'a RunId,
}

impl Share<'_> {
    /// Has the rate ordered each time that it changes.
    async fn keep<F: Future<Output = Result<(), Fault>>>(&self, order: impl Fn(u64) -> F) -> Infallible {
        let mut changed = self.purse.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let due = self.purse.shares().due(self.run);
            match due {
                Some(rate) => {
                    while order(rate).await.is_err() {
                        tokio::time::sleep(AGAIN).await;
                    }
                    self.purse.change(|shares| shares.settled(self.run, rate));
                }
                None if changed.changed().await.is_err() => std::future::pending().await,
                None => {}
            }
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.purse.change(|shares| shares.leave(self.run));
    }
}

/// One run's hands.
pub struct MemberHands<'a> {
    hands: AgentHands<'a>,
    turns: &'a Semaphore,
    /// Kept from the first step that is not urgent until the run has ended.
    turn: tokio::sync::Mutex<Option<SemaphorePermit<'a>>>,
    purse: Option<&'a Purse>,
    /// Told when the run has to wait for its turn.
    waits: &'a (dyn Fn() + Sync),
}

impl<'a> MemberHands<'a> {
    pub fn new(
        hands: AgentHands<'a>,
        turns: &'a Semaphore,
        purse: Option<&'a Purse>,
        waits: &'a (dyn Fn() + Sync),
    ) -> MemberHands<'a> {
        MemberHands { hands, turns, turn: tokio::sync::Mutex::default(), purse, waits }
    }
}

impl Hands for MemberHands<'_> {
    async fn admitted(&self, step: &Step) {
        if step.is_urgent() {
            return;
        }
        let mut turn = self.turn.lock().await;
        if turn.is_none() {
            *turn = match self.turns.try_acquire() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    (self.waits)();
                    // Fails only where turns were closed, which nobody does.
                    self.turns.acquire().await.ok()
                }
            };
        }
    }

    async fn perform(
        &self,
        step: &Step,
        ledger: &Ledger,
        progress: &(dyn Fn(&InstanceRef, &Progress) + Sync),
    ) -> Result<Vec<Learnt>, Fault> {
        let (Step::Transfer { source, target, method, budget, landing }, Some(purse)) = (step, self.purse) else {
            return self.hands.perform(step, ledger, progress).await;
        };
        let run = &self.hands.seat.run;
        let (share, rate) = purse.begin(run).await;
        let (host, target, landing) = (&source.host, target.clone(), landing.clone());
        let budget = Budget { max_rate: Some(rate), ..*budget };
        let step = Step::Transfer { source: source.clone(), target, method: *method, budget, landing };
        let order = |rate| async move { self.hands.agents.limit(host, run, Some(rate)).await.map(drop) };
        tokio::select! {
            result = self.hands.perform(&step, ledger, progress) => result,
            never = share.keep(order) => match never {},
        }
    }

    async fn undo(&self, step: &Step) -> Result<Vec<Learnt>, Fault> {
        self.hands.undo(step).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use baton_proto::FaultKind;

    use super::*;

    fn run(number: u8) -> RunId {
        RunId::new(&format!("fo-{number}")).unwrap()
    }

    /// Keeps a share, and notes the rates that were ordered.
    async fn kept(share: &Share<'_>, ordered: &Mutex<Vec<u64>>) -> Infallible {
        share
            .keep(|rate| {
                ordered.lock().unwrap().push(rate);
                std::future::ready(Ok(()))
            })
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_makes_the_others_slower_first_and_who_goes_makes_them_faster() {
        let purse = Purse::new(100_000);
        let (first, second) = (run(1), run(2));
        let (share, rate) = purse.begin(&first).await;
        assert_eq!(rate, 100_000);
        let ordered = Mutex::new(Vec::new());
        let story = async {
            let (other, rate) = purse.begin(&second).await;
            assert_eq!((rate, ordered.lock().unwrap().as_slice()), (50_000, [50_000].as_slice()));
            drop(other);
            while ordered.lock().unwrap().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = story => {}
            never = kept(&share, &ordered) => match never {},
        }
        assert_eq!(*ordered.lock().unwrap(), [50_000, 100_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_fails_is_given_again_and_nobody_waits_for_it_for_ever() {
        let purse = Arc::new(Purse::new(100_000));
        let first = run(1);
        let (share, _) = purse.begin(&first).await;
        let (begun, tries) = (tokio::time::Instant::now(), Mutex::new(0));
        let story = async {
            let second = run(2);
            let (_other, rate) = purse.begin(&second).await;
            (rate, begun.elapsed())
        };
        let away = |_| {
            *tries.lock().unwrap() += 1;
            std::future::ready(Err(Fault::new(FaultKind::Peer, "gone")))
        };
        let (rate, waited) = tokio::select! {
            told = story => told,
            never = share.keep(away) => match never {},
        };
        assert_eq!((rate, waited), (50_000, ROOM_WAIT));
        assert!(*tries.lock().unwrap() > 2);
    }
}
