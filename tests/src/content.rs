//! What a server holds: keys per database, and a digest of every key with its type, value and expiry.

use std::collections::BTreeMap;
use std::fmt;

use crate::resp::Client;

/// What a server holds. Two servers with equal contents hold the same data.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Keys in each database that is not empty.
    pub keys: BTreeMap<u32, u64>,
    /// `DEBUG DIGEST`: over all databases, not over functions.
    pub digest: String,
    /// Hash of `FUNCTION DUMP`, where the server has functions.
    pub functions: Option<String>,
}

impl Content {
    #[track_caller]
    pub fn of(client: &mut Client) -> Self {
        let digest = client.call(&["DEBUG", "DIGEST"]).text();
        let functions = client.try_call(&["FUNCTION", "DUMP"]).ok();
        let functions = functions.map(|dump| blake3::hash(format!("{dump:?}").as_bytes()).to_hex().to_string());
        Self { keys: keys(client), digest, functions }
    }

    pub fn total(&self) -> u64 {
        self.keys.values().sum()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.as_deref().map(|hash| &hash[..8]);
        write!(f, "keys {:?}, digest {}, functions {functions:?}", self.keys, self.digest)
    }
}

/// Keys in each database that is not empty.
#[track_caller]
pub fn keys(client: &mut Client) -> BTreeMap<u32, u64> {
    try_keys(client).unwrap_or_else(|error| panic!("`INFO`: {error}"))
}

pub fn try_keys(client: &mut Client) -> Result<BTreeMap<u32, u64>, String> {
    let info = client.try_info()?;
    let databases = info.iter().filter_map(|(name, value)| {
        let number = name.strip_prefix("db")?.parse().ok()?;
        let count = value.strip_prefix("keys=")?.split(',').next()?.parse().ok()?;
        Some((number, count))
    });
    Ok(databases.collect())
}
