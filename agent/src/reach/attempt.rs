//! The first words of a replica to its primary, and what the answers mean.
//!
//! ```text
//!   PING ──> +PONG | NOAUTH | NOPERM ──> AUTH, if there is a masterauth ──> +OK ──> PING ──> open
//!     │                 │                  │
//!     │                 └─ no masterauth ──┴─ wrong, or not wanted: unauthorised
//!     └─ protected mode: denied · loading and others: busy · this agent's own kind: rehearsal
//! ```

use baton_proto::control::{Reach, ReachVerdict};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{by_tls, verdict};
use crate::redis_conf::RedisConf;
use crate::server::greeting::{self, Line};
use crate::tls;

/// With what an instance logs in to its primary.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Login {
    pub(super) fn of_conf(conf: &RedisConf) -> Login {
        Login { user: conf.masteruser().map(str::to_owned), password: conf.masterauth().map(str::to_owned) }
    }
}

/// Speaks to whoever accepted, and judges.
pub(super) async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), login: &Login) -> Reach {
    let first = match hear(stream, &["PING"]).await {
        Ok(line) => line,
        Err(reach) => return reach,
    };
    let must_log_in = match first {
        Line::Error(error) if greeting::asks_for_password(&error) => Some(error),
        // The user without a name may not PING. A replica takes no offence.
        Line::Error(error) if error.starts_with("NOPERM") => None,
        Line::Status(status) if login.password.is_none() => return welcome(&status),
        Line::Status(_) => None,
        other => return unwelcome(other),
    };
    let Some(password) = &login.password else {
        return match must_log_in {
            Some(error) => verdict(
                ReachVerdict::Unauthorised,
                format!("it wants a password, and this instance has no `masterauth` to give: {error}"),
            ),
            None => welcome("it answers"),
        };
    };
    match hear(stream, &greeting::auth(login.user.as_deref(), password)).await {
        Ok(Line::Status(_)) => {}
        Ok(Line::Error(error)) if greeting::needs_no_password(&error) => {
            return verdict(
                ReachVerdict::Unauthorised,
                format!("it has no password, and takes the `masterauth` of this instance for a mistake: {error}"),
            );
        }
        Ok(Line::Error(error)) => {
            let user = login.user.as_deref().unwrap_or("default");
            return verdict(ReachVerdict::Unauthorised, format!("it refuses `masterauth` of user `{user}`: {error}"));
        }
        Ok(other) => return unwelcome(other),
        Err(reach) => return reach,
    }
    match hear(stream, &["PING"]).await {
        Ok(Line::Status(status)) => welcome(&status),
        Ok(Line::Error(error)) if error.starts_with("NOPERM") => welcome(&error),
        Ok(other) => unwelcome(other),
        Err(reach) => reach,
    }
}

/// A peer that broke off was there to do so.
async fn hear(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[&str]) -> Result<Line, Reach> {
    greeting::ask(stream, words).await.map_err(|error| match tls::mistrust(&error) {
        Some(why) => by_tls(why),
        None => verdict(ReachVerdict::Busy, format!("it broke the connection off: {error}")),
    })
}

fn welcome(status: &str) -> Reach {
    if status.starts_with(greeting::REHEARSAL) {
        verdict(ReachVerdict::Rehearsal, status)
    } else {
        verdict(ReachVerdict::Open, format!("it answers: {status}"))
    }
}

fn unwelcome(line: Line) -> Reach {
    match line {
        Line::Error(error) if error.starts_with("DENIED") => {
            verdict(ReachVerdict::Denied, greeting::first_sentence(&error))
        }
        Line::Error(error) => verdict(ReachVerdict::Busy, error),
        Line::Status(status) => welcome(&status),
        Line::Foreign(text) => {
            verdict(ReachVerdict::Busy, format!("what listens there is no Redis or Valkey server, it says `{text}`"))
        }
        Line::Closed => verdict(ReachVerdict::Busy, "it accepts, and closes the connection without a word"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What is said to a server that answers with these lines, one at a time.
    async fn judged(login: &Login, lines: &'static [&'static str]) -> (ReachVerdict, Vec<String>) {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let server = tokio::spawn(async move {
            let mut heard = Vec::new();
            let mut buffer = [0; 512];
            for line in lines {
                let read = far.read(&mut buffer).await.unwrap();
                heard.push(String::from_utf8_lossy(&buffer[..read]).replace("\r\n", " ").trim_end().to_owned());
                far.write_all(line.as_bytes()).await.unwrap();
            }
            heard
        });
        let reach = talk(&mut near, login).await;
        (reach.verdict, server.await.unwrap())
    }

    fn login(user: Option<&str>) -> Login {
        Login { user: user.map(str::to_owned), password: Some("secret".into()) }
    }

    #[tokio::test]
    async fn a_server_without_password_is_open_to_an_instance_without_one() {
        let (verdict, heard) = judged(&Login::default(), &["+PONG\r\n"]).await;
        assert_eq!((verdict, heard), (ReachVerdict::Open, vec!["*1 $4 PING".to_owned()]));
    }

    #[tokio::test]
    async fn the_right_password_opens() {
        let lines = &["-NOAUTH Authentication required.\r\n", "+OK\r\n", "+PONG\r\n"];
        let (verdict, heard) = judged(&login(Some("repl")), lines).await;
        assert_eq!((verdict, heard[1].as_str()), (ReachVerdict::Open, "*3 $4 AUTH $4 repl $6 secret"));
        let (verdict, heard) = judged(&login(None), lines).await;
        assert_eq!((verdict, heard[1].as_str()), (ReachVerdict::Open, "*2 $4 AUTH $6 secret"));
    }

    #[tokio::test]
    async fn a_missing_wrong_or_superfluous_password_is_told() {
        let unauthorised = ReachVerdict::Unauthorised;
        assert_eq!(judged(&Login::default(), &["-NOAUTH Authentication required.\r\n"]).await.0, unauthorised);
        assert_eq!(judged(&Login::default(), &["-ERR operation not permitted\r\n"]).await.0, unauthorised);
        assert_eq!(judged(&login(None), &["-NOAUTH x\r\n", "-WRONGPASS invalid\r\n"]).await.0, unauthorised);
        assert_eq!(judged(&login(None), &["-NOAUTH x\r\n", "-ERR invalid password\r\n"]).await.0, unauthorised);
        let superfluous = &["+PONG\r\n", "-ERR AUTH <password> called without any password configured\r\n"];
        assert_eq!(judged(&login(None), superfluous).await.0, unauthorised);
    }

    #[tokio::test]
    async fn a_server_that_is_not_ready_or_denies_is_told_apart() {
        let none = Login::default();
        assert_eq!(judged(&none, &["-LOADING Redis is loading\r\n"]).await.0, ReachVerdict::Busy);
        assert_eq!(judged(&login(None), &["-NOAUTH x\r\n", "+OK\r\n", "-LOADING x\r\n"]).await.0, ReachVerdict::Busy);
        assert_eq!(judged(&none, &["-DENIED Redis is running in protected mode\r\n"]).await.0, ReachVerdict::Denied);
        assert_eq!(judged(&none, &["SSH-2.0-OpenSSH\r\n"]).await.0, ReachVerdict::Busy);
        assert_eq!(judged(&none, &[""]).await.0, ReachVerdict::Busy);
    }

    #[tokio::test]
    async fn a_rehearsal_is_known_by_its_words() {
        assert_eq!(judged(&Login::default(), &["+BATON REHEARSAL c\r\n"]).await.0, ReachVerdict::Rehearsal);
        let locked = &["-NOAUTH Authentication required.\r\n", "+OK\r\n", "+BATON REHEARSAL c\r\n"];
        assert_eq!(judged(&login(None), locked).await.0, ReachVerdict::Rehearsal);
    }

    #[tokio::test]
    async fn a_user_without_a_name_who_may_not_ping_is_no_obstacle() {
        let lines = &["-NOPERM this user has no permissions to run the 'ping' command\r\n"];
        assert_eq!(judged(&Login::default(), lines).await.0, ReachVerdict::Open);
    }
}
