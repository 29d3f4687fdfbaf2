//! What happens at the target.

use super::*;
use crate::transfer::pair_tests::target::Fetch;
use crate::transfer::receiver::{ChunkSums, Output, Trouble};

/// The end of a file whose server writes no checksum.
const TAIL: [u8; 9] = [0xff, 0, 0, 0, 0, 0, 0, 0, 0];
/// How long a question may go unanswered.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
const DIAL_TIMEOUT: Duration = Duration::from_secs(4);

impl World {
    /// Does what the receiver says until it waits.
    pub(super) fn drive(&mut self) {
        loop {
            let life = self.target_life;
            let Some(target) = &mut self.target else { return };
            match target.receiver.poll_output(target.elapsed(self.now)) {
                Output::Wait { until: None } => return,
                Output::Wait { until: Some(until) } => {
                    let at = target.began + until;
                    return self.at(at, Event::Tick(life));
                }
                Output::Done(received) => return self.done(received),
                Output::Fail(fault) => return self.failed(fault),
                Output::Connect { after, link } => {
                    let old = target.session;
                    self.sessions += 1;
                    (target.session, target.link, target.dialling) = (self.sessions, link, Some(self.sessions));
                    let session = self.sessions;
                    self.hang_up(old);
                    let dialled = self.now + after;
                    let there = self.network.message(dialled, &mut self.dice);
                    self.at(there, Event::Open(session));
                    let answer = Err(peer("the agent did not answer"));
                    self.at(dialled + DIAL_TIMEOUT, Event::Opened { life, session, answer });
                }
                Output::Prepare { manifest, .. } => {
                    let save = manifest.snapshot.0.parse().expect("the number of a save");
                    let pause = self.while_ms(20);
                    self.after(pause, Event::Prepared { life, save });
                }
                Output::Extent { link, seen } => {
                    let session = target.session;
                    assert!(target.extent.replace((session, link)).is_none(), "it asks twice how far the save is");
                    let at = self.network.message(self.now, &mut self.dice);
                    self.at(at, Event::AskExtent { session, seen });
                    let answer = Err(peer("the agent did not answer"));
                    self.after(ASK_TIMEOUT, Event::Grown { life, session, answer });
                }
                Output::Fetch { index, chunking, link } => {
                    self.judge.fetches(index);
                    assert!(chunking.span(index).is_ok());
                    let conn = target.lane(self.plan.lanes);
                    target.fetches.insert(index, Fetch { conn, link, is_here: false });
                    let at = self.network.message(self.now, &mut self.dice);
                    self.at(at, Event::Ask(conn, index));
                }
                Output::Check { index, digest, .. } => {
                    self.judge.checks(true);
                    target.checks.insert(index, digest);
                    let pause = self.while_ms(10);
                    self.after(pause, Event::Checked { life, index });
                }
                Output::Sync => {
                    assert!(target.sync.replace(self.disk.begin_sync()).is_none(), "it syncs twice at a time");
                    let pause = self.while_ms(60);
                    self.after(pause, Event::Synced(life));
                }
                Output::Seal { link } => {
                    let session = target.session;
                    assert!(target.seal.replace((session, link)).is_none(), "it asks twice for the seal");
                    let at = self.network.message(self.now, &mut self.dice);
                    self.at(at, Event::AskSeal(session));
                    let answer = Err(peer("the agent did not answer"));
                    self.after(ASK_TIMEOUT, Event::Sealed { life, session, answer });
                }
                Output::Finish { bytes } => {
                    assert_eq!(bytes, self.plan.bytes);
                    let pause = self.while_ms(60);
                    self.after(pause, Event::Finished(life));
                }
            }
        }
    }

    /// Ends the connections of a session. What still waits on them learns so, one after the other.
    fn hang_up(&mut self, session: u64) {
        for conn in self.conns(session) {
            self.network.cut(conn);
            let notices = self.network.notices(&mut self.dice);
            self.after(notices, Event::Ended { life: self.source_life, conn });
            self.after(Duration::ZERO, Event::Lost { life: self.target_life, conn });
        }
    }

    pub(super) fn tick(&mut self) {
        if let Some(target) = &mut self.target {
            target.receiver.handle_tick(target.elapsed(self.now));
        }
        self.drive();
    }

    pub(super) fn opened(&mut self, session: u64, answer: Result<(u32, Extent), Fault>) {
        let Some(target) = self.target.as_mut().filter(|target| target.dialling == Some(session)) else { return };
        // An answer that the cut has swallowed; the time-out will tell.
        if answer.is_ok() && self.network.is_cut(Conn { session, lane: 0 }) {
            return;
        }
        target.dialling = None;
        let told = match answer {
            Ok((save, extent)) => {
                let manifest = baton_proto::data::Manifest {
                    snapshot: baton_proto::data::SnapshotId(save.to_string()),
                    format: "REDIS0010".parse().expect("a format"),
                    window: None,
                };
                target.receiver.handle_connected(target.elapsed(self.now), manifest, extent)
            }
            Err(fault) => target.receiver.handle_connect_failed(Self::trouble(fault)),
        };
        told.expect("it was dialled");
        self.drive();
    }

    /// How late news is: now and then another link is up before it is told.
    pub(super) fn lag(&mut self) -> Duration {
        let is_late = !self.plan.jitter.is_zero() && self.dice.once_in(8);
        let most = if is_late { 3000 } else { 30 };
        self.while_ms(most)
    }

    /// The target has noticed that a connection is gone: all that waits on it learns so, in some order.
    pub(super) fn lost(&mut self, conn: Conn) {
        let Some(target) = &mut self.target else { return };
        let lost = target.lost(|other| other == conn);
        let of = |asked: Option<(u64, _)>| conn.lane == 0 && asked.is_some_and(|(session, _)| session == conn.session);
        let (extent, seal) = (of(target.extent) && target.heard != Some(conn.session), of(target.seal));
        let (life, session) = (self.target_life, conn.session);
        for index in lost {
            let lag = self.lag();
            self.after(lag, Event::LostChunk { life, index, conn });
        }
        if extent {
            let lag = self.lag();
            self.after(lag, Event::Grown { life, session, answer: Err(peer("the connection was lost")) });
        }
        if seal {
            let lag = self.lag();
            self.after(lag, Event::Sealed { life, session, answer: Err(peer("the connection was lost")) });
        }
    }

    pub(super) fn lost_chunk(&mut self, index: ChunkIndex, conn: Conn) {
        let Some(target) = &mut self.target else { return };
        if let Some(fetch) = target.fetches.get(&index).copied().filter(|fetch| fetch.conn == conn && !fetch.is_here) {
            target.fetches.remove(&index);
            self.judge.fetched(index);
            let trouble = Trouble::Link(peer("the connection to the agent was lost"));
            target.receiver.handle_chunk_failed(index, fetch.link, trouble).expect("it was asked for");
            self.drive();
        }
    }

    pub(super) fn came(&mut self, conn: Conn, index: ChunkIndex, save: u32, damaged: bool) {
        let Some(target) = self.target.as_mut().filter(|_| !self.network.is_cut(conn)) else { return };
        let Some(fetch) = target.fetches.get_mut(&index).filter(|fetch| fetch.conn == conn && !fetch.is_here) else {
            return;
        };
        fetch.is_here = true;
        let takes = self.dice.time(Duration::from_millis(25));
        target.disk_free_at = target.disk_free_at.max(self.now) + takes / 4;
        let at = target.disk_free_at + takes;
        self.at(at, Event::Written { life: self.target_life, index, save, damaged });
    }

    pub(super) fn written(&mut self, index: ChunkIndex, save: u32, damaged: bool) {
        let only = self.plan.bytes <= baton_proto::chunk::CHUNK_BYTES;
        let Some(target) = &mut self.target else { return };
        let Some(fetch) = target.fetches.remove(&index) else { return };
        self.judge.fetched(index);
        let elapsed = target.elapsed(self.now);
        let told = if damaged {
            let fault = Fault::new(FaultKind::Verification, "a chunk came damaged");
            target.receiver.handle_chunk_failed(index, fetch.link, Trouble::Damage(fault))
        } else {
            let digest = digest(save, index, only);
            self.disk.write(index, digest);
            self.disk.record(index, digest);
            self.judge.wrote(index);
            let crc = checksum(self.plan.bytes.min(18) as u32);
            target.receiver.handle_written(elapsed, index, ChunkSums { digest, crc })
        };
        told.expect("it was asked for");
        self.drive();
    }

    pub(super) fn prepared(&mut self, save: u32) {
        let held = self.disk.open(save);
        self.judge.target_ended(&self.disk);
        let Some(target) = &mut self.target else { return };
        target.receiver.handle_prepared(held, self.plan.room_bytes).expect("it was asked for");
        self.drive();
    }

    pub(super) fn checked(&mut self, index: ChunkIndex) {
        let Some(target) = &mut self.target else { return };
        let Some(digest) = target.checks.remove(&index) else { return };
        self.judge.checks(false);
        let good = self.disk.read(index) == Some(digest);
        let crc = good.then(|| checksum(self.plan.bytes.min(18) as u32));
        target.receiver.handle_checked(index, crc).expect("it was to be checked");
        self.drive();
    }

    pub(super) fn synced(&mut self) {
        let Some(target) = &mut self.target else { return };
        let Some(begun) = target.sync.take() else { return };
        self.disk.end_sync(begun);
        self.judge.synced(&self.disk);
        target.receiver.handle_synced().expect("it was asked for");
        self.drive();
    }

    /// An answer has come, and is told when its turn comes: the link may be lost meanwhile.
    pub(super) fn heard(&mut self, session: u64, extent: Extent) {
        let is_cut = self.network.is_cut(Conn { session, lane: 0 });
        let Some(target) = self.target.as_mut().filter(|_| !is_cut) else { return };
        target.heard = Some(session);
        let lag = self.lag();
        self.after(lag, Event::Grown { life: self.target_life, session, answer: Ok(extent) });
    }

    pub(super) fn grown(&mut self, session: u64, answer: Result<Extent, Fault>) {
        let Some(target) = self.target.as_mut() else { return };
        let Some((_, link)) = target.extent.take_if(|(of, _)| *of == session) else { return };
        target.heard = None;
        let told = match answer {
            Ok(extent) => target.receiver.handle_extent(link, extent),
            Err(fault) => target.receiver.handle_extent_failed(link, Self::trouble(fault)),
        };
        told.expect("it was asked for");
        self.drive();
    }

    pub(super) fn sealed(&mut self, session: u64, answer: Result<FileDigest, Fault>) {
        let Some(target) = self.target.as_mut() else { return };
        let Some((_, link)) = target.seal.take_if(|(of, _)| *of == session) else { return };
        let packing = baton_proto::data::PackingFacts {
            mean_level: None,
            stored: 0,
            plain: 0,
            chunks: 0,
            limited: false,
            why: String::new(),
        };
        let told = match answer {
            Ok(digest) => target.receiver.handle_sealed(digest, packing),
            Err(fault) => target.receiver.handle_seal_failed(link, Self::trouble(fault)),
        };
        told.expect("it was asked for");
        self.drive();
    }

    pub(super) fn finished(&mut self) {
        let begun = self.disk.begin_sync();
        self.disk.end_sync(begun);
        let Some(target) = &mut self.target else { return };
        target.receiver.handle_finished(&TAIL).expect("it was asked for");
        self.drive();
    }
}
