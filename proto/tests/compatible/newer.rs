//! What a newer release may say, and what is made of it.

use baton_neighbour::{Neighbour, Tree};
use baton_proto::control::{Answer, Reply, Request};
use baton_proto::deposed::Standing;
use baton_proto::report::{HostReport, ServerState};
use baton_proto::version::{Magic, Product};
use baton_proto::{FaultKind, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::samples::{outcomes, reports, requests};
use crate::{Look, all, bare};

/// A word that no release has.
const UNHEARD: &str = "unheard_of";

#[test]
fn more_fields_are_skipped_wherever_they_stand() {
    struct More(Neighbour);
    impl Look for More {
        fn look<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
            &mut self,
            kind: &'static str,
            samples: Vec<(&'static str, T)>,
        ) {
            for (name, sample) in samples {
                // What a tree says is what is said without one.
                let plain = Neighbour::default().encode(&sample).unwrap();
                assert_eq!(plain, codec::encode(&sample).unwrap(), "{kind} {name}");
                let bytes = self.0.encode(&sample).unwrap();
                assert_eq!(codec::decode::<T>(&bytes).unwrap(), sample, "{kind} {name}");
                let less = bare(&sample);
                let read =
                    crate::read::<T>(&less).unwrap_or_else(|| panic!("{kind} {name} without what may be left out"));
                let (read, less) = (read.encode().unwrap(), less.encode().unwrap());
                assert!(Tree::decode(&read).unwrap().holds(&Tree::decode(&less).unwrap()), "{kind} {name}");
            }
        }
    }
    all(&mut More(Neighbour::parse("more").unwrap()));
}

/// A message with each of its variants in turn replaced by one that nobody knows, from the given one on; with what it was.
fn with_each_variant_unheard_of(message: &impl Serialize, first: usize) -> Vec<(String, Vec<u8>)> {
    let mut changed = Vec::new();
    loop {
        let mut tree = Tree::of(message).unwrap();
        let (mut at, mut was) = (0, None);
        tree.visit(&mut |tree| {
            let word = match tree {
                Tree::Variant(word, _) => Some(word),
                Tree::Struct(fields) => fields.iter_mut().find_map(|(name, value)| match value {
                    Tree::Str(word) if Tree::TAGS.contains(&name.as_str()) => Some(word),
                    _ => None,
                }),
                _ => None,
            };
            if let Some(word) = word {
                if at == changed.len() + first {
                    was = Some(std::mem::replace(word, UNHEARD.into()));
                }
                at += 1;
            }
        });
        match was {
            Some(was) => changed.push((was, tree.encode().unwrap())),
            None => return changed,
        }
    }
}

#[test]
fn a_report_is_read_whatever_a_newer_agent_tells_of_its_servers() {
    let whole = reports::report();
    let report = |state: &ServerState| {
        let mut report = whole.clone();
        report.instances[0].server = state.clone();
        report.instances.push(reports::of_instance());
        report
    };
    let mut strange = 0;
    for (name, state) in reports::states() {
        let sent = report(&state);
        let changed = with_each_variant_unheard_of(&sent, 0);
        assert!(!changed.is_empty());
        for (was, bytes) in changed {
            let read: HostReport = codec::decode(&bytes).unwrap_or_else(|error| panic!("{name}, {was}: {error}"));
            assert_eq!((&read.host, read.instances.len()), (&sent.host, 2), "{name}, {was}");
            strange += read.instances.iter().filter(|i| matches!(i.server, ServerState::Strange { .. })).count();
            for (read, sent) in read.instances.iter().zip(&sent.instances) {
                assert_eq!((&read.name, &read.settings, &read.claim), (&sent.name, &sent.settings, &sent.claim));
            }
        }
    }
    assert!(strange > 0);
}

#[test]
fn a_word_more_counts_as_the_one_of_which_the_least_is_expected() {
    let unheard = codec::encode(&UNHEARD).unwrap();
    assert_eq!(codec::decode::<Product>(&unheard).unwrap(), Product::Other);
    assert_eq!(codec::decode::<Magic>(&unheard).unwrap(), Magic::Other);
    assert_eq!(codec::decode::<Standing>(&unheard).unwrap(), Standing::Deposed);
    assert_eq!(codec::decode::<FaultKind>(&unheard).unwrap(), FaultKind::Internal);
}

#[test]
fn an_unknown_product_reads_and_does_nothing() {
    let mut version = crate::samples::version();
    version.product = Product::Other;
    version.major = 99;
    assert!(!version.continues_as_replica() && !version.has_failover() && !version.remembers_lineage_as_primary());
    for known in [Product::Redis, Product::Valkey] {
        let known = baton_proto::version::ServerVersion { product: known, ..version };
        assert!(!known.reads(version.writes()) && !version.reads(known.writes()), "{known}");
    }
    assert!(!version.reads(version.writes()), "nobody has seen it do so");
}

/// What is ordered and what comes of it is understood whole or not at all.
#[test]
fn orders_and_outcomes_of_which_a_word_is_unknown_are_not_understood() {
    for (name, request) in requests::requests() {
        for (was, bytes) in with_each_variant_unheard_of(&request, 0) {
            let read = codec::decode::<Request>(&bytes);
            // The standing of a note is told by its own rule.
            assert!(read.is_err() || was == "reinstated", "{name}, {was}: {read:?}");
        }
    }
    for (name, outcome) in outcomes::outcomes() {
        let answer: Answer = Ok(Reply::Task(baton_proto::control::TaskState {
            seq: 1,
            status: baton_proto::control::TaskStatus::Done(outcome),
        }));
        // Without `Ok`, which is no word of ours.
        for (was, bytes) in with_each_variant_unheard_of(&answer, 1) {
            let read = codec::decode::<Answer>(&bytes);
            // A format of snapshots is told by its own rule.
            assert!(read.is_err() || was == "redis", "{name}, {was}: {read:?}");
        }
    }
}
