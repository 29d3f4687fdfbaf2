//! One rate that all who send at the moment share alike. Pure: it says what to order, and is told what was done.
//!
//! The sum of the rates in force never exceeds the whole: whoever joins begins when those before it have come down to make
//! room, and whoever may send faster does so only with what is free.

use std::collections::BTreeMap;

use baton_proto::RunId;
use baton_proto::data::RATE_MIN;

/// The senders, and what each may send in bytes a second.
#[derive(Debug, Clone)]
pub struct Shares {
    whole: u64,
    /// The rate in force; `None` for one that has not begun.
    senders: BTreeMap<RunId, Option<u64>>,
}

impl Shares {
    pub fn new(whole: u64) -> Shares {
        Shares { whole, senders: BTreeMap::new() }
    }

    /// What each may send when all have come to their share. None is so low that nothing would ever end.
    fn share(&self) -> u64 {
        (self.whole / (self.senders.len() as u64).max(1)).max(RATE_MIN)
    }

    fn free(&self) -> u64 {
        self.whole.saturating_sub(self.senders.values().flatten().sum())
    }

    /// Somebody is about to send: the others have to make room.
    pub fn join(&mut self, run: &RunId) {
        self.senders.entry(run.clone()).or_insert(None);
    }

    /// The rate with which one that has joined may begin, once there is room for it.
    pub fn begin(&mut self, run: &RunId) -> Option<u64> {
        (self.free() >= self.share()).then(|| self.begin_anyhow(run))
    }

    /// The same without waiting any longer for others, who may be away and sending nothing.
    pub fn begin_anyhow(&mut self, run: &RunId) -> u64 {
        let share = self.share();
        self.senders.insert(run.clone(), Some(share));
        share
    }

    /// The rate that is to be ordered for a sender, if it is another than the one in force. One that is higher counts from
    /// now on, a lower one when it is [settled](Self::settled).
    pub fn due(&mut self, run: &RunId) -> Option<u64> {
        let (share, free) = (self.share(), self.free());
        let rate = self.senders.get_mut(run)?.as_mut()?;
        if share < *rate {
            return Some(share);
        }
        let higher = share.min(rate.saturating_add(free));
        if higher == *rate {
            return None;
        }
        *rate = higher;
        Some(higher)
    }

    /// What was ordered is in force.
    pub fn settled(&mut self, run: &RunId, ordered: u64) {
        if let Some(rate) = self.senders.get_mut(run) {
            *rate = Some(ordered);
        }
    }

    /// It sends nothing any more.
    pub fn leave(&mut self, run: &RunId) {
        self.senders.remove(run);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(number: u8) -> RunId {
        RunId::new(&format!("fo-{number}")).unwrap()
    }

    #[test]
    fn one_alone_has_all_and_two_have_half_each() {
        let mut shares = Shares::new(100_000);
        shares.join(&run(1));
        assert_eq!(shares.begin(&run(1)), Some(100_000));
        shares.join(&run(2));
        assert_eq!(shares.begin(&run(2)), None, "the first has to come down before");
        assert_eq!(shares.due(&run(1)), Some(50_000));
        assert_eq!(shares.begin(&run(2)), None, "it has not come down yet");
        shares.settled(&run(1), 50_000);
        assert_eq!(shares.due(&run(1)), None);
        assert_eq!(shares.begin(&run(2)), Some(50_000));
        shares.leave(&run(1));
        assert_eq!(shares.due(&run(2)), Some(100_000));
        assert_eq!(shares.due(&run(2)), None);
    }

    #[test]
    fn one_that_is_away_does_not_keep_others_from_beginning_for_ever() {
        let mut shares = Shares::new(100_000);
        shares.join(&run(1));
        shares.begin(&run(1));
        shares.join(&run(2));
        assert_eq!((shares.begin(&run(2)), shares.begin_anyhow(&run(2))), (None, 50_000));
    }

    #[test]
    fn no_share_is_too_low_for_any_snapshot() {
        let mut shares = Shares::new(RATE_MIN);
        [1, 2].iter().for_each(|number| shares.join(&run(*number)));
        assert_eq!(shares.begin_anyhow(&run(1)), RATE_MIN);
    }

    proptest! {
        #[test]
        fn together_they_never_exceed_the_whole_and_come_to_equal_shares(
            acts in proptest::collection::vec((0u8..4, 0u8..6), 0..200),
        ) {
            let whole = 10_000_000;
            let mut shares = Shares::new(whole);
            // What the agents have been told last, and what is on its way to them.
            let mut in_force: BTreeMap<u8, u64> = BTreeMap::new();
            let mut ordered: BTreeMap<u8, u64> = BTreeMap::new();
            for (act, number) in acts {
                let name = run(number);
                match act {
                    0 => shares.join(&name),
                    1 if !in_force.contains_key(&number) && shares.senders.contains_key(&name) => {
                        if let Some(rate) = shares.begin(&name) {
                            in_force.insert(number, rate);
                        }
                    }
                    2 => match ordered.remove(&number) {
                        Some(rate) => {
                            in_force.insert(number, rate);
                            shares.settled(&name, rate);
                        }
                        None => ordered.extend(shares.due(&name).map(|rate| (number, rate))),
                    },
                    3 => {
                        shares.leave(&name);
                        in_force.remove(&number);
                        ordered.remove(&number);
                    }
                    _ => {}
                }
                prop_assert!(in_force.values().sum::<u64>() <= whole, "{in_force:?}");
            }
            for _ in 0..20 {
                for number in 0..6 {
                    let name = run(number);
                    if let Some(rate) = ordered.remove(&number).or_else(|| shares.due(&name)) {
                        shares.settled(&name, rate);
                        in_force.insert(number, rate);
                    }
                    if !in_force.contains_key(&number) && shares.senders.contains_key(&name) {
                        in_force.extend(shares.begin(&name).map(|rate| (number, rate)));
                    }
                }
            }
            let share = shares.share();
            prop_assert!(in_force.values().all(|rate| *rate == share), "{in_force:?}");
            prop_assert_eq!(in_force.len(), shares.senders.len());
        }
    }
}
