//! The source's side: reads what a server writes to its replicas, and puts it into a file.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use baton_proto::{Fault, FaultKind, Lineage};
use bytes::BufMut;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::info;

use super::Spool;
use crate::blocking::try_blocking;
use crate::host;
use crate::instance::Instance;
use crate::replica::{self, Link};
use crate::server::CALL_TIMEOUT;

/// How often the link is acknowledged: a server gives a replica up that says nothing for `repl-timeout`.
const ACK_EVERY: Duration = Duration::from_secs(1);
/// Most bytes read at a time.
const READ_BYTES: usize = 256 * 1024;
/// How often, in bytes, it is looked how much the disk still has.
const SPACE_LOOK_BYTES: u64 = 8 << 20;
/// Beyond what comes until the next look, as much may come before that is written.
const SPACE_MIN_BYTES: u64 = 2 * SPACE_LOOK_BYTES;
/// How long a lost link is tried anew. The server keeps as much of it as its backlog holds, which is not long.
const RELINK_TIMEOUT: Duration = Duration::from_secs(30);
const RELINK_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing more is read.
enum Ended {
    /// The link is gone, and the server may still have what follows.
    Lost(io::Error),
    Failed(Fault),
}

/// Makes a file without a name in a directory: nothing is left of it when it is closed, by whatever.
pub(super) fn nameless(dir: &Path) -> Result<File, Fault> {
    let (flags, mode) = (OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let opened = match rustix::fs::open(dir, flags, mode) {
        Ok(file) => Ok(File::from(file)),
        // Not every file system can; then it has a name for a moment.
        Err(_) => named_for_a_moment(dir),
    };
    opened.map_err(|error| {
        Fault::new(FaultKind::Host, format!("make a file in {} for what is written", dir.display()))
            .because(error)
            .hint("let baton-agent write there")
    })
}

fn named_for_a_moment(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("baton-probe-spool-{:016x}", rand::random::<u64>()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Keeps what comes, until it fails, its time is up, or it is aborted.
pub(super) async fn keep(instance: Arc<Instance>, spool: Arc<Spool>, link: Link, (dir, hold): (PathBuf, Duration)) {
    let kept = timeout(hold, keep_on(&instance, &spool, link, &dir)).await;
    let fault = kept.unwrap_or_else(|_| {
        Fault::new(FaultKind::Refused, "nobody has taken the spool for as long as it was to be kept")
            .hint("run it again")
    });
    spool.fail(fault).await;
}

async fn keep_on(instance: &Instance, spool: &Spool, mut link: Link, dir: &Path) -> Fault {
    loop {
        match read_on(instance, spool, &mut link, dir).await {
            Ended::Failed(fault) => return fault,
            Ended::Lost(error) => match relink(instance, spool, &error).await {
                Ok(again) => link = again,
                Err(fault) => return fault,
            },
        }
    }
}

async fn read_on(instance: &Instance, spool: &Spool, link: &mut Link, dir: &Path) -> Ended {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut looked_at = None;
    let mut acks = interval(ACK_EVERY);
    acks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        buffer.clear();
        let mut room = (&mut buffer).limit(READ_BYTES);
        tokio::select! {
            read = link.stream.read_buf(&mut room) => match read {
                Ok(0) => return Ended::Lost(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return Ended::Lost(error),
            },
            _ = acks.tick() => {
                match timeout(CALL_TIMEOUT, link.stream.write_all(&link.ack)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return Ended::Lost(error),
                    Err(_) => return Ended::Lost(ErrorKind::TimedOut.into()),
                }
            }
        }
        let held = spool.state.borrow().account.bytes();
        if looked_at.is_none_or(|at| held.saturating_sub(at) >= SPACE_LOOK_BYTES) {
            looked_at = Some(held);
            if let Err(fault) = has_space(instance, dir, held).await {
                return Ended::Failed(fault);
            }
        }
        let (file, came) = (Arc::clone(&spool.file), std::mem::take(&mut buffer));
        let (place, reserve) = (dir.to_owned(), instance.disk_reserve_bytes());
        let written = try_blocking(move || {
            file.write_all_at(&came, held).map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::NOSPC | Errno::DQUOT) => {
                    let free = host::free_bytes(&place, reserve).unwrap_or(0);
                    no_space(&place, held, (free, reserve)).because(error)
                }
                _ => Fault::new(FaultKind::Host, "write what is spooled").because(error),
            })?;
            Ok(came)
        });
        match written.await {
            Ok(back) => buffer = back,
            Err(fault) => return Ended::Failed(fault),
        }
        spool.state.send_modify(|state| state.account.add(buffer.len()));
    }
}

/// Sees that the disk has room for what comes until the next look.
async fn has_space(instance: &Instance, dir: &Path, held: u64) -> Result<(), Fault> {
    let (dir, reserve) = (dir.to_owned(), instance.disk_reserve_bytes());
    try_blocking(move || {
        let free = host::free_bytes(&dir, reserve)
            .map_err(|error| Fault::new(FaultKind::Host, format!("look at {}", dir.display())).because(error))?;
        if free >= SPACE_MIN_BYTES { Ok(()) } else { Err(no_space(&dir, held, (free, reserve))) }
    })
    .await
}

/// The disk is full, and how far it is from having the room to go on.
fn no_space(dir: &Path, held: u64, (free, reserve): (u64, u64)) -> Fault {
    let missing = SPACE_MIN_BYTES.saturating_sub(free);
    let message = format!("no room for what is written meanwhile in {}, after {held} bytes of it", dir.display());
    Fault::new(FaultKind::Host, message)
        .because(format!(
            "{SPACE_MIN_BYTES} bytes are needed to go on, and {free} are free there beside the agent's reserve of {reserve}: {missing} are missing"
        ))
        .hint(format!("free more than {missing} bytes on the file system of {}, or run it when less is written", dir.display()))
}

/// Goes on behind what is held already.
async fn relink(instance: &Instance, spool: &Spool, lost: &io::Error) -> Result<Link, Fault> {
    let from = Lineage { id: spool.since.id.clone(), offset: spool.state.borrow().account.end() };
    info!(instance = %instance.name(), %from, "the link of the spool was lost, and is tried anew: {lost}");
    let deadline = Instant::now() + RELINK_TIMEOUT;
    loop {
        let tried = match instance.connect_bare().await {
            Ok(bare) => replica::go_on(instance.name(), bare, &from).await,
            Err(error) => Err(error.fault(instance.name())),
        };
        match tried {
            Ok(link) => return Ok(link),
            // It has said so; the first link to it may have been lost for the same reason.
            Err(fault) if fault.kind == FaultKind::Refused || Instant::now() >= deadline => {
                return Err(fault.because(format!("the link was lost before: {lost}")));
            }
            Err(_) => sleep(RELINK_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spools_file_has_no_name_in_either_way() {
        let dir = tempfile::tempdir().unwrap();
        for file in [nameless(dir.path()).unwrap(), named_for_a_moment(dir.path()).unwrap()] {
            file.write_all_at(b"written", 3).unwrap();
            let mut read = [0; 7];
            file.read_exact_at(&mut read, 3).unwrap();
            assert_eq!(&read, b"written");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        let fault = nameless(&dir.path().join("missing")).unwrap_err();
        assert!(fault.kind == FaultKind::Host && fault.hint.is_some(), "{fault}");
    }
}
