//! What befalls the world, and what the operator does about it: offers what is saved, and orders the pull again until it
//! is through.

use super::*;
use crate::transfer::receiver::{Received, Trouble};

impl World {
    pub(super) fn befall(&mut self, mishap: Mishap) {
        let session = self.target.as_ref().map_or(0, |target| target.session);
        let ms = |ms: u32| Duration::from_millis(ms.into());
        match mishap {
            Mishap::CutLane(lane) => self.cut(Conn { session, lane: lane % self.plan.lanes }),
            Mishap::CutAll => self.conns(session).for_each(|conn| self.cut(conn)),
            Mishap::Outage { ms: time } => {
                if self.network.go_out(self.now, ms(time)) {
                    self.conns(session).for_each(|conn| self.cut(conn));
                }
            }
            Mishap::Mute { ms: time } => self.mute_until = self.mute_until.max(self.now + ms(time)),
            Mishap::KillTarget { ms: time } => self.end_target(ms(time)),
            Mishap::CutPower { ms: time } => {
                self.disk.cut_power(&mut self.dice);
                self.end_target(ms(time));
            }
            Mishap::KillSource { ms: time } => self.end_source(ms(time)),
            Mishap::Damage { chunks } => self.damage = chunks,
            Mishap::Duplicate(pick) => self.duplicate(pick),
            Mishap::Rate { percent } => {
                self.network.rate = (self.network.rate * f64::from(percent) / 100.0).clamp(0.3e6, 2e9);
            }
        }
    }

    /// A connection is cut: what is on it gets nowhere, and each side notices in its own time.
    pub(super) fn cut(&mut self, conn: Conn) {
        if !self.network.cut(conn) {
            return;
        }
        let (here, there) = (self.network.notices(&mut self.dice), self.network.notices(&mut self.dice));
        self.after(here, Event::Lost { life: self.target_life, conn });
        self.after(there, Event::Ended { life: self.source_life, conn });
    }

    fn end_target(&mut self, down: Duration) {
        let session = self.target.take().map(|target| target.session);
        self.conns(session.unwrap_or(0)).for_each(|conn| self.cut(conn));
        self.target_life += 1;
        self.judge.target_ended(&self.disk);
        self.after(down, Event::Pull);
    }

    fn end_source(&mut self, down: Duration) {
        if !self.source_up {
            return;
        }
        let session = self.target.as_ref().map_or(0, |target| target.session);
        self.conns(session).for_each(|conn| self.cut(conn));
        (self.source_up, self.offer) = (false, None);
        self.source_life += 1;
        self.judge.source_ended();
        // A save that nobody follows any more is offered when it is over.
        let at = (self.now + down).max(self.save.ends_at());
        self.at(at, Event::Offer);
    }

    /// What comes a second time is refused by name, and changes nothing; a question that is asked twice is answered once.
    fn duplicate(&mut self, pick: u8) {
        if let Some(target) = &mut self.target {
            let index = ChunkIndex(pick.into());
            if !target.fetches.contains_key(&index) {
                let sums = crate::transfer::receiver::ChunkSums { digest: digest(9, index, false), crc: checksum(9) };
                let done = target.receiver.bytes_done();
                assert!(target.receiver.handle_written(target.elapsed(self.now), index, sums).is_err());
                assert_eq!(done, target.receiver.bytes_done());
            }
        }
        if let Some(offer) = &mut self.offer
            && let Some(index) = offer.waiting(pick)
        {
            offer.sender.handle_asked(index);
            self.pump();
        }
    }

    /// Offers what is saved; takes a new snapshot if the last one failed.
    pub(super) fn offer(&mut self) {
        self.source_up = true;
        if self.save.extent(self.now).is_err() {
            self.save = Save::begin(&self.plan, self.save.number + 1, self.now);
        }
        if self.offer.as_ref().is_none_or(|offer| offer.save != self.save.number) {
            self.offer = Some(Offer::new(self.save.number, self.plan.workers));
            self.source_life += 1;
            self.judge.source_ended();
        }
    }

    pub(super) fn pull(&mut self) {
        if self.target.is_some() {
            return;
        }
        self.attempts += 1;
        assert!(self.attempts < ATTEMPTS_MAX, "the operator gives up: {:?}", self.judge.faults);
        self.target_life += 1;
        self.judge.target_ended(&self.disk);
        self.target = Some(Process::begin(self.now, self.sessions));
        self.drive();
    }

    pub(super) fn done(&mut self, received: Received) {
        let truth = self.truth();
        assert!(self.plan.is_snapshot(), "it is no snapshot, and yet done");
        assert_eq!((received.bytes, received.digest), (self.plan.bytes, file_digest(&truth)));
        for (index, digest) in (0..).map(ChunkIndex).zip(&truth) {
            assert_eq!(self.disk.read(index), Some(*digest), "done with another file");
            assert!(self.disk.is_safe(index), "done before {index:?} was synced");
        }
        self.end(true);
    }

    /// A failure must have a name, and the operator knows what to do about each.
    pub(super) fn failed(&mut self, fault: Fault) {
        self.judge.failed(fault.to_string());
        let target = self.target.take().expect("who fails is there");
        self.conns(target.session).for_each(|conn| self.cut(conn));
        self.target_life += 1;
        self.judge.target_ended(&self.disk);
        match fault.kind {
            FaultKind::Verification if !self.plan.is_snapshot() => return self.end(false),
            FaultKind::Host if self.plan.room_bytes < self.plan.bytes => return self.end(false),
            FaultKind::Server => self.after(Duration::from_secs(1), Event::Offer),
            FaultKind::Peer if !self.plan.mishaps.is_empty() || !self.plan.failing_saves.is_empty() => {}
            FaultKind::NotFound if self.befell(|mishap| matches!(mishap, Mishap::KillSource { .. })) => {}
            FaultKind::Verification if fault.message.contains("another snapshot") && self.save.number > 0 => {}
            FaultKind::Verification
                if fault.message.contains("came damaged")
                    && self.befell(|mishap| matches!(mishap, Mishap::Damage { .. })) => {}
            _ => panic!("a failure that nobody caused: {fault:?}"),
        }
        self.after(Duration::from_secs(2), Event::Pull);
    }

    fn befell(&self, what: impl Fn(&Mishap) -> bool) -> bool {
        self.plan.mishaps.iter().any(|(_, mishap)| what(mishap))
    }

    fn end(&mut self, is_done: bool) {
        self.outcome = Some(Outcome {
            took: self.now,
            is_done,
            fetches: self.judge.fetches,
            resumed: self.target.as_ref().map_or(0, |target| target.receiver.chunks_resumed()),
            faults: std::mem::take(&mut self.judge.faults),
            saved_at: self.save.ends_at(),
            sent_bytes: self.sent_bytes,
        });
    }

    /// How a fault looks to who pulls.
    pub(super) fn trouble(fault: Fault) -> Trouble {
        match fault.kind {
            FaultKind::Peer => Trouble::Link(fault),
            FaultKind::Verification => Trouble::Damage(fault),
            _ => Trouble::Final(fault),
        }
    }
}
