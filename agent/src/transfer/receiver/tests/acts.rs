//! What can befall a receiver's world, thrown or shrunk.

use proptest::prelude::*;

use crate::transfer::dice::Dice;

/// Something that befalls the transfer. The number picks among what is pending.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Connect,
    FailConnect,
    Prepare,
    Grow(u8),
    Extent,
    Arrive(u8),
    Damage(u8),
    BreakLink(u8),
    Check(u8),
    Sync,
    Seal,
    Finish,
    Pass(u8),
    Kill,
    PowerCut,
}

impl Act {
    /// Arrivals are common, breaks are rare, crashes rarer.
    pub(super) fn random(dice: &mut Dice) -> Act {
        let pick = (dice.throw() >> 8) as u8;
        match dice.below(100) {
            0..50 => Act::Arrive(pick),
            50..53 => Act::Damage(pick),
            53..55 => Act::BreakLink(pick),
            55..63 => Act::Connect,
            63..65 => Act::FailConnect,
            65..69 => Act::Prepare,
            69..73 => Act::Grow(pick),
            73..77 => Act::Extent,
            77..84 => Act::Check(pick),
            84..88 => Act::Sync,
            88..92 => Act::Pass(pick),
            92..95 => Act::Seal,
            95..98 => Act::Finish,
            98 => Act::Kill,
            _ => Act::PowerCut,
        }
    }

    pub(super) fn any() -> impl Strategy<Value = Act> {
        prop_oneof![
            10 => any::<u8>().prop_map(Act::Arrive),
            1 => any::<u8>().prop_map(Act::Damage),
            4 => Just(Act::Connect),
            1 => Just(Act::FailConnect),
            1 => any::<u8>().prop_map(Act::BreakLink),
            3 => Just(Act::Prepare),
            2 => any::<u8>().prop_map(Act::Grow),
            2 => Just(Act::Extent),
            2 => any::<u8>().prop_map(Act::Check),
            3 => Just(Act::Sync),
            2 => Just(Act::Seal),
            2 => Just(Act::Finish),
            2 => any::<u8>().prop_map(Act::Pass),
            1 => Just(Act::Kill),
            1 => Just(Act::PowerCut),
        ]
    }
}
