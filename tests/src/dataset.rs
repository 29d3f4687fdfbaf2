//! Data sets: a function of seed and size, of every type that servers hold, over several databases, written through one
//! pipelined connection. Sizes are payload bytes; the snapshot of a mixed set has about as many.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::content::keys;
use crate::resp::{Client, Value, encode};
use crate::rng::Rng;

/// What the values are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Strings with JSON-like text, hashes, sorted sets, lists, sets, streams and binary strings, a few of them with a
    /// time to live that is far away: about what a shop or a session store holds.
    Mixed,
    /// Strings with JSON-like text, and nothing else: a cache of documents.
    Json,
    /// Strings of random bytes, which nothing compresses: the size of the data is the size on the wire.
    Random,
}

/// A data set that can be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Dataset {
    pub seed: u64,
    pub bytes: u64,
    pub mix: Mix,
}

/// The databases of every ten runs of keys: most in 0, some in two others.
const DATABASES: [u32; 10] = [0, 0, 0, 0, 0, 0, 0, 3, 3, 9];
/// Keys that follow each other in one database.
const RUN_KEYS: u64 = 50;
/// Bytes that are gathered before they are sent.
const BATCH_BYTES: usize = 1 << 20;
/// Times to live end here at the earliest: the year 2096.
const EXPIRES_UNIX: u64 = 4_000_000_000;

const FUNCTIONS: &str = "#!lua name=batonshop\nredis.register_function{function_name='stock_of', \
    callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}";

const NAMES: &[&str] = &[
    "james", "mary", "olga", "ahmed", "ines", "yuki", "pavel", "noor", "lars", "aisha", "diego", "wei", "smith",
    "garcia", "jones", "lopez", "lee", "white", "kim", "novak", "rossi", "silva", "haddad", "okafor", "sato", "jensen",
];
const CITIES: &[&str] = &[
    "Berlin", "Paris", "London", "Madrid", "Rome", "Vienna", "Warsaw", "Lisbon", "Dublin", "Oslo", "Tokyo", "Osaka",
    "Seoul", "Delhi", "Mumbai", "Lagos", "Cairo", "Nairobi", "Lima", "Bogota", "Austin", "Boston", "Denver", "Chicago",
];
const STATES: &[&str] = &["active", "inactive", "pending", "blocked", "deleted"];
const WORDS: &[&str] = &[
    "order",
    "shipped",
    "pending",
    "refund",
    "invoice",
    "payment",
    "customer",
    "account",
    "update",
    "failed",
    "retry",
    "cart",
    "item",
    "size",
    "color",
    "blue",
    "green",
    "small",
    "large",
    "express",
    "standard",
    "delivery",
    "street",
    "warehouse",
    "stock",
    "price",
    "discount",
    "coupon",
    "gift",
    "note",
    "urgent",
    "review",
    "thread",
    "session",
    "token",
    "device",
    "mobile",
    "web",
    "region",
    "zone",
    "shard",
    "leader",
    "follower",
    "backup",
    "restore",
    "snapshot",
];

impl Dataset {
    pub fn mixed(seed: u64, bytes: u64) -> Self {
        Self { seed, bytes, mix: Mix::Mixed }
    }

    pub fn json(seed: u64, bytes: u64) -> Self {
        Self { seed, bytes, mix: Mix::Json }
    }

    pub fn random(seed: u64, bytes: u64) -> Self {
        Self { seed, bytes, mix: Mix::Random }
    }

    /// Writes the data set into a server, and checks that all of it arrived.
    pub fn load(&self, client: &mut Client) -> BTreeMap<u32, u64> {
        let before = keys(client);
        // The answers to a million commands are not read: what counts is what the server holds in the end.
        let mut wire = Wire { client, out: Vec::with_capacity(2 * BATCH_BYTES), payload: 0 };
        wire.command(&[b"CLIENT".as_slice(), b"REPLY", b"OFF"]);
        wire.payload = 0;
        let mut rng = Rng::new(self.seed);
        let mut counts = before;
        let mut index = 0;
        while wire.payload < self.bytes {
            let database = DATABASES[(index / RUN_KEYS % 10) as usize];
            if index % RUN_KEYS == 0 {
                wire.command(&[b"SELECT".as_slice(), database.to_string().as_bytes()]);
            }
            match self.mix {
                Mix::Mixed => mixed_key(&mut wire, &mut rng, index),
                Mix::Json => string_key(&mut wire, &mut rng, index),
                Mix::Random => binary_key(&mut wire, &mut rng, self.seed, index),
            }
            *counts.entry(database).or_default() += 1;
            index += 1;
        }
        if self.mix == Mix::Mixed {
            wire.command(&["FUNCTION", "LOAD", "REPLACE", FUNCTIONS]); // Refused in silence before 7.0.
        }
        wire.command(&["SELECT", "0"]);
        wire.command(&["CLIENT", "REPLY", "ON"]);
        wire.flush();
        let answer = client.answer().expect("the server answers again after the load");
        assert_eq!(answer, Value::Text(b"OK".to_vec()));
        assert_eq!(keys(client), counts, "the server took every key");
        counts
    }
}

/// Commands on their way to the server.
struct Wire<'a> {
    client: &'a mut Client,
    out: Vec<u8>,
    payload: u64,
}

impl Wire<'_> {
    fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.payload += args.iter().skip(1).map(|arg| arg.as_ref().len() as u64).sum::<u64>();
        encode(args, &mut self.out);
        if self.out.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.client.send(&self.out).expect("the server takes the data set");
        self.out.clear();
    }
}

/// Writes one key; out of a thousand, so many are of each type.
fn mixed_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    match rng.below(1000) {
        0..870 => string_key(wire, rng, index),
        870..922 => hash_key(wire, rng, index),
        922..938 => sorted_set_key(wire, rng, index),
        938..958 => list_key(wire, rng, index),
        958..978 => set_key(wire, rng, index),
        978..984 => stream_key(wire, rng, index),
        _ => binary_key(wire, rng, 0, index),
    }
}

fn string_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    let key = format!("user:{index}:profile").into_bytes();
    let (first, last, state) = (rng.pick(NAMES), rng.pick(NAMES), rng.pick(STATES));
    let mut value = Vec::with_capacity(400);
    let (number, seen, amount) = (rng.below(10_000), 1_700_000_000 + rng.below(50_000_000), rng.below(500_000));
    write!(
        value,
        r#"{{"id":{index},"name":"{first} {last}","email":"{first}.{last}{number}@example.com","status":"{state}","ts":{seen},"amount":{amount}"#
    )
    .expect("a vector takes it");
    if rng.chance(600) {
        write!(value, r#","session":"{:016x}{:016x}""#, rng.number(), rng.number()).expect("a vector takes it");
    }
    if rng.chance(700) {
        write!(
            value,
            r#","addr":{{"city":"{}","zip":"{:05}","street":"{} {}"}}"#,
            rng.pick(CITIES),
            rng.below(99_999),
            rng.pick(WORDS),
            rng.below(300)
        )
        .expect("a vector takes it");
    }
    if rng.chance(450) {
        let count = 2 + rng.below(12);
        write!(value, r#","note":"{}""#, words(rng, count)).expect("a vector takes it");
    }
    value.push(b'}');
    wire.command(&[b"SET", key.as_slice(), &value]);
    expires_sometimes(wire, rng, &key);
}

fn hash_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    let key = format!("h:{index}");
    // A few are too large for the compact encoding.
    let fields = if rng.chance(20) { 600 + rng.below(600) } else { 3 + rng.below(20) };
    let mut args = vec!["HSET".to_owned(), key.clone()];
    for field in 0..fields {
        let count = 1 + rng.below(5);
        args.extend([format!("field_{field}"), words(rng, count)]);
    }
    wire.command(&args);
    expires_sometimes(wire, rng, key.as_bytes());
}

fn sorted_set_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    let members = if rng.chance(30) { 1000 } else { 5 + rng.below(60) };
    let mut args = vec!["ZADD".to_owned(), format!("z:{index}")];
    for _ in 0..members {
        args.extend([
            format!("{}.{}", rng.below(1_000_000), rng.below(1000)),
            format!("member:{:08x}", rng.below(1 << 32)),
        ]);
    }
    wire.command(&args);
}

fn list_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    let mut args = vec!["RPUSH".to_owned(), format!("l:{index}")];
    for _ in 0..5 + rng.below(60) {
        let count = 3 + rng.below(6);
        args.push(words(rng, count));
    }
    wire.command(&args);
}

fn set_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    let numbers = rng.chance(300);
    let mut args = vec!["SADD".to_owned(), format!("s:{index}")];
    for _ in 0..5 + rng.below(100) {
        args.push(if numbers { rng.below(1 << 31).to_string() } else { format!("tag-{:06x}", rng.below(1 << 24)) });
    }
    wire.command(&args);
}

/// A stream with a consumer group that has read a part of it.
fn stream_key(wire: &mut Wire<'_>, rng: &mut Rng, index: u64) {
    let key = format!("st:{index}");
    let mut time_ms = 1_700_000_000_000;
    for _ in 0..10 + rng.below(60) {
        time_ms += 1 + rng.below(1000);
        let (id, uid, text) = (format!("{time_ms}-0"), rng.below(10_000_000).to_string(), words(rng, 3));
        wire.command(&["XADD", &key, &id, "ev", rng.pick(WORDS), "uid", &uid, "msg", &text]);
    }
    wire.command(&["XGROUP", "CREATE", &key, "workers", "0"]);
    wire.command(&["XREADGROUP", "GROUP", "workers", "first", "COUNT", "3", "STREAMS", &key, ">"]);
}

/// A key and a value that are no text, with what could confuse a parser.
fn binary_key(wire: &mut Wire<'_>, rng: &mut Rng, series: u64, index: u64) {
    let key = [b"blob\0\xff\r\n$".as_slice(), format!("{series}:{index}").as_bytes()].concat();
    let mut value = Vec::with_capacity(2000);
    let count = 200 + rng.below(1800);
    rng.bytes(count as usize, &mut value);
    wire.command(&[b"SET", key.as_slice(), &value]);
}

fn expires_sometimes(wire: &mut Wire<'_>, rng: &mut Rng, key: &[u8]) {
    if rng.chance(50) {
        let at = (EXPIRES_UNIX + rng.below(100_000_000)).to_string();
        wire.command(&[b"EXPIREAT", key, at.as_bytes()]);
    }
}

fn words(rng: &mut Rng, count: u64) -> String {
    let mut text = String::with_capacity(count as usize * 8);
    for number in 0..count {
        text.push_str(if number == 0 { "" } else { " " });
        text.push_str(rng.pick(WORDS));
    }
    text
}
