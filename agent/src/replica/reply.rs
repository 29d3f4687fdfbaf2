//! PURE: what a primary answers to a replica that wants everything, or to go on from where it stands, line by line, before
//! the bytes.

use baton_proto::{Lineage, ReplId};

use super::payload::{Ending, MARK_BYTES};

/// One line of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is still at work: a bare newline.
    Alive,
    /// Where the snapshot that it begins will stand.
    Resync(Lineage),
    /// What is written from the asked offset on follows at once, under this id if it tells any.
    Continues(Option<ReplId>),
    /// The snapshot follows at once.
    Begins(Ending),
    Refused(String),
    /// What no primary says here.
    Foreign(String),
}

/// Reads a line, with or without its end.
pub fn read(line: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Reply::Alive;
    }
    if let Some(error) = text.strip_prefix('-') {
        return Reply::Refused(error.to_owned());
    }
    let found = match (text.strip_prefix('$'), text.strip_prefix("+CONTINUE")) {
        (Some(header), _) => ending(header).map(Reply::Begins),
        (_, Some(rest)) => continues(rest),
        _ => text.strip_prefix("+FULLRESYNC ").and_then(lineage).map(Reply::Resync),
    };
    found.unwrap_or_else(|| Reply::Foreign(text.chars().filter(|c| !c.is_control()).take(80).collect()))
}

fn lineage(text: &str) -> Option<Lineage> {
    let (id, offset) = text.split_once(' ')?;
    Some(Lineage { id: id.parse().ok()?, offset: offset.trim_end().parse().ok()? })
}

fn continues(rest: &str) -> Option<Reply> {
    match rest.split_once(' ') {
        None => rest.is_empty().then_some(Reply::Continues(None)),
        Some(("", id)) => id.trim_end().parse().ok().map(|id| Reply::Continues(Some(id))),
        Some(_) => None,
    }
}

fn ending(header: &str) -> Option<Ending> {
    match header.strip_prefix("EOF:") {
        Some(mark) => <[u8; MARK_BYTES]>::try_from(mark.as_bytes()).ok().map(Ending::Mark),
        None => header.parse().ok().map(Ending::Length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

    #[test]
    fn every_line_of_a_full_resync_is_read() {
        assert_eq!(read(b"\n"), Reply::Alive);
        let stands = Lineage { id: ID.parse().unwrap(), offset: 16303 };
        assert_eq!(read(format!("+FULLRESYNC {ID} 16303\r\n").as_bytes()), Reply::Resync(stands));
        assert_eq!(read(b"+CONTINUE\r\n"), Reply::Continues(None));
        assert_eq!(read(format!("+CONTINUE {ID}\r\n").as_bytes()), Reply::Continues(Some(ID.parse().unwrap())));
        assert!(matches!(read(b"+CONTINUED\r\n"), Reply::Foreign(_)));
        let mark = <[u8; MARK_BYTES]>::try_from(ID.as_bytes()).unwrap();
        assert_eq!(read(format!("$EOF:{ID}\r\n").as_bytes()), Reply::Begins(Ending::Mark(mark)));
        assert_eq!(read(b"$1234\r\n"), Reply::Begins(Ending::Length(1234)));
        let refusal = "NOMASTERLINK Can't SYNC while not connected with my master";
        assert_eq!(read(format!("-{refusal}\r\n").as_bytes()), Reply::Refused(refusal.to_owned()));
    }

    #[test]
    fn what_is_not_such_a_line_is_foreign() {
        let short = format!("$EOF:{}\r\n", &ID[1..]);
        let long = format!("$EOF:{ID}0\r\n");
        let lines = [
            short.as_str(),
            &long,
            "$\r\n",
            "$-1\r\n",
            "$99999999999999999999\r\n",
            "+CONTINUE x\r\n",
            "+FULLRESYNC x 1\r\n",
            "+FULLRESYNC\r\n",
            "HTTP/1.1 400\r\n",
        ];
        for line in lines {
            assert!(matches!(read(line.as_bytes()), Reply::Foreign(_)), "{line:?}: {:?}", read(line.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&line);
            let _ = read(&[b"$EOF:".as_slice(), &line].concat());
            let _ = read(&[b"+FULLRESYNC ".as_slice(), &line].concat());
        }
    }
}
