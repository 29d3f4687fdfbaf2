use std::os::unix::fs::PermissionsExt;

use baton_wire::{Credentials, Dialer, Identity, Listener, Role};

use super::*;

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn made() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("pki");
    init(&dir, "ada").unwrap();
    (temp, dir)
}

#[test]
fn identities_are_read_back_with_their_roles() {
    let (_temp, dir) = made();
    let operator = Identity::load(&dir.join("operator.pem")).unwrap();
    assert_eq!(*operator.role(), Role::Operator("ada".into()));
    let out = dir.join("machine-b.pem");
    issue(&host("machine-b"), &dir, &out).unwrap();
    assert_eq!(*Identity::load(&out).unwrap().role(), Role::Agent(host("machine-b")));
}

#[test]
fn files_belong_to_their_owner_alone_and_nothing_temporary_stays() {
    let (_temp, dir) = made();
    issue(&host("b"), &dir, &dir.join("b.pem")).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(["ca.key", "operator.pem", "b.pem"].map(|name| mode(&dir.join(name))), [0o600; 3]);
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["b.pem", "ca.key", "ca.pem", "issued.jsonl", "operator.pem"]);
}

#[test]
fn nothing_is_ever_written_over() {
    let (_temp, dir) = made();
    let before = std::fs::read(dir.join("ca.key")).unwrap();
    let error = init(&dir, "eve").unwrap_err();
    assert!(matches!(&error, PkiError::Exists(path) if path.ends_with("ca.key")), "{error}");
    assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), before);

    let out = dir.join("b.pem");
    std::fs::write(&out, "precious").unwrap();
    assert!(matches!(issue(&host("b"), &dir, &out), Err(PkiError::Exists(_))));
    assert!(matches!(place::secret(&out, "other"), Err(PkiError::Exists(_))));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
    // A link that leads nowhere is something as well.
    let dangling = dir.join("c.pem");
    std::os::unix::fs::symlink("/nonexistent/baton", &dangling).unwrap();
    assert!(matches!(issue(&host("c"), &dir, &dangling), Err(PkiError::Exists(_))));
}

#[test]
fn a_key_that_others_can_read_signs_nothing() {
    let (_temp, dir) = made();
    for exposed in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(dir.join("ca.key"), PermissionsExt::from_mode(exposed)).unwrap();
        let error = issue(&host("b"), &dir, &dir.join("b.pem")).unwrap_err();
        assert!(matches!(error, PkiError::Exposed { .. }), "{error}");
        assert!(!dir.join("b.pem").exists());
    }
}

#[test]
fn a_directory_that_others_can_change_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(init(temp.path(), "ada"), Err(PkiError::Open { mode: 0o777, .. })));
    std::fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    init(temp.path(), "ada").unwrap();
}

#[test]
fn names_that_tls_would_not_find_are_refused() {
    let (_temp, dir) = made();
    for bad in ["7", "db.10", "a.0x1f", "a..b", "a.", "a-", "a-.b"] {
        let error = issue(&host(bad), &dir, &dir.join("bad.pem")).unwrap_err();
        assert!(matches!(error, PkiError::HostName(..)), "{bad}: {error}");
    }
    assert!(!dir.join("bad.pem").exists());
}

#[test]
fn a_directory_without_an_authority_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let error = issue(&host("b"), temp.path(), &temp.path().join("b.pem")).unwrap_err();
    assert!(error.to_string().starts_with("read ") && error.to_string().contains("ca.key"), "{error}");
    let (_temp, dir) = made();
    std::fs::write(dir.join("ca.pem"), "not a certificate").unwrap();
    let error = issue(&host("b"), &dir, &dir.join("b.pem")).unwrap_err();
    assert!(matches!(error, PkiError::NoAuthority { .. }), "{error}");
}

#[test]
fn operators_get_names_that_fit_a_uri() {
    assert_eq!(
        ["ada", "ada@example.net", "", "ümlaut/../x"].map(uri_name),
        ["ada", "adaexample.net", "operator", "mlaut..x"]
    );
    assert_eq!(uri_name(&"x".repeat(1000)).len(), OPERATOR_CHARS_MAX);
}

/// Every name that may be issued is one under which an agent is found and believed.
#[tokio::test]
async fn issued_identities_are_accepted_by_both_ends_of_a_connection() {
    let (_temp, dir) = made();
    let operator = Credentials::load(&dir.join("operator.pem")).unwrap();
    let dialer = Dialer::new(&operator, "coord test").unwrap();
    for (index, name) in ["machine-b", "db_1", "db1.example.net", "7a", "10.x0", &"x".repeat(63)].iter().enumerate() {
        let name = host(name);
        let out = dir.join(format!("agent{index}.pem"));
        issue(&name, &dir, &out).unwrap();
        let listener =
            Listener::bind(&Credentials::load(&out).unwrap(), ([127, 0, 0, 1], 0).into(), "agent test").unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let peer = listener.accept().await.unwrap().greet().await.unwrap();
            let role = peer.role().clone();
            // The connection lives as long as the peer.
            (peer, role)
        });
        let link = dialer.dial(&baton_proto::HostPort::new("127.0.0.1", address.port()), &name).await;
        let link = link.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (_peer, role) = served.await.unwrap();
        assert_eq!(role, Role::Operator("ada".into()));
        link.close();
    }
}
