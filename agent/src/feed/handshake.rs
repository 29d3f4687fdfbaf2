//! PURE: a primary's half of the conversation with a replica, up to the stream and after it. No socket and no clock.
//!
//! **The law**: after every `handle_bytes`, call [`Handshake::poll_output`] until it says [`Output::Wait`], and do what it
//! says.
//!
//! ```text
//!   Stranger ──AUTH, the secret──> Replica ──PSYNC or SYNC──> Streaming ──REPLCONF ACK──> Streaming (Acked)
//!      └──────── anything that a replica of ours would not say ────────> Refused
//! ```
//!
//! What a replica says, by version: `PING`; `AUTH`; `REPLCONF` with its port, its address, what it is capable of, its
//! version; then `PSYNC`, whatever it asks for, or `SYNC`. It bears an error to its `PING` before it has logged in.
//! Facts: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>, `syncWithMaster` in
//! `src/replication.c` of Redis and Valkey.

use std::collections::VecDeque;

use baton_proto::Lineage;

use super::requests::{RequestError, Requests, Words};
use crate::secret::same;

/// Most requests before the stream: a replica needs seven.
const REQUESTS_MAX: usize = 32;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Send(Vec<u8>),
    /// The replica has what it needs to take the snapshot: send the stream.
    Begin,
    /// The replica has loaded the stream, and stands at this offset.
    Acked(u64),
    /// Send these words, if any, and close: this is no replica of ours.
    Refuse {
        answer: Option<&'static str>,
        why: Refusal,
    },
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it does not know the secret of this feed")]
    Secret,
    #[error("it cannot read a stream without a length")]
    Capability,
    #[error("it talks and talks")]
    Endless,
    #[error("it does not speak the protocol: {0}")]
    Strange(RequestError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stranger,
    Replica,
    Streaming,
    Refused,
}

/// One conversation.
pub struct Handshake {
    secret: Vec<u8>,
    lineage: Lineage,
    state: State,
    requests: Requests,
    /// Whether the replica reads a stream that ends with a mark.
    reads_mark: bool,
    heard: usize,
    outputs: VecDeque<Output>,
}

impl Handshake {
    /// Begins a conversation. The snapshot is given away under this lineage, to whom knows the secret.
    pub fn new(secret: &str, lineage: Lineage) -> Handshake {
        Handshake {
            secret: secret.as_bytes().to_vec(),
            lineage,
            state: State::Stranger,
            requests: Requests::default(),
            reads_mark: false,
            heard: 0,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle_bytes(&mut self, mut bytes: &[u8]) {
        while self.state != State::Refused {
            match self.requests.take(&mut bytes) {
                Ok(Some(words)) => self.handle_request(&words),
                Ok(None) => return,
                Err(error) => self.refuse(Some("-ERR Protocol error"), Refusal::Strange(error)),
            }
        }
    }

    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or(Output::Wait)
    }

    fn handle_request(&mut self, words: &Words) {
        let mut words = words.iter().map(Vec::as_slice);
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        let arguments: Vec<&[u8]> = words.collect();
        if self.state == State::Streaming {
            self.handle_ack(&name, &arguments);
            return;
        }
        self.heard += 1;
        if self.heard > REQUESTS_MAX {
            self.refuse(None, Refusal::Endless);
            return;
        }
        match (self.state, name.as_slice()) {
            (_, b"AUTH") => match arguments.last() {
                // With a user or without: the secret alone is this feed's.
                Some(secret) if arguments.len() <= 2 && same(secret, &self.secret) => {
                    self.state = State::Replica;
                    self.say("+OK");
                }
                _ => {
                    self.refuse(Some("-WRONGPASS invalid username-password pair or user is disabled."), Refusal::Secret)
                }
            },
            (State::Stranger, b"PING") => self.say("-NOAUTH Authentication required."),
            (State::Stranger, _) => self.refuse(Some("-NOAUTH Authentication required."), Refusal::Secret),
            (_, b"PING") => self.say("+PONG"),
            (_, b"REPLCONF") => {
                if !is_ack(&name, &arguments) {
                    let pairs = arguments.as_chunks::<2>().0;
                    self.reads_mark |= pairs.iter().any(|[key, value]| is(key, b"capa") && is(value, b"eof"));
                    self.say("+OK");
                }
            }
            (_, b"PSYNC" | b"SYNC") if !self.reads_mark => {
                self.refuse(Some("-ERR this primary streams to replicas with `capa eof` only"), Refusal::Capability);
            }
            (_, b"PSYNC") => {
                let Lineage { id, offset } = &self.lineage;
                let answer = format!("+FULLRESYNC {id} {offset}");
                self.say(&answer);
                self.begin();
            }
            (_, b"SYNC") => self.begin(),
            _ => self.say("-ERR unknown command"),
        }
    }

    /// What a replica says once it has its stream: how far it is, and nothing that is answered.
    fn handle_ack(&mut self, name: &[u8], arguments: &[&[u8]]) {
        if !is_ack(name, arguments) {
            return;
        }
        let offset = arguments.get(1).and_then(|offset| std::str::from_utf8(offset).ok());
        if let Some(offset) = offset.and_then(|offset| offset.parse().ok()) {
            self.outputs.push_back(Output::Acked(offset));
        }
    }

    fn begin(&mut self) {
        self.state = State::Streaming;
        self.outputs.push_back(Output::Begin);
    }

    fn say(&mut self, line: &str) {
        self.outputs.push_back(Output::Send(format!("{line}\r\n").into_bytes()));
    }

    fn refuse(&mut self, answer: Option<&'static str>, why: Refusal) {
        self.state = State::Refused;
        self.outputs.push_back(Output::Refuse { answer, why });
    }
}

fn is(word: &[u8], name: &[u8]) -> bool {
    word.eq_ignore_ascii_case(name)
}

fn is_ack(name: &[u8], arguments: &[&[u8]]) -> bool {
    is(name, b"REPLCONF") && arguments.first().is_some_and(|word| is(word, b"ACK"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

    fn handshake() -> Handshake {
        Handshake::new("secret", Lineage { id: ID.parse().unwrap(), offset: 16303 })
    }

    fn array(line: &str) -> Vec<u8> {
        let words: Vec<_> = line.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        bytes
    }

    /// Every output, in a line of text each.
    fn said(handshake: &mut Handshake, bytes: &[u8], piece: usize) -> Vec<String> {
        let mut said = Vec::new();
        for piece in bytes.chunks(piece) {
            handshake.handle_bytes(piece);
            loop {
                said.push(match handshake.poll_output() {
                    Output::Wait => break,
                    Output::Send(bytes) => String::from_utf8(bytes).unwrap().trim_end().to_owned(),
                    Output::Refuse { answer, why } => format!("{why}: {}", answer.unwrap_or_default()),
                    other => format!("{other:?}"),
                });
            }
        }
        said
    }

    fn all(lines: &[&str], piece: usize) -> Vec<String> {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| array(line)).collect();
        said(&mut handshake(), &bytes, piece)
    }

    #[test]
    fn every_version_of_a_replica_gets_the_snapshot_however_its_words_are_split() {
        let resync = format!("+FULLRESYNC {ID} 16303");
        let conversations: [&[&str]; 4] = [
            // Redis 4.0 to 7.4.
            &["PING", "AUTH secret", "REPLCONF listening-port 6379", "REPLCONF capa eof capa psync2", "PSYNC ? -1"],
            // Redis 8, with a user and an announced address.
            &[
                "PING",
                "AUTH repl secret",
                "REPLCONF listening-port 6379",
                "REPLCONF ip-address 10.0.0.3",
                "REPLCONF capa eof capa psync2 capa rdb-channel-repl",
                "PSYNC ? -1",
            ],
            // Valkey 9, that was a replica before.
            &[
                "PING",
                "AUTH secret",
                "REPLCONF listening-port 6379",
                "REPLCONF capa eof capa psync2 capa dual-channel",
                "REPLCONF version 9.1.2",
                "PSYNC c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb 16304",
            ],
            &["ping", "auth secret", "replconf capa eof", "psync ? -1 FAILOVER"],
        ];
        for lines in conversations {
            let length: usize = lines.iter().map(|line| array(line).len()).sum();
            for piece in 1..=length {
                let said = all(lines, piece);
                assert_eq!(said[0], "-NOAUTH Authentication required.");
                assert!(said[1..lines.len() - 1].iter().all(|line| line == "+OK"), "{said:?}");
                assert_eq!(said[lines.len() - 1..], [resync.clone(), "Begin".into()], "{said:?}");
            }
        }
    }

    #[test]
    fn the_oldest_replicas_ask_inline_and_get_the_stream_without_a_word() {
        let said = said(&mut handshake(), b"PING\r\nAUTH secret\r\nREPLCONF capa eof\r\nPING\r\nSYNC\r\n", 3);
        assert_eq!(said, ["-NOAUTH Authentication required.", "+OK", "+OK", "+PONG", "Begin"]);
    }

    #[test]
    fn after_the_stream_only_what_the_replica_has_is_heard() {
        let mut handshake = handshake();
        let before: Vec<u8> =
            ["AUTH secret", "REPLCONF capa eof", "PSYNC ? -1"].iter().flat_map(|line| array(line)).collect();
        said(&mut handshake, &before, 1);
        let after = ["REPLCONF ACK 16303", "PING", "REPLCONF ACK 16303 FACK 7", "REPLCONF ACK nonsense", "SYNC"];
        let after: Vec<u8> = after.iter().flat_map(|line| array(line)).collect();
        assert_eq!(said(&mut handshake, &after, 2), ["Acked(16303)", "Acked(16303)"]);
        // For ever: acknowledgements come every second.
        let many: Vec<u8> = (0..200).flat_map(|_| array("REPLCONF ACK 16303")).collect();
        assert_eq!(said(&mut handshake, &many, 100).len(), 200);
    }

    #[test]
    fn nobody_gets_anything_without_the_secret() {
        for line in [
            "PSYNC ? -1",
            "SYNC",
            "REPLCONF capa eof",
            "INFO",
            "AUTH wrong",
            "AUTH",
            "AUTH a b secret",
            "AUTH secre",
            "AUTH secret2",
        ] {
            let said = all(&["PING", line, "AUTH secret", "REPLCONF capa eof", "PSYNC ? -1"], 5);
            assert_eq!(said.len(), 2, "{line}: {said:?}");
            assert!(said[1].starts_with(&Refusal::Secret.to_string()), "{line}: {said:?}");
        }
    }

    #[test]
    fn a_replica_that_cannot_read_a_mark_is_told_so() {
        let said = all(&["AUTH secret", "REPLCONF capa psync2", "PSYNC ? -1"], 9);
        assert!(said.last().unwrap().contains("capa eof"), "{said:?}");
    }

    #[test]
    fn an_endless_talker_and_a_stranger_to_the_protocol_are_refused() {
        let lines = vec!["PING"; REQUESTS_MAX + 1];
        assert_eq!(all(&lines, 7).last().unwrap(), &format!("{}: ", Refusal::Endless));
        let said = said(&mut handshake(), b"*1\r\n$99999\r\n", 4);
        assert!(said[0].contains("does not speak"), "{said:?}");
    }

    proptest! {
        #[test]
        fn no_damage_begins_a_stream(at in 0usize..80, bit in 0u8..8, piece in 1usize..30) {
            let mut bytes: Vec<u8> = ["PING", "AUTH secret"].iter().flat_map(|line| array(line)).collect();
            let secret = bytes.len();
            bytes.extend(["REPLCONF capa eof", "PSYNC ? -1"].iter().flat_map(|line| array(line)));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
                let said = said(&mut handshake(), &bytes, piece);
                // Damage to the secret itself, its eight bytes before the line's end, must never pass.
                let in_secret = (secret - 8..secret - 2).contains(&at);
                prop_assert!(!in_secret || !said.contains(&"Begin".to_owned()), "{:?}", said);
            }
        }

        #[test]
        fn no_bytes_begin_a_stream(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..30) {
            prop_assert!(!said(&mut handshake(), &bytes, piece).contains(&"Begin".to_owned()));
        }
    }
}
