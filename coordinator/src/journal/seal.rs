//! Seals on the lines of a journal, since hosts keep copies: what an operator wrote there, nobody who has a host can change,
//! nor go on with.
//!
//! ```text
//!   {"at_unix_ms":..,"event":..,"seal":"SIGNATURE.CERTIFICATE"}
//! ```
//!
//! A seal is of the run, of all lines before it as they stand, and of its own line without it; so the last one vouches for the
//! whole text. Readers that know of no seals skip the field.

use baton_proto::RunId;
use baton_wire::{Credentials, Seal, TrustError};

const FIELD: &str = ",\"seal\":\"";
const END: &str = "\"}";

/// Seals a line, an object of JSON, that is to follow `before`. Yields it with its newline.
pub fn seal(credentials: &Credentials, run: &RunId, before: &str, line: &str) -> Result<String, TrustError> {
    let seal = credentials.seal(&words(run, before, line))?;
    let open = line.strip_suffix('}').unwrap_or(line);
    Ok(format!("{open}{FIELD}{seal}{END}\n"))
}

/// The operator whose seal is on the last line, and so on all of a text, or why it counts for nothing.
pub fn sealed_by(credentials: &Credentials, run: &RunId, text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('\n');
    let (before, last) = text.split_at(text.rfind('\n').map_or(0, |end| end.saturating_add(1)));
    let (line, seal) = parts(last).ok_or("no operator has signed it")?;
    credentials.sealed_by(&words(run, before, &line), &seal).map_err(|error| error.to_string())
}

/// A line without its seal, and the seal.
fn parts(line: &str) -> Option<(String, Seal)> {
    // In a text of JSON the quotes would be escaped, and ours is the last field.
    let (open, rest) = line.rsplit_once(FIELD)?;
    Some((format!("{open}}}"), rest.strip_suffix(END)?.parse().ok()?))
}

fn words(run: &RunId, before: &str, line: &str) -> Vec<u8> {
    format!("journal of run {run}\n{before}{line}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Record, parse};
    use crate::pki;
    use crate::run::{End, Event};

    struct Site {
        dir: tempfile::TempDir,
        run: RunId,
    }

    impl Site {
        fn new() -> Site {
            let dir = tempfile::tempdir().unwrap();
            pki::init(&dir.path().join("pki"), "olga").unwrap();
            pki::operator("bob", &dir.path().join("pki"), &dir.path().join("bob.pem")).unwrap();
            let host = baton_proto::HostName::new("machine-c").unwrap();
            pki::issue(&host, &dir.path().join("pki"), &dir.path().join("agent.pem")).unwrap();
            Site { dir, run: RunId::new("fo-1").unwrap() }
        }

        fn who(&self, file: &str) -> Credentials {
            Credentials::load(&self.dir.path().join(file)).unwrap()
        }

        /// Lines that these have written, one after the other.
        fn text(&self, files: &[&str]) -> String {
            let add = |before: String, (number, file): (usize, &&str)| {
                let event = Event::StepStarted { index: number, step: ",\"seal\":\"x.y\"}".into() };
                let line = serde_json::to_string(&Record { at_unix_ms: 1, event }).unwrap();
                let sealed = seal(&self.who(file), &self.run, &before, &line).unwrap();
                before + &sealed
            };
            files.iter().enumerate().fold(String::new(), add)
        }

        fn judged(&self, text: &str) -> Result<String, String> {
            sealed_by(&self.who("pki/operator.pem"), &self.run, text)
        }
    }

    #[test]
    fn the_last_seal_vouches_for_all_lines_also_for_those_of_others() {
        let site = Site::new();
        let text = site.text(&["pki/operator.pem", "bob.pem", "pki/operator.pem", "bob.pem"]);
        assert_eq!(site.judged(&text), Ok("bob".into()));
        assert_eq!(parse(text.as_bytes()).unwrap().len(), 4);
        // Every beginning stands for itself.
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(site.judged(&lines[..3].concat()), Ok("olga".into()));
        assert!(site.judged(&[lines[1], lines[0], lines[2], lines[3]].concat()).is_err());
        assert!(site.judged(&lines[1..].concat()).is_err());
        // What was written before there were seals counts, once somebody who knows it goes on with it.
        let old = "{\"at_unix_ms\":1,\"event\":\"interrupted\"}\n";
        assert_eq!(site.judged(old), Err("no operator has signed it".into()));
        let line = old.trim_end();
        let on = seal(&site.who("bob.pem"), &site.run, old, line).unwrap();
        assert_eq!(site.judged(&[old, &on].concat()), Ok("bob".into()));
    }

    #[test]
    fn no_byte_can_be_changed_and_nothing_be_added() {
        let site = Site::new();
        let text = site.text(&["pki/operator.pem", "bob.pem"]);
        for at in (0..text.trim_end().len()).step_by(7) {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(site.judged(&changed).is_err(), "byte {at}: {changed}");
            }
        }
        let ended = serde_json::to_string(&Record { at_unix_ms: 2, event: Event::Ended { end: End::Done } }).unwrap();
        assert!(site.judged(&format!("{text}{ended}\n")).is_err());
        let sealed_by_agent = seal(&site.who("agent.pem"), &site.run, &text, &ended).unwrap();
        assert!(site.judged(&[text.as_str(), &sealed_by_agent].concat()).unwrap_err().contains("no operator"));
        let other = RunId::new("fo-2").unwrap();
        assert!(sealed_by(&site.who("bob.pem"), &other, &text).is_err(), "it is of that run");
        for nothing in ["", "\n", "}", ",\"seal\":\"\"}", ",\"seal\":\".\"}", "\u{e4},\"seal\":\"AA==.AA==\"}"] {
            assert!(site.judged(nothing).is_err(), "{nothing}");
        }
    }

    #[test]
    fn who_is_revoked_or_of_another_authority_vouches_for_nothing() {
        let site = Site::new();
        let text = site.text(&["pki/operator.pem", "bob.pem"]);
        let judge = site.who("pki/operator.pem");
        let bob = baton_wire::Role::Operator("bob".into());
        let (_, list) = pki::revoke(&bob, &site.dir.path().join("pki"), &[]).unwrap();
        judge.revoke(&list).unwrap();
        assert!(sealed_by(&judge, &site.run, &text).unwrap_err().to_lowercase().contains("revoked"));
        assert!(Site::new().judged(&text).is_err());
    }
}
