//! What a program of another release would say.
//!
//! A message becomes a [`Tree`], which knows what is a field, a variant or data, is changed there as a newer release might
//! change it, and goes on as MessagePack. Tests do so with every message. A debug build that runs with
//! `BATON_NEIGHBOUR="WORD..."` does so with all that it says, and so plays another release:
//!
//! - `speaks=MIN-MAX`: greets with these protocol versions
//! - `version=X`: is of this version
//! - `more`: tells more fields, everywhere
//! - `says=OLD:NEW`: has another word for a variant
//!
//! Release builds say what they are.

mod tree;

use std::sync::OnceLock;

use serde::Serialize;

pub use tree::{Tree, TreeError};

/// The variable that has a debug build play another release.
pub const VARIABLE: &str = "BATON_NEIGHBOUR";

/// A field that no release has.
const FIELD: &str = "of_a_newer_release";

/// How another release differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    speaks: Option<(u64, u64)>,
    version: Option<String>,
    more: bool,
    says: Vec<(String, String)>,
}

impl Neighbour {
    /// Reads the words of the variable.
    pub fn parse(words: &str) -> Result<Neighbour, String> {
        let mut neighbour = Neighbour::default();
        for word in words.split_whitespace() {
            let bad = || format!("{VARIABLE}: what is `{word}`?");
            match word.split_once('=') {
                None if word == "more" => neighbour.more = true,
                Some(("speaks", range)) => {
                    let (min, max) = range.split_once('-').ok_or_else(bad)?;
                    neighbour.speaks = Some((min.parse().map_err(|_| bad())?, max.parse().map_err(|_| bad())?));
                }
                Some(("version", version)) => neighbour.version = Some(version.into()),
                Some(("says", renamed)) => {
                    let (old, new) = renamed.split_once(':').ok_or_else(bad)?;
                    neighbour.says.push((old.into(), new.into()));
                }
                _ => return Err(bad()),
            }
        }
        Ok(neighbour)
    }

    /// Writes a message as this release would.
    pub fn encode<T: Serialize>(&self, message: &T) -> Result<Vec<u8>, TreeError> {
        let mut tree = Tree::of(message)?;
        self.change(&mut tree);
        tree.encode()
    }

    fn change(&self, tree: &mut Tree) {
        tree.visit(&mut |tree| match tree {
            Tree::Variant(name, _) => {
                if let Some((_, new)) = self.says.iter().find(|(old, _)| old == name) {
                    name.clone_from(new);
                }
            }
            Tree::Struct(fields) => {
                self.tag(fields);
                self.greet(fields);
                if self.more {
                    fields.insert(0, (FIELD.into(), Tree::newer()));
                }
            }
            _ => {}
        });
    }

    /// A variant of an enum that stands among its fields.
    fn tag(&self, fields: &mut [(String, Tree)]) {
        let tag = fields.iter_mut().find(|(name, _)| Tree::TAGS.contains(&name.as_str()));
        if let Some((_, Tree::Str(said))) = tag
            && let Some((_, new)) = self.says.iter().find(|(old, _)| old == said)
        {
            said.clone_from(new);
        }
    }

    /// What it tells of itself.
    fn greet(&self, fields: &mut [(String, Tree)]) {
        let greeting = fields.iter().map(|(name, _)| name.as_str()).eq(["min", "max", "software"]);
        for (name, value) in fields {
            match (name.as_str(), &self.speaks, &self.version) {
                ("min", Some((min, _)), _) if greeting => *value = Tree::Unsigned(*min),
                ("max", Some((_, max)), _) if greeting => *value = Tree::Unsigned(*max),
                ("software", _, Some(version)) => {
                    if let Tree::Str(software) = value {
                        let program = software.split_whitespace().next().unwrap_or_default();
                        *software = format!("{program} {version}");
                    }
                }
                _ => {}
            }
        }
    }
}

/// The release that this program plays, if it was told to.
pub fn own() -> Option<&'static Neighbour> {
    static OWN: OnceLock<Option<Neighbour>> = OnceLock::new();
    let read = || {
        let words = std::env::var(VARIABLE).ok()?;
        // A test that misspells it must not pass.
        Some(Neighbour::parse(&words).unwrap_or_else(|error| panic!("{error}")))
    };
    OWN.get_or_init(read).as_ref()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Greeting {
        min: u16,
        max: u16,
        software: String,
    }

    fn greeting() -> Greeting {
        Greeting { min: 3, max: 3, software: "coord 0.1.0".into() }
    }

    fn said<T: Serialize, R: serde::de::DeserializeOwned>(words: &str, message: &T) -> Result<R, String> {
        let bytes = Neighbour::parse(words)?.encode(message).map_err(|error| error.to_string())?;
        rmp_serde::from_slice(&bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_release_greets_as_it_is_told_to() {
        let heard: Greeting = said("speaks=3-4 version=9.9 more", &greeting()).unwrap();
        assert_eq!(heard, Greeting { min: 3, max: 4, software: "coord 9.9".into() });
        assert_eq!(said::<_, Greeting>("", &greeting()), Ok(greeting()));
    }

    #[test]
    fn a_variant_has_another_word_wherever_it_stands() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Act {
            Sing { loud: bool },
            Rest,
        }
        assert_eq!(said::<_, Act>("says=sing:hum", &Act::Rest), Ok(Act::Rest));
        for act in [Act::Sing { loud: true }, Act::Rest] {
            let error = said::<_, Act>("says=sing:hum says=rest:doze", &act).unwrap_err();
            assert!(error.contains("unknown variant"), "{error}");
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "state")]
        enum Tagged {
            Up { since: u64 },
        }
        assert!(said::<_, Tagged>("says=Up:Gone", &Tagged::Up { since: 1 }).is_err());
        assert_eq!(said::<_, Tagged>("more", &Tagged::Up { since: 1 }), Ok(Tagged::Up { since: 1 }));
    }

    #[test]
    fn a_word_that_means_nothing_is_an_error() {
        for words in ["less", "speaks=3", "says=a", "sings=a:b"] {
            assert!(Neighbour::parse(words).is_err(), "{words}");
        }
    }
}
