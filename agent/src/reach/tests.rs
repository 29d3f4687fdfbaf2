//! Real sockets on loopback. Two addresses stand for two hosts.

use baton_proto::FaultKind;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::instance::tests::with_conf;

const HERE: &str = "127.0.0.1";

struct Pair {
    _dirs: [TempDir; 2],
    replica: Instance,
    target: Instance,
    address: HostPort,
}

/// A replica, and a stopped target on a port that was free a moment ago.
async fn pair(replica: &str, target: &str) -> Pair {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = free_port().await;
    let address = HostPort::new(HERE, port);
    let target = format!("bind {HERE}\nport {port}\n{target}\n");
    // Nothing listens at the replica's own place either: it is judged by its file.
    let replica = format!("bind {HERE}\nport {}\n{replica}\n", free_port().await);
    Pair {
        replica: with_conf(dirs[0].path(), &replica),
        target: with_conf(dirs[1].path(), &target),
        _dirs: dirs,
        address,
    }
}

async fn free_port() -> u16 {
    TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_stopped_target_is_reached_while_it_rehearses_and_refuses_afterwards() {
    let pair = pair("", "").await;
    assert_eq!(reach(&pair.replica, &pair.address).await.verdict, ReachVerdict::Refused);
    rehearse(&pair.target, 30).await.unwrap();
    let reached = reach(&pair.replica, &pair.address).await;
    assert_eq!(reached.verdict, ReachVerdict::Rehearsal, "{}", reached.detail);
    assert!(reached.detail.contains(&pair.address.to_string()), "{}", reached.detail);
    end_rehearsal(&pair.target).await;
    assert_eq!(reach(&pair.replica, &pair.address).await.verdict, ReachVerdict::Refused);
    TcpListener::bind((HERE, pair.address.port)).await.expect("the port is free for the server");
}

#[tokio::test]
async fn a_rehearsal_lasts_until_the_last_who_asked_has_what_it_wanted_and_is_not_taken_for_a_server() {
    let pair = pair("", "").await;
    let (one, other) = tokio::join!(rehearse(&pair.target, 30), rehearse(&pair.target, 30));
    one.and(other).unwrap();
    rehearse(&pair.target, 0).await.unwrap();
    assert_eq!(reach(&pair.replica, &pair.address).await.verdict, ReachVerdict::Rehearsal);
    rehearse(&pair.target, 0).await.unwrap();
    assert_eq!(reach(&pair.replica, &pair.address).await.verdict, ReachVerdict::Refused);
    rehearse(&pair.target, 30).await.unwrap();
    let connected = pair.target.connect().await.err();
    assert!(matches!(connected, Some(crate::server::ConnectError::Stopped(_))), "{connected:?}");
}

#[tokio::test]
async fn a_rehearsal_ends_by_itself() {
    let pair = pair("", "").await;
    rehearse(&pair.target, 0).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while reach(&pair.replica, &pair.address).await.verdict != ReachVerdict::Refused {
        assert!(tokio::time::Instant::now() < deadline, "it still listens");
    }
}

#[tokio::test]
async fn passwords_are_rehearsed_as_well() {
    for (replica, target, expected) in [
        ("masterauth secret", "requirepass secret", ReachVerdict::Rehearsal),
        ("masterauth wrong", "requirepass secret", ReachVerdict::Unauthorised),
        ("", "requirepass secret", ReachVerdict::Unauthorised),
        ("masterauth secret", "", ReachVerdict::Unauthorised),
        ("masterauth secret\nmasteruser repl", "user repl on >secret +psync", ReachVerdict::Rehearsal),
        ("masterauth secret\nmasteruser repl", "user repl on >other +psync", ReachVerdict::Unauthorised),
    ] {
        let pair = pair(replica, target).await;
        rehearse(&pair.target, 30).await.unwrap();
        let reached = reach(&pair.replica, &pair.address).await;
        assert_eq!(reached.verdict, expected, "{replica} / {target}: {}", reached.detail);
    }
}

#[tokio::test]
async fn protected_mode_is_rehearsed_from_the_address_of_the_replica() {
    let pair = pair("bind-source-addr 127.0.0.77", "").await;
    rehearse(&pair.target, 30).await.unwrap();
    let reached = reach(&pair.replica, &pair.address).await;
    assert_eq!(reached.verdict, ReachVerdict::Denied, "{}", reached.detail);
}

#[tokio::test]
async fn a_taken_port_is_refused_and_named() {
    let pair = pair("", "").await;
    let _other = TcpListener::bind((HERE, pair.address.port)).await.unwrap();
    // It accepts and says nothing: the agent waits for it in vain, then tells.
    let fault = rehearse(&pair.target, 30).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains(&pair.address.to_string()), "{fault}");
}

#[tokio::test]
async fn an_address_of_another_host_is_refused_unless_it_is_optional() {
    let pair = pair("", "").await;
    let conf = |bind: &str| format!("bind {HERE} {bind}\nport {}\n", pair.address.port);
    std::fs::write(&pair.target.config().config, conf("203.0.113.9")).unwrap();
    let fault = rehearse(&pair.target, 30).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.message.as_str()),
        (FaultKind::Refused, "203.0.113.9 is not an address of this host")
    );
    std::fs::write(&pair.target.config().config, conf("-203.0.113.9")).unwrap();
    rehearse(&pair.target, 30).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_port_for_others_cannot_be_rehearsed() {
    let pair = pair("", "").await;
    std::fs::write(&pair.target.config().config, "port 0\nunixsocket redis.sock\n").unwrap();
    let fault = rehearse(&pair.target, 30).await.unwrap_err();
    assert!(fault.message.contains("no TCP port"), "{fault}");
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unreachable() {
    let pair = pair("", "").await;
    let nowhere = HostPort::new("does-not-exist.invalid", 6379);
    assert_eq!(reach(&pair.replica, &nowhere).await.verdict, ReachVerdict::Unreachable);
}
