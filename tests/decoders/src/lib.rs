//! Everything that reads bytes from a disk or a network, one function each: it takes any bytes, panics if what the decoder
//! promises does not hold, and has a sample that is well formed. The fuzzer (`tests/fuzz`) calls them with bytes of its own
//! making, and a test of every run with damaged samples.
//!
//! What a decoder promises: no panic, no allocation beyond its bound, and that what it took is what was written.

use std::path::{Path, PathBuf};

use baton_agent::config::AgentConfig;
use baton_agent::feed::handshake::{Handshake, Output};
use baton_agent::info::{Info, parse_running};
use baton_agent::redis_conf;
use baton_agent::replica::payload::{Ending, Next, Payload};
use baton_agent::replica::reply::{self, Reply};
use baton_agent::spool::piece;
use baton_agent::transfer::map::MapFormat;
use baton_agent::transfer::packing::Unpacker;
use baton_agent::transfer::plain::{PLAIN_BYTES_MAX, Plainer};
use baton_coord::inventory::{Inventory, Places};
use baton_coord::journal;
use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking};
use baton_proto::codec::{self, CodecError};
use baton_proto::control::{Answer, Request};
use baton_proto::data::{FRAME_HEAD_BYTES, FrameHead, Packing, SnapshotId, Ticket, WIRE_BYTES_MAX};
use baton_proto::digest::ChunkDigest;
use baton_proto::hello::Hello;
use baton_proto::rdb::{self, Checksum};

use baton_proto::{Fault, Lineage, RunId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A decoder under test.
pub struct Target {
    pub name: &'static str,
    /// Panics when a promise does not hold; else tells whether the bytes were taken.
    pub check: fn(&[u8]) -> bool,
    /// Well-formed input, which a fuzzer begins with.
    pub sample: fn() -> Vec<u8>,
}

pub const TARGETS: [Target; 14] = [
    Target { name: "messages", check: messages, sample: message_sample },
    Target { name: "frames", check: frames, sample: frame_sample },
    Target { name: "plain_frames", check: frames, sample: plain_frame_sample },
    Target { name: "pieces", check: pieces, sample: piece_sample },
    Target { name: "plain", check: plain, sample: plain_sample },
    Target { name: "map", check: map, sample: map_sample },
    Target { name: "rdb", check: rdb, sample: rdb_sample },
    Target { name: "replica", check: replica, sample: || REPLICA.into() },
    Target { name: "resync", check: resync, sample: resync_sample },
    Target { name: "info", check: info, sample: || INFO.into() },
    Target { name: "redis_conf", check: redis_conf, sample: || REDIS_CONF.into() },
    Target { name: "agent_toml", check: agent_toml, sample: || AGENT_TOML.into() },
    Target { name: "coord_toml", check: coord_toml, sample: || COORD_TOML.into() },
    Target { name: "journal", check: journal, sample: || JOURNAL.into() },
];

/// The target of this name; there is one.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

const INFO: &str = include_str!("../../../agent/src/info/fixtures/redis-7.0.orphan.txt");
const REDIS_CONF: &str = "# local\nport 6379\nbind 127.0.0.1 -::1\nrequirepass \"a \\\"b\\x41\"\nsave 3600 1 300 100\n\
    include extra.conf\nrename-command CONFIG ''\ndir /var/lib/redis\n";
const AGENT_TOML: &str = "listen = \"10.0.0.2:7400\"\nidentity = \"machine-b.pem\"\nlanes = 2\n[[instance]]\n\
    name = \"default\"\nconfig = \"/etc/redis/redis.conf\"\nservice = { systemd = \"redis-server.service\" }\n";
const COORD_TOML: &str = "identity = \"pki/operator.pem\"\n[hosts.machine-b]\nagent = \"10.0.0.2:7400\"\n";
const JOURNAL: &str = "{\"at_unix_ms\":1,\"event\":{\"step_started\":{\"index\":0,\"step\":\"fence\"}}}\n\
    {\"at_unix_ms\":2,\"event\":{\"step_done\":{\"index\":0,\"step\":\"fence\",\"seconds\":0.5,\"learnt\":[]}}}\n\
    {\"at_unix_ms\":3,\"event\":\"interrupted\"}\n";

const SECRET: &str = "0123456789abcdef";
const REPLICA: &str = "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nAUTH\r\n$16\r\n0123456789abcdef\r\n\
    *5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\nPSYNC ? -1\r\n\
    *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$4\r\n1024\r\n";

fn message_sample() -> Vec<u8> {
    let ticket = Ticket { run: RunId::new("fo-1").expect("a run"), secret: vec![7; 32] };
    codec::encode(&Request::Chunk { ticket, index: 5, held: 2 }).expect("a message")
}

fn messages(bytes: &[u8]) -> bool {
    let kinds = [
        decodes_to_itself::<Request>,
        decodes_to_itself::<Answer>,
        decodes_to_itself::<Hello>,
        decodes_to_itself::<Fault>,
    ];
    kinds.map(|kind| kind(bytes)).contains(&true)
}

/// What was read can be written, and is then read as the same.
fn decodes_to_itself<T: Serialize + DeserializeOwned + std::fmt::Debug>(bytes: &[u8]) -> bool {
    let Ok(message) = codec::decode::<T>(bytes) else { return false };
    let written = codec::encode(&message).expect("what was read can be written");
    let again: Result<T, CodecError> = codec::decode(&written);
    // By their words, since a number may be none that equals itself.
    assert_eq!(format!("{:?}", again.expect("what was written can be read")), format!("{message:?}"));
    true
}

fn frame_sample() -> Vec<u8> {
    let raw: Vec<u8> = b"a key and its value, ".iter().copied().cycle().take(5000).collect();
    let wire = zstd::bulk::compress(&raw, 1).expect("it packs");
    let digest = chunking(raw.len()).digest(ChunkIndex(0), &raw);
    let (raw_bytes, wire_bytes) = (raw.len() as u32, wire.len() as u32);
    let head = FrameHead { packing: Packing::Zstd { level: 1 }, index: 0, raw_bytes, wire_bytes, digest };
    [&head.encode()[..], &wire].concat()
}

fn chunking(bytes: usize) -> Chunking {
    Chunking::new(bytes as u64).expect("a small file")
}

/// A chunk as it comes: what is announced, and the bytes behind it.
fn frames(bytes: &[u8]) -> bool {
    let Some((head, wire)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return false };
    let Ok(read) = FrameHead::decode(head) else { return false };
    assert!(read.wire_bytes <= WIRE_BYTES_MAX && read.raw_bytes <= WIRE_BYTES_MAX);
    assert_eq!(read.encode(), *head);
    let mut room = vec![0; CHUNK_BYTES as usize];
    let chunking = chunking(read.raw_bytes as usize);
    let index = ChunkIndex(read.index);
    let Ok((span, raw)) = Unpacker::default().unpack(&chunking, index, &read, wire, &mut room) else { return false };
    assert_eq!(raw.len(), span.bytes as usize);
    assert_eq!(chunking.digest(index, raw), read.digest);
    true
}

/// Two strings, as a server packs them.
const PACKED: &[u8] = b"\0\x03key\xc3\x15AI\x02aba\xe0\x0b\x01\xe0\xff\x00\xe0\x1a\x00\x06the end\
    \0\x04key2\xc3\x08\x17\x03xyzq\xe0\x0a\x00\xff";

fn plain_form(raw: &[u8]) -> Vec<u8> {
    let mut form = vec![0; PLAIN_BYTES_MAX];
    let undone = Plainer::default().undo(raw, &mut form).expect("it has strings");
    form.truncate(undone.bytes);
    form
}

fn plain_frame_sample() -> Vec<u8> {
    let raw = PACKED.repeat(20);
    let wire = zstd::bulk::compress(&plain_form(&raw), 1).expect("it packs");
    let digest = chunking(raw.len()).digest(ChunkIndex(0), &raw);
    let (raw_bytes, wire_bytes) = (raw.len() as u32, wire.len() as u32);
    let head = FrameHead { packing: Packing::Plain { level: 1 }, index: 0, raw_bytes, wire_bytes, digest };
    [&head.encode()[..], &wire].concat()
}

fn piece_sample() -> Vec<u8> {
    let (head, wire) = piece::pack(REPLICA.as_bytes().repeat(20));
    [&head.encode()[..], &wire].concat()
}

/// A piece of a spool as it comes. What is taken comes out the same when it is packed again.
fn pieces(bytes: &[u8]) -> bool {
    let Some((head, wire)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return false };
    let Ok(read) = FrameHead::decode(head) else { return false };
    let Ok(raw) = piece::unpack(&mut Unpacker::default(), &read, wire) else { return false };
    assert_eq!(raw.len(), read.raw_bytes as usize);
    let (head, wire) = piece::pack(raw.clone());
    assert_eq!(piece::unpack(&mut Unpacker::default(), &head, &wire), Ok(raw));
    true
}

/// A chunk's length in two bytes, and its plain form.
fn plain_sample() -> Vec<u8> {
    let raw = PACKED.repeat(3);
    [&(raw.len() as u16).to_be_bytes()[..], &plain_form(&raw)].concat()
}

/// A plain form makes a chunk or none; and a chunk, whatever it is, comes back from its own plain form.
fn plain(bytes: &[u8]) -> bool {
    let Some((length, form)) = bytes.split_first_chunk() else { return false };
    let mut chunk = vec![0; u16::from_be_bytes(*length).into()];
    let mut plainer = Plainer::default();
    let taken = plainer.redo(form, &mut chunk).is_ok();
    for chunk in [&chunk, bytes] {
        let mut form = vec![0; 2 * chunk.len() + PACKED.len()];
        let Some(undone) = plainer.undo(chunk, &mut form) else { continue };
        let mut again = vec![0; chunk.len()];
        plainer.redo(form.get(..undone.bytes).expect("it is in the room"), &mut again).expect("a plain form");
        assert_eq!(again, *chunk);
    }
    taken
}

const MAP_CHUNKS: u32 = 8;

fn map_format() -> MapFormat {
    MapFormat::new(&SnapshotId("fe00-1".into())).expect("a short name")
}

fn map_sample() -> Vec<u8> {
    let format = map_format();
    let record = |index| format.record(ChunkIndex(index), 100, &ChunkDigest([index as u8; 32]));
    [format.head(), &record(0), &record(3), &record(7)].concat()
}

fn map(bytes: &[u8]) -> bool {
    let format = map_format();
    let Ok(parsed) = format.read(bytes, MAP_CHUNKS) else { return false };
    assert!(parsed.held.keys().all(|index| index.0 < MAP_CHUNKS));
    let good = bytes.get(..parsed.good_bytes as usize).expect("good bytes are among those that were read");
    let again = format.read(good, MAP_CHUNKS).expect("what was good before");
    assert!(!again.torn && again.held == parsed.held && again.wire_bytes == parsed.wire_bytes);
    !parsed.torn
}

fn rdb_sample() -> Vec<u8> {
    let mut bytes = b"REDIS0010".to_vec();
    let id = "8c0e2b5c4e1a3d9f8c0e2b5c4e1a3d9f8c0e2b5c";
    for (name, value) in [("redis-ver", "7.0.15"), ("repl-id", id), ("repl-offset", "1024")] {
        bytes.push(0xfa);
        for text in [name, value] {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    // A database without keys, the end, and no checksum.
    bytes.extend([0xfe, 0, 0xff]);
    bytes.extend([0; 8]);
    bytes
}

fn rdb(bytes: &[u8]) -> bool {
    let head = rdb::parse_head(bytes);
    if let Ok(head) = &head {
        // What follows the fields that were read does not matter.
        let longer = [bytes, &[0xfe, 0, 0xff]].concat();
        assert_eq!(rdb::parse_head(&longer).map(|longer| longer.format), Ok(head.format));
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(Checksum::of(first).followed_by(Checksum::of(second)), Checksum::of(bytes));
    let tail = bytes.get(bytes.len().saturating_sub(rdb::TAIL_BYTES)..).unwrap_or_default();
    rdb::check_end(tail, Checksum::of(bytes)).is_ok() && head.is_ok()
}

/// What a server says that comes to be fed. It gets nothing without the secret, however its words are split.
fn replica(bytes: &[u8]) -> bool {
    let heard = |parts: &[&[u8]]| {
        let id = "8c0e2b5c4e1a3d9f8c0e2b5c4e1a3d9f8c0e2b5c".parse().expect("an id");
        let mut handshake = Handshake::new(SECRET, Lineage { id, offset: 1024 });
        let mut outputs = Vec::new();
        for part in parts {
            handshake.handle_bytes(part);
            outputs.extend(std::iter::from_fn(|| Some(handshake.poll_output()).filter(|next| *next != Output::Wait)));
        }
        outputs
    };
    let outputs = heard(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(heard(&[first, second]), outputs);
    let begins = outputs.contains(&Output::Begin);
    assert!(!begins || bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    begins
}

/// What a primary says to a replica, and the snapshot behind it.
fn resync_sample() -> Vec<u8> {
    let id = "8c0e2b5c4e1a3d9f8c0e2b5c4e1a3d9f8c0e2b5c";
    [format!("\n+FULLRESYNC {id} 1024\r\n\n$EOF:{id}\r\n").as_bytes(), &rdb_sample(), id.as_bytes()].concat()
}

fn resync(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut stands = false;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        match reply::read(line) {
            Reply::Alive => {}
            Reply::Resync(_) => stands = true,
            Reply::Begins(ending) => return stands && payload(ending, rest),
            Reply::Continues(_) | Reply::Refused(_) | Reply::Foreign(_) => return false,
        }
    }
    false
}

/// What comes out is what was sent, and nothing is read beyond what is wanted.
fn payload(ending: Ending, bytes: &[u8]) -> bool {
    let mut payload = Payload::new(ending, Vec::new());
    let mut rest = bytes;
    loop {
        match payload.poll() {
            Ok(Next::More) => {
                // Two reads at least.
                let most = payload.wants().min(bytes.len() / 2 + 1).min(rest.len());
                let (now, later) = rest.split_at(most);
                if now.is_empty() {
                    return false;
                }
                payload.buffer().extend_from_slice(now);
                rest = later;
            }
            Ok(Next::Cut) => {
                assert_eq!(payload.cut().len() as u64, CHUNK_BYTES);
                payload.refill(Vec::new());
            }
            Ok(Next::End) => {
                let (last, count) = payload.finish();
                assert!(
                    last.len() as u64 <= CHUNK_BYTES
                        && bytes.get(..count as usize).is_some_and(|all| all.ends_with(&last))
                );
                return true;
            }
            Err(_) => return false,
        }
    }
}

fn info(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let _ = Info::parse(&text);
    parse_running(&text).is_ok()
}

fn redis_conf(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let main = redis_conf::Source { path: PathBuf::from("redis.conf"), text };
    // What it includes includes itself, for as long as it is let: the depth is bounded.
    let mut include = |path: &Path| {
        let text = if path.ends_with("extra.conf") { "maxmemory 1gb\n" } else { "include again.conf\n" };
        Ok(vec![redis_conf::Source { path: path.into(), text: text.to_owned() }])
    };
    let Ok(conf) = redis_conf::parse(&main, Path::new("/"), &mut include) else { return false };
    let _ = (conf.port(), conf.tls_port(), conf.bind(), conf.load_modules());
    true
}

fn agent_toml(bytes: &[u8]) -> bool {
    AgentConfig::parse(&String::from_utf8_lossy(bytes), Path::new("/etc/baton"), None).is_ok()
}

fn coord_toml(bytes: &[u8]) -> bool {
    let places = Places { home: Some("/root".into()), xdg_config: None, xdg_state: None };
    Inventory::parse(&String::from_utf8_lossy(bytes), Path::new("/etc/baton/coord.toml"), &places).is_ok()
}

fn journal(bytes: &[u8]) -> bool {
    let Ok(whole) = journal::parse(bytes) else { return false };
    let cut = bytes.get(..bytes.len() / 2).unwrap_or_default();
    let part = journal::parse(cut).expect("a prefix of what was good");
    assert_eq!(format!("{part:?}"), format!("{:?}", whole.get(..part.len()).unwrap_or_default()));
    !whole.is_empty()
}
