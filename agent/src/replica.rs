//! The agent as a replica of its own server. To have its snapshot without a file, it asks for everything, as a replica does
//! that knows nothing, reads the snapshot, and leaves. To have what is written from now on, it asks to go on from where the
//! server stands.
//!
//! ```text
//!   REPLCONF capa eof, ... ─┬─> PSYNC ? -1 ──> +FULLRESYNC id offset ──> newlines ──> $EOF:mark ──> bytes, mark
//!                           └─> PSYNC id offset + 1 ──> +CONTINUE id ──> what is written
//! ```
//!
//! Options are sent one by one: one that a server does not know would void the others. Left out: what is done with the
//! bytes, and having the server willing (see [`crate::adopt`]).

pub mod payload;
pub mod reply;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use baton_proto::version::{Product, ServerVersion};
use baton_proto::{Fault, FaultKind, InstanceName, Lineage};
use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use self::payload::Ending;
use self::reply::Reply;
use crate::server::greeting::{self, Line};
use crate::server::{BareStream, CALL_TIMEOUT};

/// How long a server may say nothing at all. Before its snapshot it sends a newline each second, and during it bytes.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the snapshot may take to begin: another save of the server may have to end first.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// A snapshot that is about to come.
pub(crate) struct Coming {
    /// Where its data stands.
    pub(crate) stands: Lineage,
    pub(crate) ending: Ending,
    pub(crate) stream: BareStream,
}

/// Asks a server for everything. `alive` is called whenever it says that it is still at work.
pub(crate) async fn ask(
    instance: &InstanceName,
    (mut stream, renames): (BareStream, BTreeMap<String, String>),
    version: ServerVersion,
    mut alive: impl FnMut(),
) -> Result<Coming, Fault> {
    let psync = known_as(instance, &renames, "PSYNC")?;
    say_options(instance, (&mut stream, &renames), options(version)).await?;
    let asked = stream.write_all(&greeting::command(&[psync.as_str(), "?", "-1"])).await;
    asked.map_err(|error| lost(instance, &error))?;
    let deadline = Instant::now() + BEGIN_TIMEOUT;
    let mut stands = None;
    while Instant::now() < deadline {
        let line = timeout(SILENCE_TIMEOUT, greeting::read_bytes(&mut stream)).await;
        let line = line.map_err(|_| silent(instance, SILENCE_TIMEOUT))?.map_err(|error| lost(instance, &error))?;
        if line.is_empty() {
            return Err(lost(instance, &io::ErrorKind::UnexpectedEof.into()));
        }
        match (reply::read(&line), stands.take()) {
            (Reply::Alive, before) => {
                stands = before;
                alive();
            }
            (Reply::Resync(lineage), None) => stands = Some(lineage),
            (Reply::Begins(ending), Some(stands)) => return Ok(Coming { stands, ending, stream }),
            (Reply::Refused(error), _) => return Err(refused(instance, &error)),
            (other, _) => return Err(refused(instance, &format!("{other:?} came, which is none of a full resync"))),
        }
    }
    Err(silent(instance, BEGIN_TIMEOUT))
}

/// A link on which what is written comes.
pub(crate) struct Link {
    pub(crate) stream: BareStream,
    /// What keeps it alive. It claims nothing, so no client that waits for replicas counts this one.
    pub(crate) ack: Vec<u8>,
}

/// Asks a server for what is written behind a point of its history, which its backlog must hold.
pub(crate) async fn go_on(
    instance: &InstanceName,
    (mut stream, renames): (BareStream, BTreeMap<String, String>),
    from: &Lineage,
) -> Result<Link, Fault> {
    let (replconf, psync) = (known_as(instance, &renames, "REPLCONF")?, known_as(instance, &renames, "PSYNC")?);
    let ack = greeting::command(&[&replconf, "ACK", "0"]);
    say_options(instance, (&mut stream, &renames), capabilities()).await?;
    let next = from.offset.saturating_add(1).to_string();
    let asked = stream.write_all(&greeting::command(&[&psync, from.id.as_str(), &next])).await;
    asked.map_err(|error| lost(instance, &error))?;
    loop {
        let line = timeout(CALL_TIMEOUT, greeting::read_bytes(&mut stream)).await;
        let line = line.map_err(|_| silent(instance, CALL_TIMEOUT))?.map_err(|error| lost(instance, &error))?;
        if line.is_empty() {
            return Err(lost(instance, &io::ErrorKind::UnexpectedEof.into()));
        }
        let why = match reply::read(&line) {
            Reply::Alive => continue,
            Reply::Continues(id) if id.as_ref().is_none_or(|id| *id == from.id) => return Ok(Link { stream, ack }),
            Reply::Continues(_) => "its history has changed".to_owned(),
            Reply::Resync(_) => format!("its backlog does not hold what follows {from}"),
            Reply::Refused(error) => greeting::first_sentence(&error).to_owned(),
            other => format!("{other:?} came, which is none of a partial resync"),
        };
        return Err(Fault::new(FaultKind::Refused, format!("the server of instance `{instance}` does not go on"))
            .because(why)
            .hint("see its log, and its client-output-buffer-limit for replicas; then take the snapshot again"));
    }
}

/// The name by which the server knows a command.
fn known_as(
    instance: &InstanceName,
    renames: &BTreeMap<String, String>,
    command: &'static str,
) -> Result<String, Fault> {
    match renames.get(command).map(String::as_str) {
        Some("") => Err(refused(instance, &format!("`{command}` is disabled by `rename-command` in redis.conf"))),
        Some(other) => Ok(other.to_owned()),
        None => Ok(command.to_owned()),
    }
}

async fn say_options(
    instance: &InstanceName,
    (stream, renames): (&mut BareStream, &BTreeMap<String, String>),
    options: Vec<Vec<String>>,
) -> Result<(), Fault> {
    let replconf = known_as(instance, renames, "REPLCONF")?;
    for option in options {
        let words: Vec<&str> = [replconf.as_str()].into_iter().chain(option.iter().map(String::as_str)).collect();
        let answer = timeout(CALL_TIMEOUT, greeting::ask(stream, &words)).await;
        match answer.map_err(|_| silent(instance, CALL_TIMEOUT))?.map_err(|error| lost(instance, &error))? {
            Line::Error(error) if error.starts_with("NOPERM") => return Err(refused(instance, &error)),
            // Not known to it: the stream is then a little other, and the reader takes every form.
            Line::Status(_) | Line::Error(_) => {}
            Line::Foreign(text) => return Err(refused(instance, &text)),
            Line::Closed => return Err(lost(instance, &io::ErrorKind::UnexpectedEof.into())),
        }
    }
    Ok(())
}

/// What every replica of this agent can do.
fn capabilities() -> Vec<Vec<String>> {
    ["eof", "psync2"].iter().map(|name| vec!["capa".to_owned(), (*name).to_owned()]).collect()
}

/// What this replica can do, and wants.
fn options(version: ServerVersion) -> Vec<Vec<String>> {
    let mut options = capabilities();
    // The snapshot alone: what a server that serves is told meanwhile need not be kept for this replica.
    options.push(vec!["rdb-only".to_owned(), "1".to_owned()]);
    if version.product == Product::Valkey {
        // It writes in the format that this version reads, and in an old one for whoever says nothing.
        let own = format!("{}.{}.{}", version.major, version.minor, version.patch);
        options.push(vec!["version".to_owned(), own]);
    }
    options
}

/// Reads at most so many bytes behind what the buffer has. None came: the stream has ended.
pub(crate) async fn read(
    instance: &InstanceName,
    stream: &mut BareStream,
    buffer: &mut Vec<u8>,
    most: usize,
) -> Result<usize, Fault> {
    let mut room = buffer.limit(most);
    let read = timeout(SILENCE_TIMEOUT, stream.read_buf(&mut room)).await;
    read.map_err(|_| silent(instance, SILENCE_TIMEOUT))?.map_err(|error| lost(instance, &error))
}

fn refused(instance: &InstanceName, error: &str) -> Fault {
    let message = format!("the server of instance `{instance}` does not stream its snapshot");
    let fault = Fault::new(FaultKind::Server, message).because(greeting::first_sentence(error));
    match error.split_whitespace().next() {
        Some("NOPERM") => {
            fault.hint("allow `psync` and `replconf` to the agent's user, or use `--snapshot save` or `bgsave`")
        }
        _ => fault.hint("use `--snapshot save` or `--snapshot bgsave`, which need room on its disk"),
    }
}

fn lost(instance: &InstanceName, error: &io::Error) -> Fault {
    let message = format!("the server of instance `{instance}` broke its stream off");
    Fault::new(FaultKind::Server, message).because(error).hint("look in the server's log for the reason")
}

fn silent(instance: &InstanceName, limit: Duration) -> Fault {
    let message = format!("the server of instance `{instance}` says nothing, though a snapshot was asked of it");
    Fault::new(FaultKind::Server, message).because(format!("for {} s", limit.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valkey_is_told_which_format_is_read_and_options_stand_alone() {
        let options = |product, version: &str| {
            let all = options(ServerVersion::new(product, version).unwrap());
            all.iter().map(|words| words.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(options(Product::Redis, "7.0.15"), ["capa eof", "capa psync2", "rdb-only 1"]);
        assert_eq!(options(Product::Valkey, "9.1.2"), ["capa eof", "capa psync2", "rdb-only 1", "version 9.1.2"]);
    }

    /// Asks a server that answers with these lines to go on. Tells what it heard.
    async fn gone_on(answers: &str) -> (Result<String, String>, String) {
        let (near, mut far) = tokio::io::duplex(4096);
        far.write_all(answers.as_bytes()).await.unwrap();
        let instance = InstanceName::new("default").unwrap();
        let from = Lineage { id: "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse().unwrap(), offset: 700 };
        let renames = [("REPLCONF".to_owned(), "quiet".to_owned())].into();
        let near: BareStream = Box::new(near);
        let behind = match go_on(&instance, (near, renames), &from).await {
            Ok(mut link) => {
                far.write_all(b"*1\r\n").await.unwrap();
                let mut behind = [0; 4];
                link.stream.read_exact(&mut behind).await.unwrap();
                link.stream.write_all(&link.ack).await.unwrap();
                Ok(String::from_utf8_lossy(&behind).into_owned())
            }
            Err(fault) => Err(fault.to_string()),
        };
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        (behind, String::from_utf8(heard).unwrap())
    }

    #[tokio::test]
    async fn a_server_is_asked_for_what_follows_and_nothing_is_acknowledged() {
        let id = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";
        let (behind, heard) = gone_on(&format!("+OK\r\n-ERR unknown\r\n\n+CONTINUE {id}\r\n")).await;
        assert_eq!(behind, Ok("*1\r\n".into()), "nothing of what follows is lost");
        assert!(heard.contains(&format!("$5\r\nPSYNC\r\n$40\r\n{id}\r\n$3\r\n701\r\n")), "{heard}");
        assert!(heard.ends_with("*3\r\n$5\r\nquiet\r\n$3\r\nACK\r\n$1\r\n0\r\n"), "{heard}");
        let other = "0".repeat(40);
        for (answer, why) in [
            (format!("+FULLRESYNC {id} 800"), "does not hold what follows"),
            (format!("+CONTINUE {other}"), "history has changed"),
            ("-NOMASTERLINK Can't SYNC while not connected".to_owned(), "NOMASTERLINK"),
            ("$5".to_owned(), "none of a partial resync"),
        ] {
            let (behind, _) = gone_on(&format!("+OK\r\n+OK\r\n{answer}\r\n")).await;
            assert!(behind.clone().unwrap_err().contains(why), "{behind:?}");
        }
    }
}
