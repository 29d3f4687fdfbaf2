//! What happens at the source.

use super::*;
use crate::transfer::pair_tests::source::raw_bytes;

impl World {
    /// How the save stands, for whoever asks the agent.
    fn extent(&self) -> Result<Extent, Fault> {
        let offered = self.offer.as_ref().is_some_and(|offer| offer.save == self.save.number);
        if !offered {
            return Err(Fault::new(FaultKind::NotFound, "no snapshot is offered here"));
        }
        self.save.extent(self.now)
    }

    pub(super) fn open(&mut self, session: u64) {
        if self.conns(session).any(|conn| self.network.is_cut(conn)) {
            return;
        }
        let answer = match (self.source_up, self.extent()) {
            (false, _) => Err(peer("no agent listens")),
            (true, extent) => extent.map(|extent| (self.save.number, extent)),
        };
        if answer.is_ok()
            && let Some(offer) = &mut self.offer
        {
            let dropped = offer.admit(session);
            dropped.into_iter().for_each(|bytes| self.judge.delivered(bytes));
            // Older sessions are hung up on.
            let older = (session.saturating_sub(2)..session).flat_map(|older| self.conns(older));
            older.collect::<Vec<_>>().into_iter().for_each(|conn| self.cut(conn));
        }
        let at = self.network.message(self.now, &mut self.dice);
        self.at(at, Event::Opened { life: self.target_life, session, answer });
        self.pump();
    }

    pub(super) fn ask(&mut self, conn: Conn, index: ChunkIndex) {
        if self.network.is_cut(conn) || self.now < self.mute_until {
            return;
        }
        let path = (self.network.window(), self.network.rate);
        let can_be_had = self.extent().ok().and_then(|extent| raw_bytes(extent, index)).is_some();
        let Some(offer) = self.offer.as_mut().filter(|offer| offer.is_admitted(conn)) else { return };
        assert!(can_be_had || self.save.extent(self.now).is_err(), "{index:?} cannot be had yet");
        if can_be_had {
            offer.ask(conn, index, path);
            self.pump();
        } else {
            // The save has failed: the connection's other questions tell of it.
            self.cut(conn);
        }
    }

    /// Begins the jobs that are due.
    pub(super) fn pump(&mut self) {
        while let Some(job) = self.offer.as_mut().and_then(|offer| offer.sender.poll_job()) {
            self.judge.packs(self.plan.workers);
            let mut facts = self.plan.material.pack(job.level, 1.0, &mut self.dice);
            let raw = self.save.extent(self.now).ok().and_then(|extent| raw_bytes(extent, job.index));
            facts.raw_bytes = raw.unwrap_or(facts.raw_bytes);
            facts.wire_bytes = facts.wire_bytes.min(facts.raw_bytes);
            self.after(facts.took, Event::Packed { life: self.source_life, job, facts });
        }
    }

    pub(super) fn packed(&mut self, job: Job, facts: Packed) {
        self.judge.packed(facts.wire_bytes, self.plan.workers);
        let Some(offer) = &mut self.offer else { return };
        match offer.packed(job, facts) {
            None => self.judge.delivered(facts.wire_bytes),
            Some((number, flying)) => {
                self.sent_bytes += u64::from(flying.wire_bytes);
                let at = self.network.chunk(self.now, flying.wire_bytes, &mut self.dice);
                let damaged = self.damage > 0;
                self.damage = self.damage.saturating_sub(1);
                let (conn, index, save) = (flying.conn, job.index, self.save.number);
                self.at(at, Event::Came { life: self.target_life, conn, index, save, damaged });
                let life = self.source_life;
                let acknowledged = self.network.message(at, &mut self.dice);
                self.at(acknowledged, Event::Delivered { life, number });
            }
        }
        self.pump();
    }

    pub(super) fn delivered(&mut self, number: u64) {
        if let Some(bytes) = self.offer.as_mut().and_then(|offer| offer.delivered(self.now, number)) {
            self.judge.delivered(bytes);
        }
        self.pump();
    }

    /// The source has noticed that a connection is gone.
    pub(super) fn ended(&mut self, conn: Conn) {
        let dropped = self.offer.as_mut().map(|offer| offer.end(conn)).unwrap_or_default();
        dropped.into_iter().for_each(|bytes| self.judge.delivered(bytes));
        self.pump();
    }

    pub(super) fn ask_extent(&mut self, session: u64, seen: u64) {
        if self.hears(session) {
            let at = self.save.answers_at(self.now, seen);
            self.at(at, Event::TellExtent { life: self.source_life, session });
        }
    }

    pub(super) fn tell_extent(&mut self, session: u64) {
        if self.hears(session) {
            let (answer, life) = (self.extent(), self.target_life);
            let at = self.network.message(self.now, &mut self.dice);
            let told = match answer {
                Ok(extent) => Event::Heard { life, session, extent },
                Err(_) => Event::Grown { life, session, answer },
            };
            self.at(at, told);
        }
    }

    pub(super) fn ask_seal(&mut self, session: u64) {
        if self.hears(session) {
            let answer = self.extent().map(|_| file_digest(&self.truth()));
            let ready = self.now + self.while_ms(300);
            let at = self.network.message(ready, &mut self.dice);
            self.at(at, Event::Sealed { life: self.target_life, session, answer });
        }
    }

    fn hears(&self, session: u64) -> bool {
        self.source_up && self.now >= self.mute_until && !self.network.is_cut(Conn { session, lane: 0 })
    }
}
