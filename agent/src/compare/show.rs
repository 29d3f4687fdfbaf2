//! PURE: bytes of others as a terminal may show them.

use std::fmt::Write;

/// Most characters of a key's name that are told, and of a line that a server said.
pub(super) const NAME: usize = 100;
pub(super) const LINE: usize = 300;

/// Letters and digits of any script, and what else is printable in ASCII, as they are; every other byte as `\xHH`. What
/// would be longer than `chars` is cut, and tells how long it is.
pub(super) fn escaped(bytes: &[u8], chars: usize) -> String {
    let mut text = String::new();
    let mut room = chars;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let shown = match c {
                '\\' | '"' => format!("\\{c}"),
                ' '..='~' => c.to_string(),
                c if c.is_alphanumeric() => c.to_string(),
                c => hex(c.encode_utf8(&mut [0; 4]).as_bytes()),
            };
            if !push(&mut text, &mut room, &shown) {
                return cut(text, bytes);
            }
        }
        for byte in chunk.invalid() {
            if !push(&mut text, &mut room, &hex(&[*byte])) {
                return cut(text, bytes);
            }
        }
    }
    text
}

fn push(text: &mut String, room: &mut usize, shown: &str) -> bool {
    match room.checked_sub(shown.chars().count()) {
        Some(left) => {
            *room = left;
            text.push_str(shown);
            true
        }
        None => false,
    }
}

fn cut(text: String, bytes: &[u8]) -> String {
    format!("{text}... ({} bytes)", bytes.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminals_cursor_or_ends_a_quote_is_escaped() {
        for (bytes, shown) in [
            (&b"user:17 {a}"[..], "user:17 {a}"),
            ("käse:東京".as_bytes(), "käse:東京"),
            (b"a\x1b[2Jb\n", "a\\x1b[2Jb\\x0a"),
            (b"say \"\\\"", "say \\\"\\\\\\\""),
            (b"\xff\xc3", "\\xff\\xc3"),
            // Turns what follows around; a line's end of Unicode; a mark on the letter before.
            ("a\u{202e}b\u{2028}".as_bytes(), "a\\xe2\\x80\\xaeb\\xe2\\x80\\xa8"),
            (b"", ""),
        ] {
            assert_eq!(escaped(bytes, NAME), shown);
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_tells_its_length() {
        assert_eq!(escaped(&[b'x'; 100], 100), "x".repeat(100));
        assert_eq!(escaped(&[b'x'; 101], 100), format!("{}... (101 bytes)", "x".repeat(100)));
        assert_eq!(escaped(&[0; 26], 100), format!("{}... (26 bytes)", "\\x00".repeat(25)));
        assert_eq!(escaped(&[0; 1000], 10), "\\x00\\x00... (1000 bytes)");
    }
}
