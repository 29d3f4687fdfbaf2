//! PURE: one line into words, as the server splits it (`sdssplitargs`).
//!
//! Double quotes know `\n \r \t \b \a \xHH` and take any other escaped character as it is; single quotes know `\'` only.
//! A quote may open inside a word; behind the closing one the word must end.

/// Splits a line. None: a quote is not closed, or text follows a closing quote.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.as_bytes();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let (word, after) = word(rest)?;
        // The server's words are bytes. Text is enough here: what the server writes itself escapes other bytes, and
        // they make up UTF-8 again where they did before.
        words.push(String::from_utf8_lossy(&word).into_owned());
        rest = after;
    }
}

fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => break,
            b'"' => return double(word, after),
            b'\'' => return single(word, after),
            _ => word.push(byte),
        }
        rest = after;
    }
    Some((word, rest))
}

fn double(mut word: Vec<u8>, mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    loop {
        if let [b'\\', b'x', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (nibble(*high), nibble(*low))
        {
            word.push((high << 4) | low);
            rest = after;
            continue;
        }
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return ended(word, after),
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

fn single(mut word: Vec<u8>, mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return ended(word, after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

fn ended(word: Vec<u8>, after: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    after.first().is_none_or(u8::is_ascii_whitespace).then_some((word, after))
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_the_server_splits_them() {
        let cases: [(&str, Option<&[&str]>); 12] = [
            ("", Some(&[])),
            ("  port\t6379 \r", Some(&["port", "6379"])),
            (r#"requirepass "a b\"c""#, Some(&["requirepass", "a b\"c"])),
            (r#"requirepass "\x41\xc3\xa4\n\q\\""#, Some(&["requirepass", "Aä\nq\\"])),
            (r#"requirepass "\xzz""#, Some(&["requirepass", "xzz"])),
            (r"user 'it\'s' 'a\n'", Some(&["user", "it's", r"a\n"])),
            (r#"save """#, Some(&["save", ""])),
            (r#"dir foo"bar baz""#, Some(&["dir", "foobar baz"])),
            (r#"dir "open"#, None),
            (r#"dir "open\""#, None),
            (r#"dir "a"b"#, None),
            (r"dir 'a'b", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(split(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[\\PC\"'\\\\x\\x00-\\x20]{0,60}") {
            let _ = split(&line);
        }

        #[test]
        fn a_quoted_word_comes_back(word in "\\PC{0,40}") {
            let quoted = format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(split(&quoted), Some(vec![word]));
        }
    }
}
