//! Where a group's data stands, for an operator to say it back: whoever acted on the group meanwhile has moved it.

use std::fmt;
use std::str::FromStr;

use baton_proto::Lineage;

use super::{Group, PrimaryState};

/// Fewest characters of an id that name it.
const ID_CHARS_MIN: usize = 8;
/// Characters of a whole id.
const ID_CHARS_MAX: usize = 40;

/// What an operator has seen: the beginning of an id, and an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    id: String,
    offset: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is ID:OFFSET, with at least {ID_CHARS_MIN} hexadecimal characters of the id, as `coord status -v` prints it"
)]
pub struct SeenError;

impl Seen {
    pub fn of(lineage: &Lineage) -> Seen {
        Seen { id: lineage.id.short().to_owned(), offset: lineage.offset }
    }

    /// Whether the group still stands there. One that serves may have gone on under the same id.
    pub fn fits(&self, found: &Lineage, serves: bool) -> bool {
        let offset = if serves { found.offset >= self.offset } else { found.offset == self.offset };
        offset && found.id.as_str().starts_with(&self.id)
    }
}

impl FromStr for Seen {
    type Err = SeenError;
    fn from_str(text: &str) -> Result<Self, SeenError> {
        let (id, offset) = text.split_once(':').ok_or(SeenError)?;
        let named = (ID_CHARS_MIN..=ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
        let offset = offset.parse().map_err(|_| SeenError)?;
        if named { Ok(Seen { id: id.to_ascii_lowercase(), offset }) } else { Err(SeenError) }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.offset)
    }
}

impl Group {
    /// Where the group's data stands: its primary's, or that of the furthest survivor.
    pub fn stand(&self) -> Option<Lineage> {
        if let PrimaryState::Running { lineage, .. } = &self.primary.state {
            return Some(lineage.clone());
        }
        let held = self.replicas.iter().filter_map(|replica| replica.lineage.as_ref());
        let own = held.filter(|lineage| self.lineage.as_ref().is_none_or(|id| *id == lineage.id));
        own.max_by_key(|lineage| lineage.offset).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use crate::topology::fixture::{healthy, lineage, lost_primary};

    #[test]
    fn what_is_printed_can_be_said_back() {
        let seen = Seen::of(&lineage('a', 1000));
        assert_eq!(seen.to_string(), "aaaaaaaa:1000");
        assert_eq!("AAAAAAAA:1000".parse(), Ok(seen));
        for text in ["aaaa:1", "aaaaaaaa", "aaaaaaaa:x", "zzzzzzzz:1", ":1", &format!("{}:1", "a".repeat(41))] {
            assert_eq!(text.parse::<Seen>(), Err(SeenError), "{text}");
        }
    }

    #[test]
    fn a_group_that_went_on_or_another_history_does_not_fit() {
        let seen = Seen::of(&lineage('a', 1000));
        assert!(seen.fits(&lineage('a', 1000), false));
        assert!(!seen.fits(&lineage('a', 1001), false) && seen.fits(&lineage('a', 1001), true));
        assert!(!seen.fits(&lineage('a', 999), true) && !seen.fits(&lineage('b', 1000), true));
    }

    #[test]
    fn a_group_stands_where_its_primary_does_or_its_furthest_survivor() {
        let stand = |world| Topology::of(&world).groups[0].stand();
        assert_eq!(stand(healthy()), Some(lineage('a', 1000)));
        assert_eq!(stand(lost_primary()), Some(lineage('a', 1000)));
    }
}
