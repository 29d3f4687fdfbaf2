//! The listener and the stream over real sockets, with a replica played by the test.

use std::fs::File;
use std::time::Duration;

use baton_proto::Lineage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::listener::{Guest, LEAVE_AFTER, VISITORS_MAX};
use super::*;
use crate::transfer::Supply;

/// How long a fact may take to come true. Far longer than it does, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may take nothing; it is not waited for.
const LIMIT: Duration = Duration::from_secs(3600);

fn lineage() -> Lineage {
    Lineage { id: "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse().unwrap(), offset: 16303 }
}

async fn connect(listener: &Listener) -> TcpStream {
    TcpStream::connect((listener.address().host.as_str(), listener.address().port)).await.unwrap()
}

async fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// A replica of whom the primary is the code under test, and what is fed to it.
struct Scene {
    replica: TcpStream,
    supply: Option<watch::Sender<Supply>>,
    fed: JoinHandle<Result<(Fed, Kept), FeedError>>,
    data: Vec<u8>,
    mark: String,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new(bytes: usize) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let mut data = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        std::fs::write(dir.path().join("part"), &data).unwrap();
        let listener = Listener::bind().await.unwrap();
        let (mut replica, guest) = welcome(&listener).await;
        assert_eq!(line(&mut replica).await, format!("+FULLRESYNC {} 16303", lineage().id));
        let (supply, supplied) = watch::channel(Supply::default());
        let part = File::open(dir.path().join("part")).unwrap();
        let fed = tokio::spawn(feed(guest, part, supplied, (LIMIT, Signs::Newlines), |_| {}));
        let head = line(&mut replica).await;
        let mark = head.strip_prefix("$EOF:").unwrap().to_owned();
        Scene { replica, supply: Some(supply), fed, data, mark, _dir: dir }
    }

    fn hold(&self, held_bytes: usize, verified: bool) {
        let supply = Supply { held_bytes: held_bytes as u64, verified };
        self.supply.as_ref().unwrap().send_replace(supply);
    }

    /// Reads up to this place, and asserts that it is the snapshot.
    async fn expect(&mut self, from: usize, to: usize) {
        let mut bytes = vec![0; to - from];
        timeout(DEADLINE, self.replica.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert!(bytes == self.data[from..to], "the bytes from {from} to {to} differ");
    }

    /// Reads to the end of the connection.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = timeout(DEADLINE, self.replica.read_to_end(&mut rest)).await.unwrap();
        rest
    }
}

/// Has a replica log in and ask for its data.
async fn welcome(listener: &Listener) -> (TcpStream, Guest) {
    let mut replica = connect(listener).await;
    let words = format!("PING\r\nAUTH {}\r\nREPLCONF capa eof\r\nPSYNC ? -1\r\n", listener.secret());
    replica.write_all(words.as_bytes()).await.unwrap();
    let guest = timeout(DEADLINE, listener.admit(&lineage())).await.unwrap();
    for answer in ["-NOAUTH Authentication required.", "+OK", "+OK"] {
        assert_eq!(line(&mut replica).await, answer);
    }
    (replica, guest)
}

#[tokio::test]
async fn a_snapshot_is_fed_as_it_arrives_and_marked_once_it_is_verified() {
    let bytes = 9_000_000;
    let mut scene = Scene::new(bytes).await;
    scene.hold(4_000_000, false);
    scene.expect(0, 4_000_000).await;
    scene.hold(bytes, false);
    scene.expect(4_000_000, bytes).await;
    // All of it has been sent, and nobody has said yet that it is good.
    let mut more = [0; 1];
    assert!(timeout(Duration::from_millis(50), scene.replica.read(&mut more)).await.is_err());
    scene.hold(bytes, true);
    let mut mark = vec![0; scene.mark.len()];
    timeout(DEADLINE, scene.replica.read_exact(&mut mark)).await.unwrap().unwrap();
    assert_eq!(mark, scene.mark.as_bytes());
    assert_eq!(mark.len(), 40);
    scene.replica.write_all(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$5\r\n16303\r\n").await.unwrap();
    let (fed, kept) = timeout(DEADLINE, scene.fed).await.unwrap().unwrap().unwrap();
    assert_eq!(fed.offset, 16303);
    assert!(fed.behind_seconds <= fed.seconds);
    // The link is kept alive by what does not count.
    let mut newlines = [0; 2];
    timeout(DEADLINE, scene.replica.read_exact(&mut newlines)).await.unwrap().unwrap();
    assert_eq!(newlines, *b"\n\n");
    drop(kept);
    assert_eq!(timeout(DEADLINE, scene.replica.read(&mut newlines)).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn a_snapshot_that_does_not_come_whole_is_never_marked() {
    for held in [1, 3_000_000, 5_000_000] {
        let mut scene = Scene::new(5_000_000).await;
        scene.hold(held, false);
        scene.expect(0, held).await;
        scene.supply.take();
        let ended = timeout(DEADLINE, scene.fed).await.unwrap().unwrap();
        assert!(matches!(ended, Err(FeedError::Ended(fed)) if fed == held as u64), "{:?}", ended.err());
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, scene.replica.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, [0; 0], "after {held} bytes");
    }
}

#[tokio::test]
async fn what_is_taken_back_after_it_was_sent_ends_the_feed() {
    let mut scene = Scene::new(5_000_000).await;
    scene.hold(4_000_000, false);
    scene.expect(0, 4_000_000).await;
    scene.hold(0, false);
    assert_eq!(scene.rest().await, [0; 0]);
    assert!(matches!(timeout(DEADLINE, scene.fed).await.unwrap().unwrap(), Err(FeedError::TakenBack)));
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_of_with_how_far_it_came() {
    let mut scene = Scene::new(5_000_000).await;
    scene.hold(1000, false);
    scene.expect(0, 1000).await;
    drop(scene.replica);
    let ended = timeout(DEADLINE, scene.fed).await.unwrap().unwrap();
    assert!(matches!(ended, Err(FeedError::Broken { fed: 1000, .. })), "{:?}", ended.err());
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("part"), vec![7; 64 << 20]).unwrap();
    let listener = Listener::bind().await.unwrap();
    let (_replica, guest) = welcome(&listener).await;
    let (_supply, supplied) = watch::channel(Supply { held_bytes: 64 << 20, verified: true });
    let part = File::open(dir.path().join("part")).unwrap();
    let ended = timeout(DEADLINE, feed(guest, part, supplied, (Duration::from_millis(100), Signs::Newlines), |_| {}))
        .await
        .unwrap();
    assert!(matches!(ended, Err(FeedError::Stalled { .. })), "{:?}", ended.err());
}

#[tokio::test]
async fn strangers_are_refused_slowly_and_do_not_keep_the_server_out() {
    let listener = Listener::bind().await.unwrap();
    let begun = Instant::now();
    let rounds = 3;
    let mut strangers = Vec::new();
    for number in 0..rounds * VISITORS_MAX {
        let mut stranger = connect(&listener).await;
        let words: &[u8] = if number % 2 == 0 { b"PING\r\nPSYNC ? -1\r\n" } else { b"AUTH guess\r\n" };
        stranger.write_all(words).await.unwrap();
        strangers.push(stranger);
    }
    let (_replica, _guest) = welcome(&listener).await;
    // It came last, and those before it were let in a few at a time.
    assert!(begun.elapsed() >= LEAVE_AFTER * rounds as u32);
    for (number, mut stranger) in strangers.into_iter().enumerate() {
        let mut answer = String::new();
        let _ = timeout(DEADLINE, stranger.read_to_string(&mut answer)).await.unwrap();
        let expected = if number % 2 == 0 { "NOAUTH" } else { "WRONGPASS" };
        assert!(answer.contains(expected) && !answer.contains("FULLRESYNC"), "{answer}");
    }
}
