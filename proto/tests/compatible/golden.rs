//! What earlier builds wrote: one file for each protocol version that is spoken, one message a line. Lines are added, and go
//! only with the version.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use baton_neighbour::Tree;
use baton_proto::codec;
use baton_proto::hello::{PROTOCOL_MAX, PROTOCOL_MIN};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Look, all, bare};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatible/golden")
}

/// A message as it was written.
#[derive(Debug)]
struct Line {
    kind: String,
    name: String,
    bytes: Vec<u8>,
}

fn lines(version: u16) -> Vec<Line> {
    let text = fs::read_to_string(dir().join(format!("{version}.txt"))).unwrap_or_default();
    let parse = |line: &str| {
        let [kind, name, bytes] = line.split(' ').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{line}"));
        Line { kind: kind.into(), name: name.into(), bytes: hex::HEXLOWER.decode(bytes.as_bytes()).unwrap() }
    };
    text.lines().map(parse).collect()
}

#[test]
fn there_is_a_file_for_every_version_that_is_spoken() {
    let found: BTreeSet<String> =
        fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let spoken: BTreeSet<String> = (PROTOCOL_MIN..=PROTOCOL_MAX).map(|version| format!("{version}.txt")).collect();
    assert_eq!(found, spoken);
}

#[test]
fn what_earlier_builds_wrote_is_read_and_nothing_of_it_is_lost() {
    struct Reads(Vec<Line>, usize);
    impl Look for Reads {
        fn look<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
            &mut self,
            kind: &'static str,
            _: Vec<(&'static str, T)>,
        ) {
            for Line { name, bytes, .. } in self.0.iter().filter(|line| line.kind == kind) {
                let read: T = codec::decode(bytes).unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
                let (again, before) = (Tree::decode(&codec::encode(&read).unwrap()), Tree::decode(bytes).unwrap());
                assert!(again.unwrap().holds(&before), "{kind} {name}: something of it was lost: {read:?}");
                self.1 += 1;
            }
        }
    }
    let written: Vec<Line> = (PROTOCOL_MIN..=PROTOCOL_MAX).flat_map(lines).collect();
    let mut reads = Reads(written, 0);
    all(&mut reads);
    assert_eq!(reads.1, reads.0.len(), "a kind of message is gone");
}

#[test]
fn what_this_build_writes_is_kept_for_later_ones() {
    struct Kept(Vec<Line>, String);
    impl Look for Kept {
        fn look<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
            &mut self,
            kind: &'static str,
            samples: Vec<(&'static str, T)>,
        ) {
            for (name, sample) in samples {
                let whole = (name.to_owned(), codec::encode(&sample).unwrap());
                let less = (format!("{name}/bare"), bare(&sample).encode().unwrap());
                for (name, bytes) in [whole, less] {
                    let is_kept = |line: &Line| line.kind == kind && line.name == name && line.bytes == bytes;
                    if !self.0.iter().any(is_kept) {
                        self.1 += &format!("{kind} {name} {}\n", hex::HEXLOWER.encode(&bytes));
                    }
                }
            }
        }
    }
    let mut kept = Kept(lines(PROTOCOL_MAX), String::new());
    all(&mut kept);
    let missing = kept.1;
    let path = dir().join(format!("{PROTOCOL_MAX}.txt"));
    if std::env::var_os("BATON_GOLDEN").is_some_and(|value| value == "write") {
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, before + &missing).unwrap();
        return;
    }
    let names: Vec<&str> = missing.lines().map(|line| line.rsplit_once(' ').map_or(line, |(name, _)| name)).collect();
    assert!(names.is_empty(), "{names:?} are in no line of {}: see `main.rs` for how they come there", path.display());
}
