//! PURE: what two servers say of one key, and how its values are compared then.

use std::ops::Range;

/// What is at most asked for as a whole, by the server's estimate of a value's size. Larger values are read in pieces: a
/// server does nothing else while it serialises one.
pub(super) const WHOLE_BYTES_MAX: u64 = 256 * 1024;
/// Of kinds that can only be compared as a whole, the largest that are: some ten milliseconds of a server's time.
pub(super) const FORM_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// About how many bytes of values are asked for at once.
pub(super) const PORTION_BYTES: u64 = 1024 * 1024;
/// The same of elements of one large value.
const WINDOW_BYTES: u64 = 256 * 1024;
/// Most elements, or keys, that are asked for at once.
pub(super) const WINDOW: u64 = 500;

/// What a server says of a key before its value is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// None: there is no such key, or its time is up.
    pub(super) kind: Option<String>,
    /// By the server's estimate.
    pub(super) bytes: u64,
}

/// What both say of it together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Both {
    Settled(Verdict),
    /// The types agree: the values tell.
    Read(Reading),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// On neither side.
    Absent,
    Same,
    OnlyHere,
    OnlyThere,
    /// `types` where they are not the same. `by_form`: only the serialised forms were compared.
    Differs {
        types: Option<[String; 2]>,
        by_form: bool,
    },
    /// On both, and not to be compared by what is read here.
    Unread,
}

impl Verdict {
    /// Whether it has to be looked at once more before it counts.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Verdict::OnlyHere | Verdict::OnlyThere | Verdict::Differs { .. })
    }

    pub(super) fn of(same: bool) -> Verdict {
        if same { Verdict::Same } else { Verdict::Differs { types: None, by_form: false } }
    }
}

/// How the values of a key are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As they are.
    Whole,
    /// By their serialised form; if it differs, by elements.
    Form,
    /// By their serialised form alone.
    FormAlone,
    Elements,
}

pub(super) fn both(here: &Sight, there: &Sight) -> Both {
    let (one, other) = match (&here.kind, &there.kind) {
        (None, None) => return Both::Settled(Verdict::Absent),
        (Some(_), None) => return Both::Settled(Verdict::OnlyHere),
        (None, Some(_)) => return Both::Settled(Verdict::OnlyThere),
        (Some(one), Some(other)) => (one, other),
    };
    if one != other {
        let types = Some([one.clone(), other.clone()]);
        return Both::Settled(Verdict::Differs { types, by_form: false });
    }
    let bytes = here.bytes.max(there.bytes);
    let small = bytes <= WHOLE_BYTES_MAX;
    match one.as_str() {
        "string" if small => Both::Read(Reading::Whole),
        "list" | "set" | "hash" | "zset" if small => Both::Read(Reading::Form),
        "string" | "list" | "set" | "hash" | "zset" => Both::Read(Reading::Elements),
        _ if bytes <= FORM_BYTES_MAX => Both::Read(Reading::FormAlone),
        _ => Both::Settled(Verdict::Unread),
    }
}

/// Cuts what is to be read into portions of about as many bytes; each has one at least.
pub(super) fn portions(sizes: impl IntoIterator<Item = u64>) -> Vec<Range<usize>> {
    let (mut cut, mut begin, mut bytes, mut end) = (Vec::new(), 0, 0u64, 0);
    for size in sizes {
        if end > begin && bytes.saturating_add(size) > PORTION_BYTES {
            cut.push(begin..end);
            (begin, bytes) = (end, 0);
        }
        bytes = bytes.saturating_add(size);
        end += 1;
    }
    if end > begin {
        cut.push(begin..end);
    }
    cut
}

/// How many elements of a value to ask for at once, so that they are about a window's bytes.
pub(super) fn window(bytes: u64, elements: u64) -> u64 {
    let each = bytes.checked_div(elements).unwrap_or(1).max(1);
    (WINDOW_BYTES / each).clamp(1, WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(kind: &str, bytes: u64) -> Sight {
        Sight { kind: (kind != "none").then(|| kind.to_owned()), bytes }
    }

    #[test]
    fn a_key_is_on_one_side_or_of_two_types_or_its_values_tell() {
        let settled = |here, there| match both(&sight(here, 10), &sight(there, 10)) {
            Both::Settled(verdict) => verdict,
            Both::Read(reading) => panic!("{here}, {there}: {reading:?}"),
        };
        assert_eq!(settled("none", "none"), Verdict::Absent);
        assert_eq!(settled("hash", "none"), Verdict::OnlyHere);
        assert_eq!(settled("none", "stream"), Verdict::OnlyThere);
        let types = Some(["list".to_owned(), "set".to_owned()]);
        assert_eq!(settled("list", "set"), Verdict::Differs { types, by_form: false });
    }

    #[test]
    fn how_values_are_read_goes_by_type_and_by_the_larger_of_the_two() {
        let small = WHOLE_BYTES_MAX;
        for (kind, here, there, reading) in [
            ("string", small, small, Reading::Whole),
            ("string", small, small + 1, Reading::Elements),
            ("string", small + 1, 0, Reading::Elements),
            ("hash", small, 0, Reading::Form),
            ("zset", 0, small + 1, Reading::Elements),
            ("stream", small, small, Reading::FormAlone),
            ("stream", FORM_BYTES_MAX, 0, Reading::FormAlone),
            ("ReJSON-RL", 10, 10, Reading::FormAlone),
        ] {
            assert_eq!(both(&sight(kind, here), &sight(kind, there)), Both::Read(reading), "{kind} {here} {there}");
        }
        let large = sight("stream", FORM_BYTES_MAX + 1);
        assert_eq!(both(&sight("stream", 1), &large), Both::Settled(Verdict::Unread));
    }

    #[test]
    fn only_what_differs_is_looked_at_again() {
        let doubtful = [Verdict::OnlyHere, Verdict::OnlyThere, Verdict::of(false)];
        assert!(doubtful.iter().all(Verdict::is_doubtful));
        assert!(![Verdict::Absent, Verdict::Same, Verdict::Unread].iter().any(Verdict::is_doubtful));
    }

    #[test]
    fn portions_hold_everything_once_and_no_more_than_they_may_unless_it_is_one() {
        assert!(portions([]).is_empty());
        assert_eq!(portions([PORTION_BYTES * 9, 1, 1]), vec![0..1, 1..3]);
        assert_eq!(portions([1, PORTION_BYTES - 1, 1, u64::MAX, u64::MAX]), vec![0..2, 2..3, 3..4, 4..5]);
    }

    #[test]
    fn a_window_has_fewer_elements_the_larger_they_are_and_always_one() {
        assert_eq!(window(0, 0), WINDOW);
        assert_eq!(window(1_000_000, 1_000_000), WINDOW);
        assert_eq!(window(WINDOW_BYTES * 100, 1000), 10);
        assert_eq!(window(u64::MAX, 2), 1);
    }
}
