//! Server versions, RDB formats, and what each version can read and do. Measured on real servers: Redis 2.8 to 8.0 and
//! Valkey 7.2 to 9.1; a version newer than the table is taken to do what the newest known one does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    Redis,
    Valkey,
    /// One that a newer agent knows. It counts as able to do nothing.
    #[serde(other)]
    Other,
}

/// A server's product and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerVersion {
    pub product: Product,
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a server version")]
pub struct VersionError(String);

fn numbers(text: &str) -> Option<(u16, u16, u16)> {
    let mut parts = text.split(['.', '-']);
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
    Some((major, minor, patch))
}

impl ServerVersion {
    /// Reads a bare `7.0.15` of the given product.
    pub fn new(product: Product, text: &str) -> Result<Self, VersionError> {
        let (major, minor, patch) = numbers(text).ok_or_else(|| VersionError(text.chars().take(60).collect()))?;
        Ok(Self { product, major, minor, patch })
    }

    /// Reads what `redis-server --version` or `valkey-server --version` prints.
    pub fn from_banner(banner: &str) -> Result<Self, VersionError> {
        let bad = || VersionError(banner.chars().take(60).collect());
        let product = match banner.split_whitespace().next() {
            Some("Redis") => Product::Redis,
            Some("Valkey") => Product::Valkey,
            _ => return Err(bad()),
        };
        let version = banner.split_whitespace().find_map(|word| word.strip_prefix("v=")).ok_or_else(bad)?;
        Self::new(product, version)
    }

    fn at_least(&self, major: u16, minor: u16) -> bool {
        self.product != Product::Other && (self.major, self.minor) >= (major, minor)
    }

    /// The format in which this server writes a snapshot.
    pub fn writes(&self) -> RdbFormat {
        let number = match self.product {
            Product::Valkey if self.at_least(9, 0) => return RdbFormat { magic: Magic::Valkey, number: 80 },
            Product::Valkey => 11,
            Product::Other => return RdbFormat { magic: Magic::Other, number: 0 },
            Product::Redis if self.at_least(7, 4) => 12,
            Product::Redis if self.at_least(7, 2) => 11,
            Product::Redis if self.at_least(7, 0) => 10,
            Product::Redis if self.at_least(5, 0) => 9,
            Product::Redis if self.at_least(4, 0) => 8,
            Product::Redis if self.at_least(3, 2) => 7,
            Product::Redis => 6,
        };
        RdbFormat { magic: Magic::Redis, number }
    }

    /// Tells whether this server loads a snapshot of that format. A server that cannot exits; it never starts empty.
    pub fn reads(&self, format: RdbFormat) -> bool {
        let own = self.writes();
        match (format.magic, own.magic) {
            (Magic::Valkey, Magic::Valkey) => format.number <= own.number,
            (Magic::Valkey, Magic::Redis) => false,
            // Valkey 9 refuses Redis formats 12 and up: they came after the fork and are not its own.
            (Magic::Redis, Magic::Valkey) => format.number <= 11,
            (Magic::Redis, Magic::Redis) => format.number <= own.number,
            (Magic::Other, _) | (_, Magic::Other) => false,
        }
    }

    /// Tells whether a primary of this version that loaded a snapshot remembers the snapshot's lineage, so that the
    /// replicas of that lineage can join with a partial resync (Redis 7.0 and later, every Valkey).
    pub fn remembers_lineage_as_primary(&self) -> bool {
        self.product == Product::Valkey || self.at_least(7, 0)
    }

    /// Tells whether a server of this version that is *started* as a replica on a snapshot asks to continue from the
    /// snapshot's lineage (PSYNC2, Redis 4.0 and later).
    pub fn continues_as_replica(&self) -> bool {
        self.product == Product::Valkey || self.at_least(4, 0)
    }

    /// Tells whether the server hands its role over by itself: `FAILOVER` (Redis 6.2 and later, every Valkey).
    pub fn has_failover(&self) -> bool {
        self.product == Product::Valkey || self.at_least(6, 2)
    }

    /// Whether it has functions, which are no keys and are saved with them:
    /// <https://redis.io/docs/latest/commands/function-list/>.
    pub fn has_functions(&self) -> bool {
        self.product == Product::Valkey || self.at_least(7, 0)
    }

    /// Tells whether the server reports how many keys its last load read and dropped as expired.
    pub fn counts_loaded_keys(&self) -> bool {
        self.product == Product::Valkey || self.at_least(7, 0)
    }

    /// Tells whether protected mode refuses a peer even where a `bind` line exists (Redis 7.0 and later).
    pub fn protects_despite_bind(&self) -> bool {
        self.product == Product::Valkey || self.at_least(7, 0)
    }

    /// Tells whether protected mode takes every loopback address for this host. Older servers know `127.0.0.1` and `::1`
    /// only.
    pub fn trusts_every_loopback(&self) -> bool {
        self.product == Product::Valkey || self.at_least(7, 2)
    }

    /// Tells whether a replica connects to its primary from the first address of its own `bind` (up to Redis 6.2; later
    /// ones have `bind-source-addr` for it).
    pub fn connects_from_bind(&self) -> bool {
        self.product == Product::Redis && !self.at_least(7, 0)
    }

    /// Tells whether a module that the server lists is a part of it: Valkey 9.1 counts its Lua engine among the modules,
    /// older servers run the same scripts and functions without listing one.
    pub fn brings_module(&self, name: &str) -> bool {
        self.product == Product::Valkey && self.at_least(9, 1) && name == "lua"
    }

    /// The command that makes a server a replica: `REPLICAOF`, or `SLAVEOF` before 5.0.
    pub fn replicaof(&self) -> &'static str {
        if self.product == Product::Valkey || self.at_least(5, 0) { "REPLICAOF" } else { "SLAVEOF" }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let product = match self.product {
            Product::Redis => "redis",
            Product::Valkey => "valkey",
            Product::Other => "unknown server",
        };
        f.pad(&format!("{product} {}.{}.{}", self.major, self.minor, self.patch))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Magic {
    Redis,
    Valkey,
    /// One that a newer agent knows. No server that is known here reads it.
    #[serde(other)]
    Other,
}

/// The nine bytes with which a snapshot begins: `REDIS0011`, or `VALKEY080` from Valkey 9 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RdbFormat {
    pub magic: Magic,
    pub number: u16,
}

/// Length of the magic and version at the start of a snapshot.
pub const RDB_MAGIC_BYTES: usize = 9;

impl FromStr for RdbFormat {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let bad = || VersionError(text.chars().take(20).collect());
        let (magic, digits, width) = match (text.strip_prefix("REDIS"), text.strip_prefix("VALKEY")) {
            (Some(digits), _) => (Magic::Redis, digits, 4),
            (_, Some(digits)) => (Magic::Valkey, digits, 3),
            _ => return Err(bad()),
        };
        if digits.len() != width || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        Ok(Self { magic, number: digits.parse().map_err(|_| bad())? })
    }
}

impl fmt::Display for RdbFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.magic {
            Magic::Redis => f.pad(&format!("REDIS{:04}", self.number)),
            Magic::Valkey => f.pad(&format!("VALKEY{:03}", self.number)),
            Magic::Other => f.pad("unknown format"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(v: &str) -> ServerVersion {
        ServerVersion::new(Product::Redis, v).unwrap()
    }
    fn valkey(v: &str) -> ServerVersion {
        ServerVersion::new(Product::Valkey, v).unwrap()
    }

    #[test]
    fn banners_of_both_products_are_read() {
        let redis_banner = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=d81b8ff71cfb150e";
        assert_eq!(ServerVersion::from_banner(redis_banner), Ok(redis("7.0.15")));
        assert_eq!(ServerVersion::from_banner("Valkey server v=9.1.2 sha=0:0"), Ok(valkey("9.1.2")));
        assert!(ServerVersion::from_banner("nginx version: 1.2").is_err());
        assert_eq!(redis("8.0-m01").to_string(), "redis 8.0.0");
    }

    #[test]
    fn who_hands_over_by_itself_is_known() {
        let versions = [redis("6.0.20"), redis("6.2.0"), redis("7.0.15"), valkey("7.2.7")];
        assert_eq!(versions.map(|version| version.has_failover()), [false, true, true, true]);
    }

    #[test]
    fn the_load_matrix_of_real_servers_holds() {
        let row =
            |to: ServerVersion, from: &[ServerVersion]| from.iter().map(|f| to.reads(f.writes())).collect::<Vec<_>>();
        let from = [redis("6.2.14"), redis("7.0.15"), redis("7.2.6"), redis("7.4.1"), valkey("8.1.1"), valkey("9.1.2")];
        assert_eq!(row(redis("6.2.14"), &from), [true, false, false, false, false, false]);
        assert_eq!(row(redis("7.0.15"), &from), [true, true, false, false, false, false]);
        assert_eq!(row(redis("8.0.6"), &from), [true, true, true, true, true, false]);
        assert_eq!(row(valkey("8.1.1"), &from), [true, true, true, false, true, false]);
        assert_eq!(row(valkey("9.1.2"), &from), [true, true, true, false, true, true]);
    }

    #[test]
    fn formats_survive_a_round_trip_and_others_are_refused() {
        for text in ["REDIS0009", "REDIS0012", "VALKEY080"] {
            assert_eq!(text.parse::<RdbFormat>().map(|f| f.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", "REDIS", "REDIS009", "REDIS00x9", "VALKEY0800", "LALKEY080", "REDIS+009"] {
            assert!(bad.parse::<RdbFormat>().is_err(), "{bad} was accepted");
        }
    }
}
