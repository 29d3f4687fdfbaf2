//! Damaged samples, and bytes at random, for every decoder.

use baton_decoders::{TARGETS, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[derive(Debug, Clone)]
enum Damage {
    Flip { at: prop::sample::Index, mask: u8 },
    Cut(prop::sample::Index),
    Insert { at: prop::sample::Index, bytes: Vec<u8> },
    Twice,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        1 => Just(Damage::Twice),
    ]
}

fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for damage in damage {
        let length = bytes.len();
        match damage {
            Damage::Flip { at, mask } if length > 0 => bytes[at.index(length)] ^= mask,
            Damage::Flip { .. } => {}
            Damage::Cut(at) => bytes.truncate(at.index(length + 1)),
            Damage::Insert { at, bytes: more } => {
                let at = at.index(length + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Twice => bytes.extend_from_within(..),
        }
    }
    bytes
}

fn check(target: &Target) {
    let mut runner = TestRunner::new(Config { cases: 5_000, failure_persistence: None, ..Config::default() });
    let damages = prop::collection::vec(damage(), 0..6);
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let inputs = prop_oneof![
        4 => damages.prop_map(|damages| damaged((target.sample)(), &damages)),
        1 => noise,
    ];
    let outcome = runner.run(&inputs, |bytes| {
        (target.check)(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{}: {failure}", target.name));
}

#[test]
fn no_decoder_breaks_its_promise_on_damaged_input() {
    TARGETS.iter().for_each(check);
}

#[test]
fn every_sample_is_taken() {
    for target in &TARGETS {
        assert!((target.check)(&(target.sample)()), "{}", target.name);
    }
}
