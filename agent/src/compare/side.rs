//! The two servers, and how they are asked: many commands at once, and both servers at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::resp::{self, Answer, Room, Want};
use super::show;
use crate::info::{Info, parse_running};
use crate::server::BareStream;

/// How long the answers to a batch may take. Batches are small; what is slower is busy with a long command of others.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Why nothing more can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stopped(pub(super) String);

/// A command and its arguments.
pub(super) type Words<'a> = Vec<&'a [u8]>;

/// One server, and a connection that is logged in.
pub(super) struct Side {
    name: String,
    stream: BufReader<BareStream>,
    /// What `rename-command` made of commands, as far as it is known.
    renames: BTreeMap<String, String>,
}

impl Side {
    pub(super) fn new(name: String, stream: BareStream, renames: BTreeMap<String, String>) -> Side {
        Side { name, stream: BufReader::new(stream), renames }
    }

    /// Asks everything at once. An answer is an error only where a key is of another type than a moment ago.
    pub(super) async fn ask(&mut self, commands: &[Words<'_>], want: Want) -> Result<Vec<Answer>, Stopped> {
        let mut bytes = Vec::new();
        for words in commands {
            encode(words, &self.renames, &mut bytes);
        }
        let talk = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await?;
            let (mut room, mut answers) = (Room::default(), Vec::with_capacity(commands.len()));
            for _ in commands {
                answers.push(resp::read(&mut self.stream, want, &mut room).await?);
            }
            Ok::<_, io::Error>(answers)
        };
        let answers = match timeout(BATCH_TIMEOUT, talk).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return Err(Stopped(format!("the connection to {} is lost: {error}", self.name))),
            Err(_) => return Err(Stopped(format!("{} says nothing for {} s", self.name, BATCH_TIMEOUT.as_secs()))),
        };
        for (words, answer) in commands.iter().zip(&answers) {
            if let Answer::Error(error) = answer
                && !error.starts_with("WRONGTYPE")
            {
                let command = String::from_utf8_lossy(words.first().copied().unwrap_or_default()).into_owned();
                let error = show::escaped(error.as_bytes(), show::LINE);
                return Err(Stopped(format!("{} refuses {command}: {error}", self.name)));
            }
        }
        Ok(answers)
    }

    /// Asks one thing.
    pub(super) async fn ask_one(&mut self, words: Words<'_>, want: Want) -> Result<Answer, Stopped> {
        Ok(self.ask(&[words], want).await?.pop().unwrap_or(Answer::Nil))
    }

    /// Which process it is, and which of its databases have keys.
    async fn introduce(&mut self) -> Result<(Option<String>, BTreeSet<u32>), Stopped> {
        let answer = self.ask_one(vec![b"INFO"], Want::Bytes).await?;
        let not_understood = || Stopped(format!("INFO of {} is not understood", self.name));
        let text = answer.word().ok_or_else(not_understood)?;
        let running = parse_running(text).map_err(|_| not_understood())?;
        if running.persistence.loading {
            return Err(Stopped(format!("{} is still loading its data set", self.name)));
        }
        let id = Info::parse(text).field("run_id").map(str::to_owned);
        Ok((id, running.keyspace.into_keys().collect()))
    }
}

fn encode(words: &[&[u8]], renames: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for (at, word) in words.iter().enumerate() {
        let renamed = (at == 0).then(|| renames.get(&*String::from_utf8_lossy(word))).flatten();
        let word = renamed.map_or(*word, |name| name.as_bytes());
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// This host's server, and the other.
pub(super) struct Pair {
    pub(super) here: Side,
    pub(super) there: Side,
}

impl Pair {
    /// Asks both the same.
    pub(super) async fn ask(
        &mut self,
        commands: &[Words<'_>],
        want: Want,
    ) -> Result<impl Iterator<Item = (Answer, Answer)> + use<>, Stopped> {
        let (here, there) = tokio::try_join!(self.here.ask(commands, want), self.there.ask(commands, want))?;
        Ok(here.into_iter().zip(there))
    }

    pub(super) async fn ask_one(&mut self, words: Words<'_>, want: Want) -> Result<(Answer, Answer), Stopped> {
        Ok(self.ask(&[words], want).await?.next().unwrap_or((Answer::Nil, Answer::Nil)))
    }

    /// The databases in which either has keys.
    pub(super) async fn databases(&mut self) -> Result<BTreeSet<u32>, Stopped> {
        let ((here, one), (there, other)) = tokio::try_join!(self.here.introduce(), self.there.introduce())?;
        if here.is_some() && here == there {
            return Err(Stopped(format!("{} is the very same server", self.there.name)));
        }
        Ok(one.into_iter().chain(other).collect())
    }

    pub(super) async fn select(&mut self, db: u32) -> Result<(), Stopped> {
        self.ask_one(vec![b"SELECT", db.to_string().as_bytes()], Want::Bytes).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_framed_by_their_bytes_under_the_names_that_the_server_knows() {
        let renames = BTreeMap::from([("DUMP".to_owned(), "d\u{f6}".to_owned())]);
        let mut bytes = Vec::new();
        encode(&[b"DUMP", b"DUMP", b"\r\n\xff"], &renames, &mut bytes);
        assert_eq!(bytes, b"*3\r\n$3\r\nd\xc3\xb6\r\n$4\r\nDUMP\r\n$3\r\n\r\n\xff\r\n");
    }

    async fn answered(answer: &'static [u8], commands: &[Words<'_>]) -> Result<Vec<Answer>, Stopped> {
        let (near, mut far) = tokio::io::duplex(4096);
        far.write_all(answer).await.unwrap();
        Side::new("c".into(), Box::new(near), BTreeMap::new()).ask(commands, Want::Bytes).await
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_the_command_and_a_type_that_changed_is_none() {
        let scan: Words = vec![b"SCAN", b"0"];
        let get: Words = vec![b"GET", b"k"];
        let refused = answered(b"$1\r\nv\r\n-NOPERM this \x1buser\r\n", &[get.clone(), scan]).await.unwrap_err();
        assert_eq!(refused.0, "c refuses SCAN: NOPERM this \\x1buser");
        let changed = answered(b"-WRONGTYPE Operation\r\n", &[get]).await.unwrap();
        assert_eq!(changed, [Answer::Error("WRONGTYPE Operation".into())]);
    }
}
