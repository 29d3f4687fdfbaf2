use super::*;
use crate::redis_conf::{Source, parse};

fn instance(dir: &Path, service: ServiceConfig, password_file: Option<PathBuf>) -> Instance {
    let config = InstanceConfig {
        name: InstanceName::new("default").unwrap(),
        config: dir.join("redis.conf"),
        address: None,
        user: None,
        password_file,
        tls_ca: None,
        service,
    };
    let agent = AgentConfig {
        listen: "127.0.0.1:7400".parse().unwrap(),
        identity: dir.join("id.pem"),
        state: dir.join("state"),
        disk_reserve_bytes: 0,
        memory_reserve_bytes: 0,
        lanes: 1,
        metrics: None,
        log: Default::default(),
        instances: vec![config.clone()],
    };
    Instance::new(config, &agent)
}

/// An instance with this configuration. Its server cannot be started here.
pub(crate) fn with_conf(dir: &Path, conf: &str) -> Instance {
    std::fs::write(dir.join("redis.conf"), conf).unwrap();
    instance(dir, exec(&["/nonexistent/redis-server", "redis.conf"]), None)
}

fn exec(words: &[&str]) -> ServiceConfig {
    ServiceConfig::Exec(words.iter().map(ToString::to_string).collect())
}

#[test]
fn arguments_of_the_service_come_after_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("redis.conf"), "port 1\n").unwrap();
    let plain = instance(dir.path(), exec(&["redis-server", "redis.conf", "--port", "2"]), None);
    assert_eq!(plain.conf().unwrap().port(), 2);
    let absolute = dir.path().join("redis.conf").display().to_string();
    let wrapped = instance(dir.path(), exec(&["wrap", "--port", "9", "redis-server", &absolute, "--port", "3"]), None);
    assert_eq!(wrapped.conf().unwrap().port(), 3);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let fault = instance(dir.path(), exec(&["redis-server"]), None).conf().unwrap_err();
    assert!(fault.to_string().contains("redis.conf: No such file"), "{fault}");
    assert!(fault.hint.is_some());
}

#[test]
fn the_password_file_goes_before_requirepass() {
    let dir = tempfile::tempdir().unwrap();
    let conf = |text: &str| {
        let source = Source { path: "redis.conf".into(), text: text.into() };
        parse(&source, dir.path(), &mut |_| Ok(Vec::new())).unwrap()
    };
    let file = dir.path().join("password");
    let password = |file: Option<&Path>| {
        let instance = instance(dir.path(), exec(&["redis-server"]), file.map(Path::to_owned));
        instance.credentials(&conf("requirepass from-conf")).map(|credentials| credentials.password)
    };
    assert_eq!(password(None), Ok(Some("from-conf".into())));
    assert!(matches!(password(Some(&file)), Err(ConnectError::Denied { user, .. }) if user == "default"));
    std::fs::write(&file, "from-file\n").unwrap();
    assert_eq!(password(Some(&file)), Ok(Some("from-file".into())));
}

#[tokio::test]
async fn a_server_is_stopped_only_if_it_is_at_none_of_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let busy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = busy.local_addr().unwrap().port();
    std::fs::write(dir.path().join("redis.conf"), format!("unixsocket none.sock\nport {port}\nbind 127.0.0.1\n"))
        .unwrap();
    let instance = instance(dir.path(), exec(&["redis-server"]), None);
    let hangs_up = tokio::spawn(async move {
        let (stream, _) = busy.accept().await.unwrap();
        drop(stream);
    });
    let silent = instance.connect().await.err();
    assert!(matches!(silent, Some(ConnectError::Silent(_))), "{silent:?}");
    hangs_up.await.unwrap();
    let stopped = instance.connect().await.err();
    assert!(matches!(stopped, Some(ConnectError::Stopped(_))), "{stopped:?}");
}

#[test]
fn the_failure_that_says_most_is_reported() {
    let stopped = || ConnectError::Stopped("a".into());
    let silent = || ConnectError::Silent("b".into());
    let denied = || ConnectError::Denied { user: "u".into(), error: "c".into() };
    assert_eq!(worse(Some(stopped()), stopped()), ConnectError::Stopped("a; a".into()));
    assert_eq!(worse(Some(stopped()), silent()), silent());
    assert_eq!(worse(Some(silent()), stopped()), silent());
    assert_eq!(worse(Some(silent()), denied()), denied());
    assert_eq!(worse(Some(denied()), silent()), denied());
}

#[tokio::test]
async fn the_data_of_a_stopped_server_is_where_its_file_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("redis.conf"), "port 0\nunixsocket s\ndir data\ndbfilename my.rdb\n").unwrap();
    let files = instance(dir.path(), exec(&["redis-server"]), None).data_files().await.unwrap();
    assert_eq!(files.dump(), dir.path().join("data/my.rdb"));
    assert_eq!((files.appendfilename.as_str(), files.appenddirname.as_str()), ("appendonly.aof", "appendonlydir"));
}
