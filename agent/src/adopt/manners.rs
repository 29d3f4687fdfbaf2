//! PURE: how a primary answers that has the same past as its one replica, and nothing to tell it.
//!
//! ```text
//!   PING ──> NOAUTH ──> AUTH secret ──> +OK ──> REPLCONF ... ──> +OK ──> PSYNC id, offset + 1 ──> +CONTINUE id
//! ```

use baton_proto::Lineage;

use crate::secret::same;

/// What a visitor hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Line(String),
    /// It is adopted: after this line it hears nothing but signs of life.
    Adopted(String),
    /// What it wants cannot be had here. It hears the line, and the reason is for the agent.
    Refused {
        line: String,
        why: String,
    },
}

/// The manners of one adoption.
pub(super) struct Manners {
    /// Where the replica stands, and where it will stand at the end.
    pub(super) stands: Lineage,
    /// What the replica was given to log in with.
    pub(super) secret: String,
}

impl Manners {
    /// Answers one command. `logged_in` is what the visitor has shown so far.
    pub(super) fn answer(&self, logged_in: &mut bool, words: &[String]) -> Answer {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        let line = |text: &str| Answer::Line(format!("{text}\r\n"));
        match (name.as_str(), words.as_slice()) {
            // With or without a user: `masteruser` is the server's own.
            ("AUTH", [_, .., secret]) if same(secret.as_bytes(), self.secret.as_bytes()) => {
                *logged_in = true;
                line("+OK")
            }
            ("AUTH", _) => line("-WRONGPASS this is no server, and not the password that it gave"),
            _ if !*logged_in => line("-NOAUTH Authentication required."),
            ("PING", _) => line("+PONG"),
            ("REPLCONF", _) => line("+OK"),
            ("PSYNC", [_, id, offset]) => self.resync(id, offset),
            _ => line("-ERR only a replica is answered here"),
        }
    }

    fn resync(&self, id: &str, offset: &str) -> Answer {
        let Lineage { id: own, offset: at } = &self.stands;
        // It asks for the first byte that it does not have.
        if id.eq_ignore_ascii_case(own.as_str()) && offset.parse().ok() == at.checked_add(1) {
            return Answer::Adopted(format!("+CONTINUE {own}\r\n"));
        }
        Answer::Refused {
            line: "-ERR nothing but the replica's own past is continued here\r\n".to_owned(),
            why: format!("it asked for {id} from {offset} on, and stood at {}", self.stands),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

    fn said(lines: &[&str]) -> Vec<Answer> {
        let stands = Lineage { id: ID.parse().unwrap(), offset: 16303 };
        let manners = Manners { stands, secret: "5ecret".into() };
        let mut logged_in = false;
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        lines.iter().map(|line| manners.answer(&mut logged_in, &words(line))).collect()
    }

    fn line(text: &str) -> Answer {
        Answer::Line(format!("{text}\r\n"))
    }

    #[test]
    fn a_replica_with_the_secret_is_continued_where_it_stands() {
        let psync = format!("PSYNC {ID} 16304");
        let all = said(&["PING", "AUTH repl 5ecret", "REPLCONF capa eof capa psync2", "ping", &psync]);
        let expected = [
            line("-NOAUTH Authentication required."),
            line("+OK"),
            line("+OK"),
            line("+PONG"),
            Answer::Adopted(format!("+CONTINUE {ID}\r\n")),
        ];
        assert_eq!(all, expected);
        assert_eq!(said(&["AUTH 5ecret"]), [line("+OK")]);
    }

    #[test]
    fn nobody_without_the_secret_gets_anywhere() {
        let psync = format!("PSYNC {ID} 16304");
        for tries in [&["AUTH wrong", psync.as_str()], &["AUTH", psync.as_str()], &["PING", psync.as_str()]] {
            let last = said(tries).pop().unwrap();
            assert_eq!(last, line("-NOAUTH Authentication required."), "{tries:?}");
        }
    }

    #[test]
    fn another_past_is_refused() {
        let other = "0".repeat(40);
        for psync in [
            "PSYNC ? -1".to_owned(),
            format!("PSYNC {ID} 16303"),
            format!("PSYNC {ID} 16305"),
            format!("PSYNC {other} 16304"),
            format!("PSYNC {ID} x"),
        ] {
            let last = said(&["AUTH 5ecret", &psync]).pop().unwrap();
            assert!(matches!(last, Answer::Refused { .. }), "{psync}: {last:?}");
        }
        assert!(
            matches!(said(&["AUTH 5ecret", "SYNC"]).pop().unwrap(), Answer::Line(line) if line.starts_with("-ERR"))
        );
    }
}
