//! A spool over a link whose server is played by the test.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::account::PIECE_BYTES;
use super::*;
use crate::instance::tests::with_conf;
use crate::transfer::packing::Unpacker;

/// How long a fact may take to come true. Far longer than it does, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const SINCE: u64 = 700;

fn run() -> RunId {
    RunId::new("cl-1").unwrap()
}

async fn begin(spools: &Spools, dir: &Path, hold: Duration) -> DuplexStream {
    begin_of(spools, &run(), dir, hold).await.unwrap()
}

async fn begin_of(spools: &Spools, run: &RunId, dir: &Path, hold: Duration) -> Result<DuplexStream, Fault> {
    let conf = format!("bind 127.0.0.1\nport 1\ndir {}\n", dir.display());
    let instance = Arc::new(with_conf(dir, &conf));
    let (near, far) = duplex(64 * 1024);
    let link = Link { stream: Box::new(near), ack: b"ack".to_vec() };
    let since = Lineage { id: "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse().unwrap(), offset: SINCE };
    spools.keep(run, &instance, (link, since), hold).await?;
    Ok(far)
}

async fn piece(spools: &Spools, at: u64) -> Result<Vec<u8>, Fault> {
    let (head, wire) = spools.piece(&run(), at).await?;
    Ok(super::piece::unpack(&mut Unpacker::default(), &head, &wire).unwrap())
}

/// Takes pieces until there are so many bytes.
async fn taken(spools: &Spools, bytes: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    while taken.len() < bytes {
        let next = timeout(DEADLINE, piece(spools, SINCE + taken.len() as u64)).await.unwrap().unwrap();
        taken.extend(next);
    }
    taken
}

fn stream(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place / 1000 + place % 7) as u8).collect()
}

#[tokio::test]
async fn what_a_server_writes_is_taken_whole_whatever_its_size() {
    let chunk = PIECE_BYTES as usize;
    for bytes in [0, 1, chunk - 1, chunk, chunk + 1] {
        let (spools, dir) = (Spools::default(), tempfile::tempdir().unwrap());
        let mut server = begin(&spools, dir.path(), DEADLINE).await;
        server.write_all(&stream(bytes)).await.unwrap();
        assert!(taken(&spools, bytes).await == stream(bytes), "{bytes} bytes");
        assert_eq!(piece(&spools, SINCE + bytes as u64).await.unwrap(), [0; 0], "nothing more for a moment");
        let mut heard = [0; 3];
        timeout(DEADLINE, server.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, *b"ack");
        assert_eq!(spools.since(&run(), &InstanceName::new("default").unwrap()).unwrap().offset, SINCE);
    }
}

#[tokio::test]
async fn what_a_spool_does_not_hold_is_not_found_so_that_another_snapshot_is_taken() {
    let (spools, dir) = (Spools::default(), tempfile::tempdir().unwrap());
    assert_eq!(piece(&spools, SINCE).await.unwrap_err().kind, FaultKind::NotFound);
    let mut server = begin(&spools, dir.path(), DEADLINE).await;
    server.write_all(b"written").await.unwrap();
    taken(&spools, 7).await;
    assert_eq!(piece(&spools, SINCE - 1).await.unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(piece(&spools, SINCE + 8).await.unwrap_err().kind, FaultKind::Invalid);
    spools.end(&run());
    assert_eq!(piece(&spools, SINCE).await.unwrap_err().kind, FaultKind::NotFound);
    // Its link is let go.
    let mut rest = Vec::new();
    timeout(DEADLINE, server.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_spool_that_nobody_ends_is_given_up_and_does_not_count_as_one() {
    let (spools, dir) = (Spools::default(), tempfile::tempdir().unwrap());
    let _server = begin(&spools, dir.path(), Duration::from_millis(1)).await;
    let told = timeout(DEADLINE, async {
        loop {
            if let Err(fault) = piece(&spools, SINCE).await {
                return fault;
            }
        }
    });
    assert_eq!(told.await.unwrap().kind, FaultKind::Refused);
    assert_eq!(spools.since(&run(), &InstanceName::new("default").unwrap()), None);
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_spools_at_most_and_one_that_failed_makes_room() {
    /// Longer than a link is tried anew.
    const HOLD: Duration = Duration::from_secs(24 * 3600);
    let (spools, dir) = (Spools::default(), tempfile::tempdir().unwrap());
    let of = |number: usize| RunId::new(&format!("cl-{number}")).unwrap();
    let mut servers = Vec::new();
    for number in 0..SPOOLS_MAX {
        servers.push(begin_of(&spools, &of(number), dir.path(), HOLD).await.unwrap());
    }
    let refused = begin_of(&spools, &of(SPOOLS_MAX), dir.path(), HOLD).await.unwrap_err();
    assert!(refused.kind == FaultKind::Refused && refused.hint.is_some(), "{refused}");
    // A run that has one may have it anew.
    servers.push(begin_of(&spools, &of(7), dir.path(), HOLD).await.unwrap());
    drop(servers.swap_remove(3));
    let failed = timeout(DEADLINE, async {
        while spools.failure(&of(3)).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    failed.await.expect("it is given up without its link");
    servers.push(begin_of(&spools, &of(SPOOLS_MAX), dir.path(), HOLD).await.unwrap());
    assert_eq!(spools.failure(&of(3)), None, "it is gone");
    assert!(spools.since(&of(SPOOLS_MAX), &InstanceName::new("default").unwrap()).is_some());
}
