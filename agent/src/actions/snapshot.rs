//! Takes a snapshot of an instance and pins it: a hard link that no later save disturbs, since Redis never writes in
//! place. Or has it streamed, without a file ([`stream`]).

mod stream;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use baton_proto::control::{Outcome, SaveMethod, SnapshotFacts};
use baton_proto::data::SnapshotId;
use baton_proto::rdb::{CRC_BYTES, HEAD_BYTES_MAX, OPCODE_EOF, RDB_BYTES_MIN, RdbError, RdbHead, parse_head};
use baton_proto::report::{Keyspace, Link, Role, Running};
use baton_proto::{Fault, FaultKind, Lineage, RunId};
use tokio::time::Instant;
use tracing::info;

use super::save::Effort;
use super::save::follow::Follower;
use super::save::pin::Pin;
use super::stamp::Stamp;
use super::{look, middle, save};
use crate::blocking::blocking;
use crate::durable;
use crate::instance::Instance;
use crate::server::ConnectError;
use crate::speeds::{self, Stage};
use crate::tasks::ProgressSink;
use crate::transfer::Offers;

/// How often linking is tried anew when a save takes the dump's name in between.
const LINK_ATTEMPTS_MAX: u32 = 5;

pub(super) async fn snapshot(
    offers: &Offers,
    instance: &Instance,
    run: &RunId,
    method: SaveMethod,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    if method == SaveMethod::Stream {
        return stream::stream(offers, instance, run, progress).await;
    }
    let files = instance.data_files().await?;
    let (dump, pin) = (files.dump(), Pin::new(instance, run, files.dir));
    // An own pin of an attempt before would hold disk space that this save needs.
    let before = pin.clone();
    blocking(move || before.clear()).await.flatten().map_err(|error| pin_fault(&pin.path, &error))?;
    let mut follower = Follower::new(dump.clone(), pin.clone(), offers, progress);
    match take(instance, method, (&dump, &pin.path), &mut follower).await {
        Ok(facts) => {
            middle("snapshot-pinned").await;
            follower.finish(facts.bytes).await?;
            Ok(Outcome::Snapshot(facts))
        }
        Err(fault) => {
            follower.fail(&fault).await;
            Err(fault)
        }
    }
}

async fn take(
    instance: &Instance,
    method: SaveMethod,
    (dump, pin): (&Path, &Path),
    follower: &mut Follower<'_>,
) -> Result<SnapshotFacts, Fault> {
    let begun = Instant::now();
    let mut effort = None;
    if method != SaveMethod::Existing {
        let mut server = save::answering(instance, follower).await?;
        look::look_loaded(instance, &mut server).await?;
        effort = Some(save::save(instance, server, method, follower).await?);
        middle("snapshot-saved").await;
    }
    // Asked on a connection of its own: the one that saved may have been given up by then.
    let running = match look_if_running(instance).await {
        Ok(running) => running,
        Err(fault) if method != SaveMethod::Existing => return Err(fault),
        Err(_) => None,
    };
    let (landed, from, to) = (follower.landed().cloned(), dump.to_owned(), pin.to_owned());
    let pinned = blocking(move || {
        let stamp = match landed {
            Some(landed) => keep_pin(&landed, &to)?,
            None => pin_dump(&from, &to)?,
        };
        Ok((read_head(&to, stamp.bytes)?, stamp))
    });
    let broken = |error| Fault::new(FaultKind::Internal, "file work broke off").because(error);
    let (head, stamp) = pinned.await.map_err(broken).flatten()?;
    if let (Some(running), true) = (&running, method != SaveMethod::Existing) {
        check_lineage(&head, running)?;
    }
    let (lineage, keyspace) = stand(&head, running);
    let facts = SnapshotFacts {
        id: SnapshotId(stamp.id()),
        bytes: stamp.bytes,
        head,
        keyspace,
        lineage,
        method,
        seconds: begun.elapsed().as_secs_f64(),
    };
    info!(instance = %instance.name(), bytes = facts.bytes, lineage = %facts.lineage, pin = %pin.display(), ?effort, "snapshot pinned");
    if let Some(Effort { seconds, worked_seconds }) = effort {
        let saved = speeds::sight(Stage::Save, facts.bytes, seconds);
        let worked = worked_seconds.map(|worked| speeds::sight(Stage::Work, facts.bytes, worked));
        speeds::note(instance, [saved].into_iter().chain(worked).collect()).await;
    }
    Ok(facts)
}

async fn look_if_running(instance: &Instance) -> Result<Option<Running>, Fault> {
    match instance.connect().await {
        Ok(mut server) => Ok(Some(look::look(instance, &mut server).await?.running)),
        Err(ConnectError::Stopped(_)) => Ok(None),
        Err(error) => Err(error.fault(instance.name())),
    }
}

/// Where the data stood. Of a dump whose server is stopped only its own head tells, and nothing tells its keys.
fn stand(head: &RdbHead, running: Option<Running>) -> (Lineage, Keyspace) {
    match running {
        Some(running) => (running.replication.lineage, running.keyspace),
        None => (head.lineage.clone().unwrap_or_else(no_lineage), Keyspace::new()),
    }
}

/// What servers write where they have no lineage.
fn no_lineage() -> Lineage {
    let id = "0".repeat(40).parse().expect("forty zeros are hexadecimal characters");
    Lineage { id, offset: 0 }
}

/// Keeps the pin that was made while the save ran.
fn keep_pin(landed: &Stamp, pin: &Path) -> Result<Stamp, Fault> {
    durable::fsync_dir(pin.parent().unwrap_or(pin)).map_err(|error| pin_fault(pin, &error))?;
    match Stamp::at(pin).map_err(|error| pin_fault(pin, &error))? {
        Some(stamp) if stamp.same_inode(landed) => Ok(stamp),
        _ => Err(Fault::new(FaultKind::NotFound, format!("the pin {} was removed or replaced", pin.display()))
            .hint("take the snapshot again, and look for what deletes files in the server's data directory")),
    }
}

/// Links the dump to the pin, and sees that both are one file.
fn pin_dump(dump: &Path, pin: &Path) -> Result<Stamp, Fault> {
    for _ in 0..LINK_ATTEMPTS_MAX {
        let found = dump.symlink_metadata().map_err(|error| {
            Fault::new(FaultKind::NotFound, format!("there is no dump at {}", dump.display()))
                .because(error)
                .hint("use `--snapshot save` or `--snapshot bgsave`")
        })?;
        if !found.is_file() {
            return Err(Fault::new(FaultKind::Refused, format!("{} is not a plain file", dump.display()))
                .hint("use `--snapshot save`: the server then writes a plain file"));
        }
        let link = || {
            durable::remove_if_there(pin)?;
            std::fs::hard_link(dump, pin)?;
            durable::fsync_dir(pin.parent().unwrap_or(pin))?;
            Ok((Stamp::at(dump)?, Stamp::at(pin)?))
        };
        // A save in between took the name: the pin is whole all the same, but which of the two it is would be unclear.
        if let (Some(dump), Some(pin)) = link().map_err(|error| pin_fault(pin, &error))?
            && dump == pin
        {
            return Ok(pin);
        }
    }
    Err(Fault::new(FaultKind::Server, format!("{} is replaced all the time", dump.display()))
        .hint("see the server's `save` points, and what else saves it"))
}

fn pin_fault(pin: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(FaultKind::Host, format!("pin the snapshot as {}", pin.display())).because(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => fault.hint(
            "let baton-agent run as root or as the server's user: others may not link to its files (fs.protected_hardlinks)",
        ),
        io::ErrorKind::StorageFull => fault.hint("free disk space there"),
        _ => fault,
    }
}

/// Reads what the snapshot says of itself, and sees that it begins and ends as one.
fn read_head(pin: &Path, bytes: u64) -> Result<RdbHead, Fault> {
    let read = || -> io::Result<(Vec<u8>, Option<u8>)> {
        let mut file = File::open(pin)?;
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(HEAD_BYTES_MAX as u64).read_to_end(&mut head)?;
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(bytes.saturating_sub(CRC_BYTES as u64 + 1)))?;
        file.take(1).read_to_end(&mut end)?;
        Ok((head, end.first().copied()))
    };
    let bad = |error: RdbError| {
        Fault::new(FaultKind::Verification, format!("the snapshot {} is not usable", pin.display()))
            .because(error)
            .hint("check it with redis-check-rdb, or take a new one with `--snapshot save`")
    };
    let (head, end) = read().map_err(|error| {
        Fault::new(FaultKind::Host, format!("read {}", pin.display()))
            .because(error)
            .hint("let baton-agent run as root or as the server's user")
    })?;
    if bytes < RDB_BYTES_MIN {
        return Err(bad(RdbError::Short(bytes)));
    }
    let parsed = parse_head(&head).map_err(bad)?;
    match end {
        Some(OPCODE_EOF) => Ok(parsed),
        other => Err(bad(RdbError::EndMark(other.unwrap_or_default()))),
    }
}

/// Sees that the snapshot is of the history in which its server stands. A server without a history of its own writes
/// none into the snapshot.
fn check_lineage(head: &RdbHead, running: &Running) -> Result<(), Fault> {
    let stands = &running.replication.lineage;
    let Some(written) = &head.lineage else { return Ok(()) };
    let frozen = matches!(&running.role, Role::Replica { link: Link::Down { .. }, .. });
    if written.id == stands.id && (written.offset == stands.offset || !frozen) {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Verification, format!("the snapshot is of {written}, and its server stands at {stands}"))
        .because("the server changed its role or its primary during the save")
        .hint("fence it from its primary, and repeat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdb() -> Vec<u8> {
        [&b"REDIS0010"[..], &[OPCODE_EOF], &[0; CRC_BYTES]].concat()
    }

    #[test]
    fn a_pin_outlives_the_dump_and_replaces_an_older_pin() {
        let dir = tempfile::tempdir().unwrap();
        let (dump, pin) = (dir.path().join("dump.rdb"), dir.path().join("pin"));
        assert_eq!(pin_dump(&dump, &pin).unwrap_err().kind, FaultKind::NotFound);
        std::fs::write(&dump, "one").unwrap();
        let first = pin_dump(&dump, &pin).unwrap();
        std::fs::write(dir.path().join("temp"), "two!").unwrap();
        std::fs::rename(dir.path().join("temp"), &dump).unwrap();
        assert_eq!(std::fs::read(&pin).unwrap(), b"one");
        assert_ne!(pin_dump(&dump, &pin).unwrap(), first);
        assert_eq!(std::fs::read(&pin).unwrap(), b"two!");
    }

    #[test]
    fn a_link_in_the_place_of_the_dump_is_not_pinned() {
        let dir = tempfile::tempdir().unwrap();
        let (dump, pin) = (dir.path().join("dump.rdb"), dir.path().join("pin"));
        std::os::unix::fs::symlink("/etc/passwd", &dump).unwrap();
        assert_eq!(pin_dump(&dump, &pin).unwrap_err().kind, FaultKind::Refused);
    }

    #[test]
    fn a_snapshot_must_begin_and_end_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("pin");
        let check = |bytes: &[u8]| {
            std::fs::write(&pin, bytes).unwrap();
            read_head(&pin, bytes.len() as u64)
        };
        assert_eq!(check(&rdb()).unwrap().format.to_string(), "REDIS0010");
        for cut in 0..rdb().len() {
            assert_eq!(check(&rdb()[..cut]).unwrap_err().kind, FaultKind::Verification, "cut to {cut} bytes");
        }
        assert!(check(&[&b"LALKEY080"[..], &rdb()].concat()).is_err());
        assert!(check(&[rdb(), vec![0]].concat()).is_err(), "something follows the checksum");
    }

    #[test]
    fn nothing_is_the_lineage_of_a_dump_without_one() {
        let head = parse_head(&rdb()).unwrap();
        let (lineage, keyspace) = stand(&head, None);
        assert!(lineage.id.is_none() && keyspace.is_empty());
    }
}
