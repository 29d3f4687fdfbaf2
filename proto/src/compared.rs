//! What two servers hold differently, key by key: a deposed primary, and the one that took its place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::HostPort;

/// Most names that are told of each kind of difference: a person looks at some, and the file that is saved aside has all.
pub const EXAMPLES_MAX: usize = 20;
/// Most databases that are told one by one. A server may have any number of them; all are in the sum.
pub const DATABASES_MAX: usize = 64;

/// An order to compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparing {
    /// The successor's server, as its replica reaches it.
    pub with: HostPort,
    /// After so long the comparison ends with what it has.
    pub limit_seconds: u32,
}

/// What became of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    Made(Box<Comparison>),
    NotMade { why: String },
}

/// How two servers differ. Times to live are not compared; a key whose time is up counts as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub with: HostPort,
    pub seconds: f64,
    /// Why it ended before all was looked at: what is told is then true of the part that was.
    pub stopped: Option<String>,
    /// Of all databases.
    pub all: Differences,
    /// The databases that have keys on either side, but no more than [`DATABASES_MAX`].
    pub databases: BTreeMap<u32, Differences>,
    pub examples: Examples,
}

/// How many keys differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Keys of the deposed one that were looked at.
    pub seen: u64,
    /// Keys of its successor that were looked at.
    pub seen_successor: u64,
    pub only_deposed: u64,
    pub only_successor: u64,
    /// Keys on both, with other values or of other types.
    pub differing: u64,
    /// Those among them that are told apart by their serialised form alone, as streams are: they may mean the same.
    pub by_form: u64,
    /// Keys that were not compared: a stream, an element or a name is too large.
    pub unread: u64,
}

impl Differences {
    pub fn none(&self) -> bool {
        self.only_deposed == 0 && self.only_successor == 0 && self.differing == 0
    }
}

/// Some of the names, at most [`EXAMPLES_MAX`] of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examples {
    pub only_deposed: Vec<Example>,
    pub only_successor: Vec<Example>,
    pub differing: Vec<Example>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    pub db: u32,
    /// Escaped for a terminal, and cut.
    pub key: String,
    /// Its types on the deposed one and on its successor, where they are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<[String; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::control::AsideFacts;
    use crate::lineage::Lineage;
    use crate::report::Keyspace;

    /// What an agent tells and a coordinator reads that know nothing of comparing.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OldFacts {
        file: String,
        bytes: u64,
        past_fork_bytes: Option<u64>,
        keyspace: Keyspace,
        lineage: Lineage,
    }

    #[test]
    fn who_knows_nothing_of_comparing_is_understood_and_understands() {
        let lineage = Lineage { id: "0123456789012345678901234567890123456789".parse().unwrap(), offset: 7 };
        let old = OldFacts {
            file: "/data/baton-re-1.diverged.rdb".into(),
            bytes: 9,
            past_fork_bytes: None,
            keyspace: Keyspace::new(),
            lineage,
        };
        let mut facts: AsideFacts = codec::decode(&codec::encode(&old).unwrap()).unwrap();
        assert_eq!(facts.compared, None);
        facts.compared = Some(Compared::NotMade { why: "it is stopped".into() });
        let bytes = codec::encode(&facts).unwrap();
        assert_eq!(codec::decode::<AsideFacts>(&bytes).unwrap(), facts);
        assert_eq!(codec::decode::<OldFacts>(&bytes).unwrap(), old);
    }
}
