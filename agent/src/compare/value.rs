//! Whether two values of one type are the same, read in pieces and compared by elements: in their order where they have
//! one, and in any where they have none, whatever their encoding.

use super::resp::{Answer, Text, Want};
use super::side::{Pair, Stopped, Words};
use super::verdict::{WHOLE_BYTES_MAX, window};

/// None: it has a name too long to ask the other side for, or a piece that is too large. A value that changes meanwhile
/// counts as another: it is looked at again.
pub(super) async fn same(pair: &mut Pair, key: &[u8], kind: &str, bytes: u64) -> Result<Option<bool>, Stopped> {
    let length: &[u8] = match kind {
        "string" => b"STRLEN",
        "list" => b"LLEN",
        "set" => b"SCARD",
        "hash" => b"HLEN",
        "zset" => b"ZCARD",
        _ => return Ok(None),
    };
    let (here, there) = pair.ask_one(vec![length, key], Want::Bytes).await?;
    let elements = match (here.number(), there.number()) {
        (Some(here), Some(there)) if here == there => here,
        _ => return Ok(Some(false)),
    };
    match kind {
        "string" => ranges(pair, (b"GETRANGE", key), elements, WHOLE_BYTES_MAX).await.map(Some),
        "list" => ranges(pair, (b"LRANGE", key), elements, window(bytes, elements)).await.map(Some),
        _ => members(pair, key, kind, window(bytes, elements)).await,
    }
}

/// Compares what has an order.
async fn ranges(pair: &mut Pair, (command, key): (&[u8], &[u8]), elements: u64, window: u64) -> Result<bool, Stopped> {
    let mut from = 0u64;
    while from < elements {
        let (first, last) = (from.to_string(), (from + window - 1).to_string());
        let words = vec![command, key, first.as_bytes(), last.as_bytes()];
        let (here, there) = pair.ask_one(words, Want::Digests).await?;
        if here != there || matches!(here, Answer::Error(_) | Answer::Nil) {
            return Ok(false);
        }
        from += window;
    }
    Ok(true)
}

/// Compares what has none. Both have equally many elements: if the other has all that are here, it has no others.
async fn members(pair: &mut Pair, key: &[u8], kind: &str, window: u64) -> Result<Option<bool>, Stopped> {
    let (command, paired): (&[u8], bool) = match kind {
        "set" => (b"SSCAN", false),
        "hash" => (b"HSCAN", true),
        _ => (b"ZSCAN", true),
    };
    let (mut cursor, window) = (b"0".to_vec(), window.to_string());
    loop {
        let words = vec![command, key, &cursor, b"COUNT", window.as_bytes()];
        let (next, elements) = match scanned(pair.here.ask_one(words, Want::Bytes).await?) {
            Scanned::Some { cursor, elements } => (cursor, elements),
            Scanned::TooLong => return Ok(None),
            Scanned::Changed => return Ok(Some(false)),
        };
        let mut elements = elements.into_iter();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        while let Some(element) = elements.next() {
            let Answer::Text(Text { kept: Some(name), .. }) = element else { return Ok(None) };
            names.push(name);
            if paired {
                values.push(elements.next().unwrap_or(Answer::Nil));
            }
        }
        let equal = match kind {
            "set" => has_all(pair, key, &names).await?,
            "hash" => has_fields(pair, key, &names, &values).await?,
            _ => has_scores(pair, key, &names, &values).await?,
        };
        if !equal {
            return Ok(Some(false));
        }
        if next == b"0" {
            return Ok(Some(true));
        }
        cursor = next;
    }
}

async fn has_all(pair: &mut Pair, key: &[u8], names: &[Vec<u8>]) -> Result<bool, Stopped> {
    let commands: Vec<Words> = names.iter().map(|name| vec![&b"SISMEMBER"[..], key, name]).collect();
    Ok(pair.there.ask(&commands, Want::Bytes).await?.iter().all(|answer| *answer == Answer::Number(1)))
}

async fn has_fields(pair: &mut Pair, key: &[u8], names: &[Vec<u8>], values: &[Answer]) -> Result<bool, Stopped> {
    if names.is_empty() {
        return Ok(true);
    }
    let words = [&b"HMGET"[..], key].into_iter().chain(names.iter().map(Vec::as_slice)).collect();
    let answer = pair.there.ask_one(words, Want::Digests).await?;
    Ok(matches!(answer, Answer::List(list) if list == values))
}

/// Versions write the same score in other digits.
async fn has_scores(pair: &mut Pair, key: &[u8], names: &[Vec<u8>], values: &[Answer]) -> Result<bool, Stopped> {
    let commands: Vec<Words> = names.iter().map(|name| vec![&b"ZSCORE"[..], key, name]).collect();
    let answers = pair.there.ask(&commands, Want::Bytes).await?;
    let score = |answer: &Answer| answer.word().and_then(|word| word.parse::<f64>().ok());
    Ok(answers.iter().zip(values).all(|(there, here)| score(there).is_some() && score(there) == score(here)))
}

/// A step of a scan.
pub(super) enum Scanned {
    Some {
        cursor: Vec<u8>,
        elements: Vec<Answer>,
    },
    TooLong,
    /// No such answer: what is scanned is of another type by now.
    Changed,
}

pub(super) fn scanned(answer: Answer) -> Scanned {
    let Answer::List(parts) = answer else { return Scanned::Changed };
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Answer::Text(Text { kept: Some(cursor), .. })), Some(Answer::List(elements))) => {
            Scanned::Some { cursor, elements }
        }
        (_, Some(Answer::TooLong)) => Scanned::TooLong,
        _ => Scanned::Changed,
    }
}
