//! Certificates that a test makes, and what is said of those that do not do.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use time::{Duration, OffsetDateTime};

use super::*;
use crate::redis_conf::{Source, parse};

/// An authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate without a host name, as Redis lets pass, valid until so many days from now.
fn params(name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    params
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, 30);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes what a server's TLS is made of, and yields the lines of its `redis.conf`.
    pub(crate) fn equip(&self, dir: &Path, name: &str, days: i64) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, days).signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join("ca.pem"), &self.pem).unwrap();
        std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        let file = |name: &str| dir.join(name).display().to_string();
        format!(
            "tls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\n",
            file("ca.pem"),
            file("cert.pem"),
            file("key.pem")
        )
    }
}

fn files(conf: &str) -> Files {
    let source = Source { path: "redis.conf".into(), text: conf.into() };
    Files::of_conf(&parse(&source, Path::new("/data"), &mut |_| Ok(Vec::new())).unwrap(), None)
}

/// Shakes hands, and tells what either side says of it.
async fn meet(client: &Files, server: &Files) -> Result<(), TlsError> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = acceptor(server).map_err(TlsError::Own)?;
    tokio::spawn(async move {
        if let Ok(mut stream) = acceptor.accept(far).await {
            stream.write_all(b"hello").await.unwrap();
            let _ = stream.read_u8().await;
        }
    });
    let mut stream = connect(near, client).await?;
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await?;
    Ok(())
}

#[test]
fn files_are_found_from_the_data_directory_and_a_client_may_have_its_own() {
    let one = files("tls-cert-file a\ntls-key-file /b\ntls-ca-cert-dir cas\ntls-auth-clients optional");
    assert_eq!(one.own(), Some(&("/data/a".into(), "/b".into())));
    assert_eq!((one.client(), one.asks), (one.own(), Asks::Anybody));
    assert_eq!(one.trust_in_words(), "/data/cas");
    let two =
        files("tls-cert-file a\ntls-key-file b\ntls-client-cert-file c\ntls-client-key-file d\ntls-auth-clients no");
    assert_eq!((two.client(), two.asks), (Some(&("/data/c".into(), "/data/d".into())), Asks::Nobody));
    assert_eq!(files("tls-cert-file a").own(), None, "a certificate without a key is none");
}

#[tokio::test]
async fn two_of_one_authority_trust_each_other_without_a_name() {
    let (ca, dirs) = (Ca::new("one"), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let [client, server] = [0, 1].map(|at| files(&ca.equip(dirs[at].path(), "some server", 10)));
    meet(&client, &server).await.unwrap();
}

#[tokio::test]
async fn another_authority_and_a_time_that_is_over_are_named() {
    let (ca, other) = (Ca::new("one"), Ca::new("the other"));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let client = files(&ca.equip(dirs[0].path(), "near", 10));
    let stranger = files(&other.equip(dirs[1].path(), "far", 10));
    let Err(TlsError::Mistrust(why)) = meet(&client, &stranger).await else { panic!("it is trusted") };
    assert!(why.contains("CN=far") && why.contains("another CA (CN=the other)") && why.contains("ca.pem"), "{why}");
    let expired = files(&ca.equip(dirs[1].path(), "far", -1));
    let Err(TlsError::Mistrust(why)) = meet(&client, &expired).await else { panic!("it is trusted") };
    assert!(why.contains("its certificate (CN=far) has expired on"), "{why}");
}

#[tokio::test]
async fn a_client_that_is_not_trusted_or_shows_nothing_learns_it() {
    let (ca, dirs) = (Ca::new("one"), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let equipped = ca.equip(dirs[0].path(), "near", -1);
    let server = files(&ca.equip(dirs[1].path(), "far", 10));
    let Err(TlsError::Mistrust(why)) = meet(&files(&equipped), &server).await else { panic!("it is trusted") };
    assert!(why.contains("the certificate of this instance") && why.contains("expired"), "{why}");
    let bare = equipped.lines().next().unwrap();
    let Err(TlsError::Mistrust(why)) = meet(&files(bare), &server).await else { panic!("it is let in") };
    assert!(why.contains("this instance has none to show"), "{why}");
    let lenient = files(&format!("{}tls-auth-clients no", ca.equip(dirs[1].path(), "far", 10)));
    meet(&files(bare), &lenient).await.unwrap();
}

/// One certificate for all that signed itself, as small groups have it: OpenSSL trusts it where it is listed.
#[tokio::test]
async fn a_certificate_that_is_itself_listed_is_trusted_until_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let alone = |days| {
        let key = KeyPair::generate().unwrap();
        let pem = params("all", days).self_signed(&key).unwrap().pem();
        for (file, text) in [("ca.pem", &pem), ("cert.pem", &pem), ("key.pem", &key.serialize_pem())] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let path = |file: &str| dir.path().join(file).display().to_string();
        let (ca, cert, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
        files(&format!("tls-ca-cert-file {ca}\ntls-cert-file {cert}\ntls-key-file {key}"))
    };
    let shared = alone(10);
    meet(&shared, &shared).await.unwrap();
    let old = alone(-1);
    assert!(matches!(meet(&old, &old).await, Err(TlsError::Mistrust(_))));
}

#[tokio::test]
async fn files_that_do_not_do_are_named() {
    let (ca, dir) = (Ca::new("one"), tempfile::tempdir().unwrap());
    let conf = ca.equip(dir.path(), "near", 10);
    let why = |conf: &str| acceptor(&files(conf)).err().unwrap();
    std::fs::write(dir.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(why(&conf).contains("do not fit"), "{}", why(&conf));
    std::fs::write(
        dir.path().join("key.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    assert!(why(&conf).contains("key.pem holds no key"), "{}", why(&conf));
    std::fs::remove_file(dir.path().join("cert.pem")).unwrap();
    assert!(why(&conf).contains("cert.pem"), "{}", why(&conf));
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(why(&conf).contains("ca.pem"), "{}", why(&conf));
    assert!(why("tls-auth-clients yes").contains("no CA is known"), "{}", why("tls-auth-clients yes"));
}
