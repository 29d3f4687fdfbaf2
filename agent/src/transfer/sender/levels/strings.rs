//! Whether it is worth looking for packed strings: a snapshot has them nearly everywhere, or, written with
//! `rdbcompression no`, nowhere.

/// After so many chunks in a row that had next to none, they are not looked for, but in one chunk of several times as many;
/// the more of those have none either, the rarer, up to a bound.
const BARREN_IN_A_ROW: u32 = 2;
const UNSEARCHED_EACH: u32 = 8;
const UNSEARCHED_MAX: u32 = 128;

/// What is known of a snapshot's packed strings.
#[derive(Debug, Default)]
pub(super) struct Strings {
    barren_in_a_row: u32,
    /// Chunks chosen not to be searched since the last that was.
    unsearched: u32,
}

impl Strings {
    /// Takes notice of a chunk that was searched.
    pub(super) fn searched(&mut self, barren: bool) {
        self.barren_in_a_row = if barren { self.barren_in_a_row.saturating_add(1) } else { 0 };
    }

    /// Takes notice of what was chosen for a chunk.
    pub(super) fn chosen(&mut self, search: bool) {
        self.unsearched = if search { 0 } else { self.unsearched.saturating_add(1) };
    }

    /// Whether the next chunk may be searched.
    pub(super) fn hoped_for(&self) -> bool {
        let rest = self.barren_in_a_row.saturating_mul(UNSEARCHED_EACH).min(UNSEARCHED_MAX);
        self.barren_in_a_row < BARREN_IN_A_ROW || self.unsearched >= rest
    }

    /// Whether the last chunk that was searched had none.
    pub(super) fn missing(&self) -> bool {
        self.barren_in_a_row > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a thousand chunks are searched, if those from one on have strings.
    fn searched(strings_from: u32) -> u32 {
        let (mut strings, mut count) = (Strings::default(), 0);
        for chunk in 0..1000 {
            let search = strings.hoped_for();
            strings.chosen(search);
            if search {
                strings.searched(chunk < strings_from);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_snapshot_without_packed_strings_is_hardly_searched_and_one_with_them_always() {
        assert_eq!(searched(0), 1000);
        assert!((2..=20).contains(&searched(1000)), "{}", searched(1000));
        assert!(searched(100) >= 1000 - 100 - UNSEARCHED_MAX, "{}", searched(100));
    }
}
