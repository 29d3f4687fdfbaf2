//! LZF as Redis and Valkey use it: undone with bounds, and done again so that the very bytes of the server come out.
//!
//! A packed string is a run of parts. A first byte below 32 is followed by one literal byte more than it says. Any other
//! holds a length in its upper three bits (7: the next byte is added) and the upper five of a distance of 13 bits, and stands
//! for as many bytes, and two more, from so far back. The server finds them by a table of where it last saw three bytes.
//! It does not clear that table between strings, so now and then it finds what [`Lzf::pack`] does not: such a string does
//! not come out the same.

/// Slots of the server's table: a hash has 16 bits.
const SLOTS: usize = 1 << 16;
/// Most literal bytes of a part.
const LITERALS_MAX: usize = 32;
/// How far back a repetition may begin.
const BACK_MAX: usize = 1 << 13;
/// Most bytes of a repetition.
const REPETITION_MAX: usize = 264;
/// Least bytes that a repetition could still have, for the server to compare up to [`IN_ONE_MAX`] of them without looking
/// whether they are that many.
const IN_ONE_FROM: usize = 17;
const IN_ONE_MAX: usize = 19;
/// Most that a packed byte stands for: a longest repetition has three.
pub(super) const EXPANSION_MAX: usize = REPETITION_MAX / 3;

/// The packing side.
pub(super) struct Lzf {
    /// Where three bytes were last seen, by their hash. Places are counted on from string to string, so that the table
    /// need not be cleared for each.
    table: Box<[u32; SLOTS]>,
    /// The place of the next string's first byte.
    base: u32,
}

impl Default for Lzf {
    fn default() -> Self {
        Self { table: vec![0; SLOTS].try_into().expect("as many as it has slots"), base: 0 }
    }
}

impl Lzf {
    /// Packs a string as the server does. False if that takes more than `limit` bytes.
    pub(super) fn pack(&mut self, plain: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Ok(length) = u32::try_from(plain.len()) else { return false };
        let Some(end) = self.base.checked_add(length) else {
            // No string is as long as that, so this is not done twice.
            self.table.fill(0);
            self.base = 0;
            return self.pack(plain, limit, out);
        };
        let base = std::mem::replace(&mut self.base, end);
        let (mut at, mut literals) = (0, 0);
        while let Some(three) = three(plain, at) {
            let place = base + at as u32;
            let seen = std::mem::replace(self.slot(three), place);
            let back = (place - seen) as usize;
            // What was seen in this string; its first byte counts as nothing seen, for the server too.
            if seen <= base || back > BACK_MAX || self::three(plain, at - back) != Some(three) {
                at += 1;
                continue;
            }
            if !put_literals(plain.get(literals..at).unwrap_or_default(), limit, out) {
                return false;
            }
            let bytes = repeated(plain, at - back, at);
            put_repetition(back, bytes, out);
            at += bytes;
            literals = at;
            // Of a repetition that something follows, the last two places are remembered.
            if at + 2 < plain.len() {
                for at in [at - 2, at - 1] {
                    if let Some(three) = self::three(plain, at) {
                        *self.slot(three) = base + at as u32;
                    }
                }
            }
        }
        put_literals(plain.get(literals..).unwrap_or_default(), limit, out)
    }

    #[cfg(test)]
    pub(super) fn aged(base: u32) -> Self {
        Self { base, ..Self::default() }
    }

    /// The place of the next string: it counts what was packed.
    #[cfg(test)]
    pub(super) fn place(&self) -> u32 {
        self.base
    }

    fn slot(&mut self, three: [u8; 3]) -> &mut u32 {
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        // All numbers of 16 bits are slots.
        &mut self.table[usize::from((number >> 8).wrapping_sub(number.wrapping_mul(5)) as u16)]
    }
}

fn three(plain: &[u8], at: usize) -> Option<[u8; 3]> {
    plain.get(at..)?.first_chunk().copied()
}

/// How many bytes at `at` are those at `from`, of which three are known to be.
fn repeated(plain: &[u8], from: usize, at: usize) -> usize {
    let left = plain.len() - at;
    let most = match left.saturating_sub(2) {
        IN_ONE_FROM..IN_ONE_MAX => IN_ONE_MAX,
        least => least.clamp(3, REPETITION_MAX),
    };
    let (there, here) = (plain.get(from..).unwrap_or_default(), plain.get(at..).unwrap_or_default());
    let same = there.iter().zip(here).take(most).skip(3).take_while(|(there, here)| there == here);
    3 + same.count()
}

fn put_literals(literals: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    for part in literals.chunks(LITERALS_MAX) {
        out.push((part.len() - 1) as u8);
        out.extend_from_slice(part);
    }
    out.len() <= limit
}

fn put_repetition(back: usize, bytes: usize, out: &mut Vec<u8>) {
    let (distance, length) = (back - 1, bytes - 2);
    let upper = (distance >> 8) as u8;
    if length < 7 {
        out.push(((length as u8) << 5) | upper);
    } else {
        out.extend([(7 << 5) | upper, (length - 7) as u8]);
    }
    out.push(distance as u8);
}

/// Unpacks a string into exactly `out`; `None` if it is not such a string.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Option<()> {
    let (mut rest, mut at) = (packed, 0_usize);
    while let Some((&first, more)) = rest.split_first() {
        let literals = usize::from(first) + 1;
        if literals <= LITERALS_MAX {
            let (part, more) = more.split_at_checked(literals)?;
            out.get_mut(at..at + literals)?.copy_from_slice(part);
            (rest, at) = (more, at + literals);
            continue;
        }
        let (longer, more) = if first >> 5 == 7 { more.split_first()? } else { (&0, more) };
        let (&lower, more) = more.split_first()?;
        let bytes = usize::from(first >> 5) + usize::from(*longer) + 2;
        let back = ((usize::from(first) & 0x1f) << 8) + usize::from(lower) + 1;
        let from = at.checked_sub(back)?;
        if at + bytes > out.len() {
            return None;
        }
        if bytes <= back {
            out.copy_within(from..from + bytes, at);
        } else {
            // It repeats what it has just written itself.
            let (before, room) = out.split_at_mut(at);
            let source = before.get(from..).unwrap_or_default();
            room.iter_mut().take(bytes).zip(source.iter().cycle()).for_each(|(to, byte)| *to = *byte);
        }
        (rest, at) = (more, at + bytes);
    }
    (at == out.len()).then_some(())
}
