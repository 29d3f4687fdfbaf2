//! A replica's agent tries, by TLS or not, and another's rehearses.

use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::instance::tests::with_conf;
use crate::tls::tests::Ca;

const HERE: &str = "127.0.0.1";

fn free_port() -> u16 {
    std::net::TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port()
}

/// What a replica with these lines finds where a target with those rehearses.
async fn tried(dirs: &[TempDir; 2], replica: &str, target: impl Fn(u16) -> String) -> Reach {
    let port = free_port();
    let replica = with_conf(dirs[0].path(), &format!("bind {HERE}\nport {}\n{replica}", free_port()));
    let target = with_conf(dirs[1].path(), &format!("bind {HERE}\n{}", target(port)));
    let address = target.address(&target.conf().unwrap());
    assert_eq!(address.port, port, "others are told the port that the replica would use");
    rehearse(&target, 30).await.unwrap();
    let seen = reach(&replica, &address).await;
    end_rehearsal(&target).await;
    seen
}

fn dirs() -> [TempDir; 2] {
    [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]
}

#[tokio::test]
async fn a_rehearsal_speaks_tls_and_lets_in_by_password_and_certificate() {
    let (ca, dirs) = (Ca::new("ca"), dirs());
    let near = format!("tls-replication yes\nmasterauth secret\n{}", ca.equip(dirs[0].path(), "near", 9));
    let far = ca.equip(dirs[1].path(), "far", 9);
    let reached = tried(&dirs, &near, |port| format!("port 0\ntls-port {port}\nrequirepass secret\n{far}")).await;
    assert_eq!((reached.verdict, reached.tls), (ReachVerdict::Rehearsal, false), "{}", reached.detail);
    let reached = tried(&dirs, &near, |port| format!("port 0\ntls-port {port}\nrequirepass other\n{far}")).await;
    assert_eq!((reached.verdict, reached.tls), (ReachVerdict::Unauthorised, false), "{}", reached.detail);
}

#[tokio::test]
async fn certificates_that_are_not_trusted_are_told_on_either_side() {
    let (ca, other, dirs) = (Ca::new("ca"), Ca::new("other"), dirs());
    let near = |ca: &Ca, days| format!("tls-replication yes\n{}", ca.equip(dirs[0].path(), "near", days));
    let far = |ca: &Ca, days| ca.equip(dirs[1].path(), "far", days);
    // Each writes the same files anew.
    for (signer, days, words) in [(&other, 9, "another CA (CN=other)"), (&ca, -1, "(CN=far) has expired on")] {
        let (near, far) = (near(&ca, 9), far(signer, days));
        let reached = tried(&dirs, &near, |port| format!("port 0\ntls-port {port}\n{far}")).await;
        assert_eq!((reached.verdict, reached.tls), (ReachVerdict::Unauthorised, true), "{}", reached.detail);
        assert!(reached.detail.contains(words), "{}", reached.detail);
    }
    let good = far(&ca, 9);
    for (lines, words) in [(4, "it has expired"), (2, "none to show")] {
        let near = near(&ca, -1).lines().take(lines).collect::<Vec<_>>().join("\n");
        let reached = tried(&dirs, &near, |port| format!("port 0\ntls-port {port}\n{good}")).await;
        assert_eq!((reached.verdict, reached.tls), (ReachVerdict::Unauthorised, true), "{}", reached.detail);
        assert!(reached.detail.contains(words), "{}", reached.detail);
    }
}

#[tokio::test]
async fn tls_on_one_side_only_is_told() {
    let (ca, dirs) = (Ca::new("ca"), dirs());
    let near = format!("tls-replication yes\n{}", ca.equip(dirs[0].path(), "near", 9));
    let far = ca.equip(dirs[1].path(), "far", 9);
    let plain = tried(&dirs, &near, |port| format!("port {port}\n")).await;
    assert_eq!((plain.verdict, plain.tls), (ReachVerdict::Unauthorised, true), "{}", plain.detail);
    assert!(
        plain.detail.contains("speaks no TLS there") && plain.detail.contains("tls-replication yes"),
        "{}",
        plain.detail
    );
    let encrypted = tried(&dirs, "", |port| format!("port 0\ntls-port {port}\n{far}")).await;
    assert_eq!((encrypted.verdict, encrypted.tls), (ReachVerdict::Unauthorised, true), "{}", encrypted.detail);
    assert!(encrypted.detail.contains("it speaks TLS there"), "{}", encrypted.detail);
}

#[tokio::test]
async fn a_target_whose_certificate_cannot_be_used_cannot_be_rehearsed() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let conf = ca.equip(dir.path(), "far", 9);
    std::fs::remove_file(dir.path().join("key.pem")).unwrap();
    let target = with_conf(dir.path(), &format!("bind {HERE}\nport 0\ntls-port {}\n{conf}", free_port()));
    let fault = rehearse(&target, 30).await.unwrap_err();
    assert!(fault.to_string().contains("key.pem") && fault.hint.is_some(), "{fault}");
}

/// As the kernel of a stopped process does: nothing but silence tells, whatever is spoken.
#[tokio::test]
async fn one_that_hangs_is_not_taken_for_one_that_speaks_otherwise() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let silent = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = HostPort::new(HERE, silent.local_addr().unwrap().port());
    for more in [String::new(), format!("tls-replication yes\n{}", ca.equip(dir.path(), "near", 9))] {
        let replica = with_conf(dir.path(), &format!("bind {HERE}\nport {}\n{more}", free_port()));
        let reached = reach(&replica, &address).await;
        assert!(reached.hung && !reached.tls && reached.verdict == ReachVerdict::Busy, "{}", reached.detail);
    }
}
