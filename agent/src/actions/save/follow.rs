//! Follows the file that a save writes, so that it can be sent while it grows.
//!
//! ```text
//!   Seeking ──> Following ──> Landed      the dump is the followed file: finished
//!      │            ├───────> Overtaken   the dump is another one: another save came after it
//!      │            └───────> Idle        the file was removed: it will never be whole
//!      └──> Idle                          the save was over before its file was seen, or it cannot be linked
//! ```
//!
//! Servers write the file from its beginning to its end and go back nowhere, and a rename keeps the inode: what has been
//! read of it stays true. It is held by a hard link, the run's pin, made the moment it is found, and read through that
//! alone. A save that cannot be followed goes on as it would. Which file it is, [`super::candidates`] chooses.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use baton_proto::rdb::HEAD_BYTES_MAX;
use baton_proto::{Fault, FaultKind};
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::stamp::Stamp;
use super::candidates::{self, Choice, Writer};
use super::pin::Pin;
use super::report::Report;
use crate::blocking::blocking;
use crate::tasks::ProgressSink;
use crate::transfer::{Grower, Offers};

/// The first pause between two looks: most of what a quick save saves is looking for its file.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause while a file is followed: at 200 MB/s it grows by two chunks and a half meanwhile.
const FOLLOWING_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause while the file is sought: it is there soon or never.
const SEEKING_PAUSE: Duration = Duration::from_millis(250);
/// How long a file must have been the only new one before it is taken for that of a writer that cannot be seen.
const LIKELY_PATIENCE: Duration = Duration::from_millis(250);
/// How much must be written before the snapshot can be offered: all of its head, which an offer reads.
const READY_BYTES: u64 = HEAD_BYTES_MAX as u64;

/// Follows one save.
pub(in crate::actions) struct Follower<'a> {
    dump: PathBuf,
    /// How to pin the file and whom to tell of it. Without, its size is all that is looked at.
    goal: Option<(Pin, &'a Offers)>,
    stage: Stage,
    report: Report<'a>,
}

enum Stage {
    Idle,
    Seeking(Seeking),
    Following(Followed),
    Landed(Followed),
    Overtaken(Followed),
}

struct Seeking {
    writer: Writer,
    /// What was there before the save was asked for.
    before: Vec<Stamp>,
    /// The only new file, and since when it is.
    likely: Option<(Stamp, Instant)>,
    /// None when there is no goal, or linking has failed.
    pin: Option<Pin>,
}

struct Followed {
    pin: Pin,
    file: File,
    stamp: Stamp,
    /// Whether the file system counts links: then it tells of a file that was removed.
    counts: bool,
    grower: Grower,
}

/// What one look at the names found.
enum Sight {
    Linked(Pin, File, Stamp),
    /// The size of what grows there.
    Unlinked(u64),
    Unlinkable(io::Error),
}

/// What one look at the followed file found.
struct Look {
    bytes: u64,
    links: u64,
    landed: bool,
}

impl<'a> Follower<'a> {
    /// Follows, for a snapshot that can be offered while it is written.
    pub(in crate::actions) fn new(dump: PathBuf, pin: Pin, offers: &'a Offers, progress: &'a ProgressSink) -> Self {
        Self { goal: Some((pin, offers)), ..Self::watching(dump, progress) }
    }

    /// Only reports how far a save is.
    pub(in crate::actions) fn watching(dump: PathBuf, progress: &'a ProgressSink) -> Self {
        Self { dump, goal: None, stage: Stage::Idle, report: Report::new(progress) }
    }

    pub(super) fn dump(&self) -> &Path {
        &self.dump
    }

    pub(super) fn is_for_a_snapshot(&self) -> bool {
        self.goal.is_some()
    }

    pub(super) fn dir(&self) -> &Path {
        self.dump.parent().unwrap_or(&self.dump)
    }

    pub(super) fn report(&mut self, doing: &str) {
        self.report.say(doing);
    }

    /// Looks at what is there before a save is asked for. `expected_bytes` is a guess at the snapshot's size.
    pub(super) async fn prepare(&mut self, writer: Writer, expected_bytes: Option<u64>) {
        let dir = self.dir().to_owned();
        self.report.expected = expected_bytes;
        self.stage = match blocking(move || candidates::look(&dir, writer)).await.flatten() {
            Ok(found) => {
                let before = found.into_iter().map(|candidate| candidate.stamp).collect();
                let pin = self.goal.as_ref().map(|(pin, _)| pin.clone());
                Stage::Seeking(Seeking { writer, before, likely: None, pin })
            }
            Err(error) => {
                warn!(dir = %self.dir().display(), %error, "the save cannot be followed, it is sent when it is over");
                Stage::Idle
            }
        };
    }

    /// Follows while something is waited for.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut pause = if matches!(self.stage, Stage::Seeking(_)) { SHORTEST_PAUSE } else { FOLLOWING_PAUSE };
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(pause) => {}
            }
            self.look().await;
            let longest = if matches!(self.stage, Stage::Following(_)) { FOLLOWING_PAUSE } else { SEEKING_PAUSE };
            pause = (pause * 2).min(longest);
        }
    }

    /// Looks once: for the file, or at it.
    pub(super) async fn look(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Seeking(seeking) => self.seek(seeking).await,
            Stage::Following(followed) => self.follow(followed).await,
            other => other,
        };
        self.report.say("saving");
    }

    async fn seek(&mut self, mut seeking: Seeking) -> Stage {
        let dir = self.dir().to_owned();
        let looked = blocking(move || {
            let sight = seeking.look(&dir);
            (seeking, sight)
        });
        let Ok((mut seeking, sight)) = looked.await else { return Stage::Idle };
        match (sight, &self.goal) {
            (Sight::Linked(pin, file, stamp), Some((_, offers))) => {
                info!(instance = %pin.instance, run = %pin.run, pin = %pin.path.display(), "following the save");
                let counts = file.metadata().is_ok_and(|found| found.nlink() > 1);
                let grower = offers.grow(&pin.run);
                self.follow(Followed { pin, file, stamp, counts, grower }).await
            }
            (Sight::Linked(..), None) => Stage::Idle,
            (Sight::Unlinked(bytes), _) => {
                self.report.grew(bytes);
                Stage::Seeking(seeking)
            }
            (Sight::Unlinkable(error), _) => {
                warn!(
                    dir = %self.dir().display(), %error,
                    "the save cannot be followed, it is sent when it is over; only root and the server's user may link to its files"
                );
                seeking.pin = None;
                Stage::Seeking(seeking)
            }
        }
    }

    async fn follow(&mut self, followed: Followed) -> Stage {
        let dump = self.dump.clone();
        let looked = blocking(move || {
            let look = followed.look(&dump);
            (followed, look)
        });
        // The thread that looked broke off, and the grower went with it: what is offered ends there.
        let Ok((followed, look)) = looked.await else { return Stage::Idle };
        let fault = match look {
            Ok(look) => {
                self.report.grew(look.bytes);
                self.report.ready |= look.bytes >= READY_BYTES;
                followed.grower.grew(look.bytes);
                if look.landed {
                    return Stage::Landed(followed);
                } else if look.links > 1 || !followed.counts {
                    return Stage::Following(followed);
                }
                Fault::new(FaultKind::NotFound, "the file of the save was removed")
            }
            Err(error) => Fault::new(FaultKind::NotFound, "the file of the save cannot be looked at").because(error),
        };
        followed.lose(fault).await;
        Stage::Idle
    }

    /// Tells whether the server has put the followed file in the place of its dump. It had written and synced it before.
    pub(super) fn has_landed(&self) -> bool {
        matches!(self.stage, Stage::Landed(_))
    }

    /// Looks a last time, when the save is over and the dump is a new one.
    pub(super) async fn conclude(&mut self) {
        self.look().await;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Following(followed) => Stage::Overtaken(followed),
            Stage::Landed(followed) => Stage::Landed(followed),
            other => {
                drop(other);
                Stage::Idle
            }
        };
    }

    /// The followed file, which the pin holds, if it became the dump.
    pub(in crate::actions) fn landed(&self) -> Option<&Stamp> {
        match &self.stage {
            Stage::Landed(followed) => Some(&followed.stamp),
            _ => None,
        }
    }

    /// Ends with a pin that holds a whole snapshot.
    pub(in crate::actions) async fn finish(self, bytes: u64) -> Result<(), Fault> {
        match self.stage {
            Stage::Landed(followed) => {
                followed.forget().await?;
                followed.grower.finish(bytes);
            }
            // The pin has been made anew since, of the dump that is there.
            Stage::Overtaken(followed) => {
                followed.forget().await?;
                let fault = Fault::new(FaultKind::Verification, "another save came after the one that was followed");
                warn!(instance = %followed.pin.instance, run = %followed.pin.run, "{fault}");
                followed.grower.fail(with_hint(fault));
            }
            Stage::Idle | Stage::Seeking(_) | Stage::Following(_) => {}
        }
        Ok(())
    }

    /// Ends without a snapshot.
    pub(in crate::actions) async fn fail(self, why: &Fault) {
        if let Stage::Following(followed) | Stage::Landed(followed) | Stage::Overtaken(followed) = self.stage {
            let mut fault = Fault::new(FaultKind::NotFound, "the save that was followed has failed");
            fault = fault.because(&why.message);
            fault.causes.extend(why.causes.iter().cloned());
            fault.hint.clone_from(&why.hint);
            followed.lose(fault).await;
        }
    }
}

fn with_hint(fault: Fault) -> Fault {
    match fault.hint {
        Some(_) => fault,
        None => fault.hint("take the snapshot again"),
    }
}

impl Seeking {
    fn look(&mut self, dir: &Path) -> Sight {
        let found = match candidates::look(dir, self.writer) {
            Ok(found) => found,
            Err(error) if self.pin.is_some() => return Sight::Unlinkable(error),
            Err(_) => return Sight::Unlinked(0),
        };
        let fresh = found.iter().filter(|candidate| candidates::is_fresh(candidate, &self.before));
        let bytes = fresh.map(|candidate| candidate.stamp.bytes).max().unwrap_or(0);
        let chosen = match candidates::choose(self.writer, &self.before, &found) {
            Choice::Sure(candidate) => Some(candidate),
            Choice::Likely(candidate) => Some(candidate).filter(|candidate| self.waited_for(&candidate.stamp)),
            Choice::None => {
                self.likely = None;
                None
            }
        };
        let (Some(candidate), Some(pin)) = (chosen, &self.pin) else { return Sight::Unlinked(bytes) };
        match pin.link(candidate) {
            Ok(Some(file)) => Sight::Linked(pin.clone(), file, candidate.stamp.clone()),
            Ok(None) => Sight::Unlinked(bytes),
            Err(error) => Sight::Unlinkable(error),
        }
    }

    fn waited_for(&mut self, stamp: &Stamp) -> bool {
        match &self.likely {
            Some((likely, since)) if likely.same_inode(stamp) => since.elapsed() >= LIKELY_PATIENCE,
            _ => {
                self.likely = Some((stamp.clone(), Instant::now()));
                false
            }
        }
    }
}

impl Followed {
    fn look(&self, dump: &Path) -> io::Result<Look> {
        // In this order: a dump that is this file is whole, and its size is then the last.
        let landed = Stamp::at(dump).ok().flatten().is_some_and(|dump| dump.same_inode(&self.stamp));
        let found = self.file.metadata()?;
        Ok(Look { bytes: found.len(), links: found.nlink(), landed })
    }

    /// Gives up what was pinned.
    async fn lose(self, fault: Fault) {
        let (pin, path) = (self.pin.clone(), self.pin.path.display());
        warn!(instance = %pin.instance, run = %pin.run, "no longer following the save: {fault}");
        self.grower.fail(with_hint(fault));
        if let Err(error) = blocking(move || pin.clear()).await.flatten() {
            warn!(pin = %path, %error, "half a snapshot is left");
        }
    }

    /// Forgets that the pin was not whole.
    async fn forget(&self) -> Result<(), Fault> {
        let note = self.pin.note.clone();
        let removed = blocking(move || note.remove()).await.flatten();
        removed.map_err(|error| Fault::new(FaultKind::Host, "remove the note of the save").because(error))
    }
}

#[cfg(test)]
mod tests;
