//! The way through both servers: database by database, batch by batch.

use super::resp::{Answer, Text, Want};
use super::side::{Pair, Side, Stopped, Words};
use super::tally::Tallies;
use super::value::{self, Scanned, scanned};
use super::verdict::{self, Both, Reading, Sight, Verdict, WINDOW};

/// Compares everything. `show` is told how far it is.
pub(super) async fn survey(
    pair: &mut Pair,
    tallies: &mut Tallies,
    mut show: impl FnMut(u32, u64),
) -> Result<(), Stopped> {
    for db in pair.databases().await? {
        baton_hold::at(|| format!("compare-database-{db}")).await;
        pair.select(db).await?;
        tallies.enter(db);
        let mut cursor = Some(b"0".to_vec());
        while let Some(at) = cursor {
            let batch = Batch::scan(&mut pair.here, &at).await?;
            let verdicts = settle(pair, &batch.keys).await?;
            tallies.saw_here(batch.keys.len() + batch.nameless);
            tallies.unread(batch.nameless);
            for (key, verdict) in batch.keys.iter().zip(verdicts) {
                // What has gone here and is still there is found from there.
                if verdict != Verdict::OnlyThere {
                    tallies.count(key, verdict);
                }
            }
            cursor = batch.next;
            show(db, tallies.seen());
        }
        let mut cursor = Some(b"0".to_vec());
        while let Some(at) = cursor {
            let batch = Batch::scan(&mut pair.there, &at).await?;
            let absent = absent(&mut pair.here, &batch.keys).await?;
            // The second look, at both.
            let verdicts = judge(pair, &absent).await?;
            tallies.saw_there(batch.keys.len() + batch.nameless);
            for (key, verdict) in absent.iter().zip(verdicts) {
                if verdict == Verdict::OnlyThere {
                    tallies.count(key, verdict);
                }
            }
            cursor = batch.next;
            show(db, tallies.seen());
        }
    }
    Ok(())
}

struct Batch {
    keys: Vec<Vec<u8>>,
    /// Keys whose names are too long to be kept.
    nameless: usize,
    /// Where it goes on.
    next: Option<Vec<u8>>,
}

impl Batch {
    async fn scan(side: &mut Side, cursor: &[u8]) -> Result<Batch, Stopped> {
        let window = WINDOW.to_string();
        let answer = side.ask_one(vec![b"SCAN", cursor, b"COUNT", window.as_bytes()], Want::Bytes).await?;
        let Scanned::Some { cursor, elements } = scanned(answer) else {
            return Err(Stopped("the answer to SCAN is not understood".to_owned()));
        };
        let told = elements.len();
        let kept = |element| match element {
            Answer::Text(Text { kept, .. }) => kept,
            _ => None,
        };
        let keys: Vec<_> = elements.into_iter().filter_map(kept).collect();
        let nameless = told.saturating_sub(keys.len());
        Ok(Batch { keys, nameless, next: (cursor != b"0").then_some(cursor) })
    }
}

/// The keys that this side has not.
async fn absent(side: &mut Side, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Stopped> {
    let commands: Vec<Words> = keys.iter().map(|key| vec![&b"TYPE"[..], key]).collect();
    let answers = side.ask(&commands, Want::Bytes).await?;
    let absent = keys.iter().zip(answers).filter(|(_, answer)| answer.word() == Some("none"));
    Ok(absent.map(|(key, _)| key.clone()).collect())
}

/// Judges keys, and those that seem to differ once more: the other side serves writes, and times to live run out.
async fn settle(pair: &mut Pair, keys: &[Vec<u8>]) -> Result<Vec<Verdict>, Stopped> {
    let mut verdicts = judge(pair, keys).await?;
    let (places, again): (Vec<usize>, Vec<Vec<u8>>) = keys
        .iter()
        .enumerate()
        .filter(|(at, _)| verdicts.get(*at).is_some_and(Verdict::is_doubtful))
        .map(|(at, key)| (at, key.clone()))
        .unzip();
    for (at, verdict) in places.into_iter().zip(judge(pair, &again).await?) {
        if let Some(first) = verdicts.get_mut(at) {
            *first = verdict;
        }
    }
    Ok(verdicts)
}

/// A key whose values are to be read.
struct Open<'a> {
    at: usize,
    key: &'a [u8],
    kind: &'a str,
    reading: Reading,
    bytes: u64,
}

/// Looks at keys on both sides, once.
async fn judge(pair: &mut Pair, keys: &[Vec<u8>]) -> Result<Vec<Verdict>, Stopped> {
    let sights = sights(pair, keys).await?;
    let mut verdicts = Vec::with_capacity(keys.len());
    let mut open = Vec::new();
    for (at, (key, (here, there))) in keys.iter().zip(&sights).enumerate() {
        verdicts.push(match verdict::both(here, there) {
            Both::Settled(verdict) => verdict,
            Both::Read(reading) => {
                let kind = here.kind.as_deref().unwrap_or_default();
                open.push(Open { at, key, kind, reading, bytes: here.bytes.max(there.bytes) });
                Verdict::Unread
            }
        });
    }
    let mut tell = |at: usize, verdict| {
        if let Some(place) = verdicts.get_mut(at) {
            *place = verdict;
        }
    };
    let (by_elements, at_once): (Vec<_>, Vec<_>) = open.into_iter().partition(|key| key.reading == Reading::Elements);
    let (strings, forms): (Vec<_>, Vec<_>) = at_once.into_iter().partition(|key| key.reading == Reading::Whole);
    for (key, verdict) in read(pair, b"GET", Want::Digests, strings).await? {
        tell(key.at, verdict);
    }
    let mut unlike = by_elements;
    for (key, verdict) in read(pair, b"DUMP", Want::Forms, forms).await? {
        match (&verdict, key.reading) {
            (Verdict::Differs { .. }, Reading::Form) => unlike.push(key),
            (Verdict::Differs { types, .. }, _) => {
                tell(key.at, Verdict::Differs { types: types.clone(), by_form: true });
            }
            _ => tell(key.at, verdict),
        }
    }
    for key in unlike {
        let same = value::same(pair, key.key, key.kind, key.bytes).await?;
        tell(key.at, same.map_or(Verdict::Unread, Verdict::of));
    }
    Ok(verdicts)
}

/// What both say of keys. Each key's type and size are asked for one right after the other.
async fn sights(pair: &mut Pair, keys: &[Vec<u8>]) -> Result<Vec<(Sight, Sight)>, Stopped> {
    let commands: Vec<Words> =
        keys.iter().flat_map(|key| [vec![&b"TYPE"[..], key], vec![&b"MEMORY"[..], b"USAGE", key]]).collect();
    let (here, there): (Vec<_>, Vec<_>) = pair.ask(&commands, Want::Bytes).await?.unzip();
    Ok(here.chunks(2).map(sight).zip(there.chunks(2).map(sight)).collect())
}

fn sight(answers: &[Answer]) -> Sight {
    let kind = answers.first().and_then(Answer::word).filter(|kind| *kind != "none");
    Sight { kind: kind.map(str::to_owned), bytes: answers.get(1).and_then(Answer::number).unwrap_or(0) }
}

/// Reads values of both sides in portions, and compares them as they are.
async fn read<'a>(
    pair: &mut Pair,
    command: &[u8],
    want: Want,
    keys: Vec<Open<'a>>,
) -> Result<Vec<(Open<'a>, Verdict)>, Stopped> {
    let mut verdicts = Vec::with_capacity(keys.len());
    for portion in verdict::portions(keys.iter().map(|key| key.bytes)) {
        let keys = keys.get(portion).unwrap_or_default();
        let commands: Vec<Words> = keys.iter().map(|key| vec![command, key.key]).collect();
        verdicts.extend(pair.ask(&commands, want).await?.map(|answers| match answers {
            (Answer::Nil, Answer::Nil) => Verdict::Absent,
            (_, Answer::Nil) => Verdict::OnlyHere,
            (Answer::Nil, _) => Verdict::OnlyThere,
            (here, there) => Verdict::of(here == there),
        }));
    }
    Ok(keys.into_iter().zip(verdicts).collect())
}
