//! Against listeners of a few lines; real servers are the business of the end-to-end tests.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::connect::greet;
use super::*;

/// Answers each read with the next line.
async fn server_that_says(lines: &'static [&'static str]) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        for line in lines {
            if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
            stream.write_all(line.as_bytes()).await.unwrap();
        }
        // Until the other side has had enough.
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    });
    Endpoint::Tcp(HostPort::new("127.0.0.1", port))
}

async fn refusal(lines: &'static [&'static str], credentials: Credentials) -> ConnectError {
    let endpoint = server_that_says(lines).await;
    Server::connect(&endpoint, &credentials).await.err().expect("the connection was refused")
}

fn password() -> Credentials {
    Credentials { user: None, password: Some("secret".into()) }
}

#[tokio::test]
async fn where_nothing_listens_no_server_is_running() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
    drop(listener);
    let tcp = Server::connect(&Endpoint::Tcp(address), &Credentials::default()).await.err();
    assert!(matches!(tcp, Some(ConnectError::Stopped(_))), "{tcp:?}");
    let unix = Server::connect(&Endpoint::Unix("/nonexistent/redis.sock".into()), &Credentials::default()).await.err();
    assert!(matches!(unix, Some(ConnectError::Stopped(_))), "{unix:?}");
}

#[tokio::test]
async fn an_address_of_another_host_is_not_asked() {
    // TEST-NET-3: nobody has it.
    let elsewhere = Endpoint::Tcp(HostPort::new("203.0.113.1", 6379));
    match Server::connect(&elsewhere, &Credentials::default()).await.err() {
        Some(ConnectError::Stopped(reason)) => assert!(reason.contains("not an address of this host"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_login_names_the_user() {
    let no_password = refusal(&["-NOAUTH Authentication required.\r\n"], Credentials::default()).await;
    let user = "default".to_owned();
    assert_eq!(no_password, ConnectError::Denied { user, error: "NOAUTH Authentication required.".into() });
    let credentials = Credentials { user: Some("baton".into()), ..password() };
    match refusal(&["-WRONGPASS invalid username-password pair\r\n"], credentials).await {
        ConnectError::Denied { user, .. } => assert_eq!(user, "baton"),
        other => panic!("{other:?}"),
    }
    let old = refusal(&["-ERR invalid password\r\n"], password()).await;
    assert!(matches!(old, ConnectError::Denied { .. }), "{old:?}");
}

#[tokio::test]
async fn a_password_that_the_server_does_not_want_is_no_obstacle() {
    let endpoint =
        server_that_says(&["-ERR Client sent AUTH, but no password is set\r\n", "+PONG\r\n", ":7\r\n"]).await;
    let mut server = Server::connect(&endpoint, &password()).await.unwrap();
    assert_eq!(server.call(&["DBSIZE"]).await, Ok(Answer::Number(7)));
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_alive() {
    for line in [
        &["-LOADING Redis is loading the dataset in memory\r\n"],
        &["-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"],
        &["-NOPERM this user has no permissions to run the 'ping' command\r\n"],
    ] {
        let endpoint = server_that_says(line).await;
        assert!(Server::connect(&endpoint, &Credentials::default()).await.is_ok(), "{line:?}");
    }
}

#[tokio::test]
async fn who_is_no_server_or_has_no_room_is_silent() {
    for lines in [&["HTTP/1.1 400 Bad Request\r\n"], &["-ERR max number of clients reached\r\n"]] {
        let silent = refusal(lines, Credentials::default()).await;
        assert!(matches!(silent, ConnectError::Silent(_)), "{silent:?}");
    }
}

#[tokio::test]
async fn a_rehearsal_is_not_a_server() {
    let stopped = refusal(&["+BATON REHEARSAL c\r\n"], Credentials::default()).await;
    assert!(matches!(stopped, ConnectError::Stopped(_)), "{stopped:?}");
}

#[tokio::test]
async fn answers_and_errors_are_told_as_the_server_said_them() {
    let endpoint = server_that_says(&[
        "+PONG\r\n",
        "-ERR\r\n",
        "-MISCONF Redis is configured\r\n",
        "*4\r\n$3\r\ndir\r\n$5\r\n/data\r\n$4\r\nport\r\n$4\r\n6379\r\n",
        "*0\r\n",
        "$-1\r\n",
    ])
    .await;
    let mut server = Server::connect(&endpoint, &Credentials::default()).await.unwrap();
    assert_eq!(server.call(&["SAVE"]).await, Err(ServerError::Said("ERR".into())));
    let error = server.call(&["SET", "a", "b"]).await.unwrap_err();
    assert_eq!((error.to_string(), error.code()), ("MISCONF Redis is configured".into(), Some("MISCONF")));
    let all = server.all_config().await.unwrap();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [("dir".into(), "/data".into()), ("port".into(), "6379".into())]);
    assert_eq!(server.config("unknown").await, Ok(None));
    assert_eq!(server.call(&["GET", "a"]).await, Ok(Answer::Nil));
}

#[tokio::test]
async fn commands_are_called_by_the_names_that_the_server_gave_them() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let endpoint = Endpoint::Unix("pair".into());
    let answering = tokio::spawn(async move {
        let mut theirs = theirs;
        let mut heard = Vec::new();
        let mut buffer = [0; 1024];
        for line in ["+PONG\r\n", "+OK\r\n"] {
            let read = theirs.read(&mut buffer).await.unwrap();
            heard.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            theirs.write_all(line.as_bytes()).await.unwrap();
        }
        heard
    });
    let mut ours: BareStream = Box::new(ours);
    greet(&mut ours, &endpoint, &Credentials::default()).await.unwrap();
    let server = Server::over(ours, &endpoint).await.unwrap();
    let renames = [("SAVE".to_owned(), "hidden".to_owned()), ("CONFIG".to_owned(), String::new())];
    let counted = Arc::new(());
    let mut server = server.of_instance(renames.into_iter().collect(), Arc::clone(&counted));
    assert_eq!(Arc::strong_count(&counted), 2);
    assert!(matches!(server.config("dir").await, Err(ServerError::Said(line)) if line.contains("rename-command")));
    assert_eq!(server.call(&["SAVE"]).await, Ok(Answer::Status("OK".into())));
    assert!(answering.await.unwrap()[1].contains("hidden"));
    drop(server);
    assert_eq!(Arc::strong_count(&counted), 1);
}
