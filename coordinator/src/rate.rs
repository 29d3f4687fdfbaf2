//! Rates as people write them: `50MB/s`, `400 Mbit/s`, `12.5MiB/s`, or `unlimited`. Decimal units are decimal.

use std::fmt;
use std::str::FromStr;

use baton_proto::data::RATE_MIN;

use crate::report::units;

/// Units, and the bits that each stands for.
const UNITS: [(&str, u64); 11] = [
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
    ("GiB", 8 << 30),
    ("MiB", 8 << 20),
    ("KiB", 8 << 10),
    ("GB", 8_000_000_000),
    ("MB", 8_000_000),
    ("kB", 8_000),
    ("B", 8),
];
/// Digits on either side of the point: more than any rate needs, and few enough that a `u128` holds every product.
const DIGITS_MAX: usize = 12;

/// How fast a snapshot may be sent, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxRate(u64);

impl MaxRate {
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => units::Rate(rate as f64).fmt(f),
            None => f.pad("unlimited"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error("it has no number: write it like 50MB/s")]
    Number,
    #[error("it has no unit: write it like {0}MB/s or {0}Mbit/s")]
    NoUnit(String),
    #[error("`{0}` is no unit of a rate: B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s, GiB/s, kbit/s, Mbit/s and Gbit/s are")]
    Unit(String),
    #[error("`{0}` could mean bytes or bits: write {1}B/s or {1}bit/s")]
    Ambiguous(String, char),
    #[error("at less than one byte a second it would never end")]
    Zero,
    #[error("it is too slow for any snapshot: {} at least", units::Rate(RATE_MIN as f64))]
    Slow,
    #[error("no network is that fast: leave the limit out, or say `unlimited` to `coord rate`")]
    Large,
}

impl FromStr for MaxRate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let text = text.trim();
        let split = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || (fraction.is_empty() && number.contains('.')) {
            return Err(RateError::Number);
        }
        let bits = bits(unit.trim_start(), number)?;
        if whole.trim_start_matches('0').len() > DIGITS_MAX {
            return Err(RateError::Large);
        }
        if fraction.len() > DIGITS_MAX {
            return Err(RateError::Number);
        }
        let scale = fraction.bytes().fold(1u128, |scale, _| scale * 10);
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| RateError::Number)?;
        let rate = digits * u128::from(bits) / scale / 8;
        match u64::try_from(rate) {
            Ok(0) => Err(RateError::Zero),
            Ok(..RATE_MIN) => Err(RateError::Slow),
            Ok(rate) => Ok(MaxRate(rate)),
            Err(_) => Err(RateError::Large),
        }
    }
}

impl FromStr for Limit {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        if text.trim() == "unlimited" {
            return Ok(Limit(None));
        }
        text.parse().map(|MaxRate(rate)| Limit(Some(rate)))
    }
}

/// The bits that a unit stands for.
fn bits(unit: &str, number: &str) -> Result<u64, RateError> {
    let name = unit.strip_suffix("/s").unwrap_or(unit);
    if name.is_empty() {
        return Err(RateError::NoUnit(number.into()));
    }
    if let Some((_, bits)) = UNITS.iter().find(|(known, _)| *known == name) {
        return Ok(*bits);
    }
    let mut letters = name.chars();
    let (prefix, rest) = (letters.next(), letters.as_str());
    match (prefix, rest) {
        // Written by some for megabits, by others for megabytes: eight times is too much to guess.
        (Some(prefix @ ('k' | 'K' | 'm' | 'M' | 'g' | 'G')), "" | "b" | "bps" | "ps") => {
            let prefix = if prefix.eq_ignore_ascii_case(&'k') { 'k' } else { prefix.to_ascii_uppercase() };
            Err(RateError::Ambiguous(unit.into(), prefix))
        }
        _ => Err(RateError::Unit(unit.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Result<u64, RateError> {
        text.parse().map(MaxRate::bytes_per_second)
    }

    #[test]
    fn every_unit_is_what_its_name_says() {
        let cases = [
            ("1001B/s", 1001),
            ("50kB/s", 50_000),
            ("50MB/s", 50_000_000),
            ("2GB/s", 2_000_000_000),
            ("8kbit/s", 1_000),
            ("400 Mbit/s", 50_000_000),
            ("1Gbit/s", 125_000_000),
            ("8008bit/s", 1001),
            ("1KiB/s", 1024),
            ("1MiB/s", 1 << 20),
            ("1GiB/s", 1 << 30),
            ("12.5MB/s", 12_500_000),
            ("1.5KiB/s", 1536),
            (" 10MB ", 10_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_what_to_write_instead() {
        assert_eq!(rate("50"), Err(RateError::NoUnit("50".into())));
        assert_eq!(rate("fast"), Err(RateError::Number));
        assert_eq!(rate("-5MB/s"), Err(RateError::Number));
        assert_eq!(rate(""), Err(RateError::Number));
        assert_eq!(rate("1.2.3MB/s"), Err(RateError::Number));
        assert_eq!(rate("5.MB/s"), Err(RateError::Number));
        assert_eq!(rate(".5MB/s"), Err(RateError::Number));
        assert_eq!(rate("5furlong/s"), Err(RateError::Unit("furlong/s".into())));
        assert_eq!(rate("5MB/h"), Err(RateError::Unit("MB/h".into())));
        for ambiguous in ["5M", "5Mb/s", "5mb/s", "5Mbps", "5m/s"] {
            let error = rate(ambiguous).unwrap_err().to_string();
            assert!(error.contains("MB/s or Mbit/s"), "{ambiguous}: {error}");
        }
        assert!(rate("5k").unwrap_err().to_string().contains("kB/s or kbit/s"));
    }

    #[test]
    fn a_rate_that_never_ends_or_that_no_number_holds_is_refused() {
        for zero in ["0MB/s", "0.0GB/s", "7bit/s", "000B/s"] {
            assert_eq!(rate(zero), Err(RateError::Zero), "{zero}");
        }
        for slow in ["1B/s", "8bit/s", "0.5KiB/s", "999B/s", "7999bit/s"] {
            assert_eq!(rate(slow), Err(RateError::Slow), "{slow}");
        }
        assert!(RateError::Slow.to_string().contains("1.0 kB/s at least"), "{}", RateError::Slow);
        for large in ["1000000000000GiB/s", "99999999999999999999999999999B/s", "999999999999GB/s"] {
            assert_eq!(rate(large), Err(RateError::Large), "{large}");
        }
    }

    #[test]
    fn a_limit_can_be_none() {
        assert_eq!("unlimited".parse(), Ok(Limit(None)));
        assert_eq!("50MB/s".parse(), Ok(Limit(Some(50_000_000))));
        assert_eq!([Limit(None), Limit(Some(50_000_000))].map(|limit| limit.to_string()), ["unlimited", "50.0 MB/s"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9.]{0,40}[ a-zA-Z/]{0,8}") {
            let _ = rate(&text);
        }

        #[test]
        fn whole_megabytes_are_exact(megabytes in 1u64..1_000_000) {
            prop_assert_eq!(rate(&format!("{megabytes}MB/s")), Ok(megabytes * 1_000_000));
        }
    }
}
