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
/// Of so many bytes that are left for a repetition, the server compares [`IN_ONE_MAX`] without looking whether they are as
/// many.
const IN_ONE: std::ops::Range<usize> = 17..IN_ONE_MAX;
const IN_ONE_MAX: usize = 19;
/// Most that a packed byte stands for: a longest repetition has three.
pub(super) const EXPANSION_MAX: usize = REPETITION_MAX / 3;
/// A short copy is made of this many bytes, if there is room: what is too much is written over.
const BLOCK: usize = 16;

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

/// A part of a packed string.
enum Part<'a> {
    Literals(&'a [u8]),
    Repetition { back: usize, bytes: usize },
}

impl Lzf {
    /// Packs a string as the server does. False if that takes more than `limit` bytes.
    pub(super) fn pack(&mut self, plain: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(base) = self.begin(plain) else { return false };
        let (mut at, mut literals) = (0, 0);
        while let Some(three) = three(plain, at) {
            let Some(back) = self.look(base, plain, at, three) else {
                at += 1;
                continue;
            };
            if !put_literals(plain.get(literals..at).unwrap_or_default(), limit, out) {
                return false;
            }
            let bytes = repeated(plain, at - back, at);
            put_repetition(back, bytes, out);
            at += bytes;
            self.pass(base, plain, at);
            literals = at;
        }
        put_literals(plain.get(literals..).unwrap_or_default(), limit, out)
    }

    /// Whether a string that unpacks to `plain` is what [`Lzf::pack`] makes of it. Quicker than to pack it: it is known
    /// what is to be found where.
    pub(super) fn makes(&mut self, packed: &[u8], plain: &[u8]) -> bool {
        let Some(base) = self.begin(plain) else { return false };
        let (mut rest, mut at, mut full) = (packed, 0, true);
        while let Some(part) = take_part(&mut rest) {
            match part {
                Part::Literals(literals) => {
                    let end = at + literals.len();
                    // Only full parts are followed by literal bytes.
                    if !std::mem::replace(&mut full, literals.len() == LITERALS_MAX) {
                        return false;
                    }
                    while at < end {
                        if let Some(three) = three(plain, at)
                            && self.look(base, plain, at, three).is_some()
                        {
                            return false;
                        }
                        at += 1;
                    }
                }
                Part::Repetition { back, bytes } => {
                    let found = three(plain, at).and_then(|three| self.look(base, plain, at, three));
                    if found != Some(back) || repeated(plain, at - back, at) != bytes {
                        return false;
                    }
                    at += bytes;
                    self.pass(base, plain, at);
                    full = true;
                }
            }
        }
        at == plain.len() && rest.is_empty()
    }

    /// The place of a string's first byte.
    fn begin(&mut self, plain: &[u8]) -> Option<u32> {
        let length = u32::try_from(plain.len()).ok()?;
        if self.base.checked_add(length).is_none() {
            self.table.fill(0);
            self.base = 0;
        }
        let base = self.base;
        self.base += length;
        Some(base)
    }

    /// How far back these three bytes of `at` were last seen; they are remembered.
    #[inline]
    fn look(&mut self, base: u32, plain: &[u8], at: usize, here: [u8; 3]) -> Option<usize> {
        let place = base + at as u32;
        let seen = std::mem::replace(self.slot(here), place);
        let back = (place - seen) as usize;
        // What was seen in this string; its first byte counts as nothing seen, for the server too.
        (seen > base && back <= BACK_MAX && three(plain, at - back) == Some(here)).then_some(back)
    }

    /// Of a repetition that something follows, the last two places are remembered.
    #[inline]
    fn pass(&mut self, base: u32, plain: &[u8], end: usize) {
        if let Some([a, b, c, d]) =
            plain.get(end - 2..).filter(|rest| rest.len() > 4).and_then(|rest| rest.first_chunk())
        {
            *self.slot([*a, *b, *c]) = base + end as u32 - 2;
            *self.slot([*b, *c, *d]) = base + end as u32 - 1;
        }
    }

    #[inline]
    fn slot(&mut self, three: [u8; 3]) -> &mut u32 {
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        // All numbers of 16 bits are slots.
        &mut self.table[usize::from((number >> 8).wrapping_sub(number.wrapping_mul(5)) as u16)]
    }

    #[cfg(test)]
    pub(super) fn aged(base: u32) -> Self {
        Self { base, ..Self::default() }
    }

    /// The place of the next string: it counts what was gone through.
    #[cfg(test)]
    pub(super) fn place(&self) -> u32 {
        self.base
    }
}

#[inline]
fn three(plain: &[u8], at: usize) -> Option<[u8; 3]> {
    plain.get(at..)?.first_chunk().copied()
}

/// How many bytes at `at` are those at `from`, of which three are known to be.
#[inline]
fn repeated(plain: &[u8], from: usize, at: usize) -> usize {
    let (there, here) = (plain.get(from..).unwrap_or_default(), plain.get(at..).unwrap_or_default());
    let most = match here.len().saturating_sub(2) {
        left if IN_ONE.contains(&left) => IN_ONE_MAX,
        left => left.clamp(3, REPETITION_MAX),
    };
    let mut same = 3;
    while same + 8 <= most
        && let (Some(a), Some(b)) =
            (there.get(same..).and_then(<[u8]>::first_chunk), here.get(same..).and_then(<[u8]>::first_chunk))
    {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return same + differ.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    while same < most && there.get(same) == here.get(same) {
        same += 1;
    }
    same
}

#[inline]
fn put_literals(literals: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    for part in literals.chunks(LITERALS_MAX) {
        out.push((part.len() - 1) as u8);
        out.extend_from_slice(part);
    }
    out.len() <= limit
}

#[inline]
fn put_repetition(back: usize, bytes: usize, out: &mut Vec<u8>) {
    let (distance, length) = (back - 1, bytes - 2);
    let (upper, lower) = ((distance >> 8) as u8, distance as u8);
    if length < 7 {
        out.extend_from_slice(&[((length as u8) << 5) | upper, lower]);
    } else {
        out.extend_from_slice(&[(7 << 5) | upper, (length - 7) as u8, lower]);
    }
}

#[inline]
fn take_part<'a>(rest: &mut &'a [u8]) -> Option<Part<'a>> {
    let first = usize::from(*rest.split_off_first()?);
    if first < LITERALS_MAX {
        return rest.split_off(..=first).map(Part::Literals);
    }
    let longer = if first >> 5 == 7 { usize::from(*rest.split_off_first()?) } else { 0 };
    let lower = usize::from(*rest.split_off_first()?);
    Some(Part::Repetition { back: ((first & 0x1f) << 8) + lower + 1, bytes: (first >> 5) + longer + 2 })
}

/// Unpacks a string into exactly `out`. If it is not such a string: how many bytes were made before that was seen.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<(), usize> {
    let (mut rest, mut at) = (packed, 0_usize);
    while !rest.is_empty() {
        let bytes = take_part(&mut rest).and_then(|part| make(part, out, at)).ok_or(at)?;
        at += bytes;
    }
    if at == out.len() { Ok(()) } else { Err(at) }
}

#[inline]
fn make(part: Part<'_>, out: &mut [u8], at: usize) -> Option<usize> {
    let left = out.len() - at;
    match part {
        Part::Literals(literals) => {
            out.get_mut(at..at + literals.len())?.copy_from_slice(literals);
            Some(literals.len())
        }
        Part::Repetition { back, bytes } => {
            let from = at.checked_sub(back)?;
            if bytes > left {
                return None;
            }
            if bytes <= BLOCK && back >= BLOCK && left >= BLOCK {
                let block: [u8; BLOCK] = *out.get(from..)?.first_chunk()?;
                *out.get_mut(at..)?.first_chunk_mut()? = block;
            } else if bytes <= back {
                out.copy_within(from..from + bytes, at);
            } else {
                // It repeats what it has just written itself.
                let (before, room) = out.split_at_mut(at);
                let source = before.get(from..).unwrap_or_default();
                room.iter_mut().take(bytes).zip(source.iter().cycle()).for_each(|(to, byte)| *to = *byte);
            }
            Some(bytes)
        }
    }
}
