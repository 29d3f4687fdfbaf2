//! A terminal that is painted over: no more lines than it has, so that nothing scrolls away.

use std::io::{self, Write};

use tokio::signal::unix::Signal;

/// Moves to the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line, and all below.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Rows and columns.
pub(super) type Size = (usize, usize);

/// The terminal's size, if it tells.
pub(super) fn size() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row.into(), size.ws_col.into()))
}

/// Waits until it has another size.
pub(super) async fn resized(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Paints over what is there, without a moment in which the screen is empty.
pub(super) fn paint(out: &mut dyn Write, head: &str, text: &str, size: Option<Size>) -> io::Result<()> {
    write!(out, "{HOME}")?;
    let all = format!("{head}\n\n{text}");
    for line in fitting(&all, size) {
        write!(out, "{line}{CLEAR_LINE}\r\n")?;
    }
    write!(out, "{CLEAR_BELOW}")
}

/// Paints a screen that has been cleared: what a terminal makes of its old lines at another width is its own matter.
pub(super) fn paint_anew(out: &mut dyn Write, head: &str, text: &str, size: Option<Size>) -> io::Result<()> {
    write!(out, "{HOME}{CLEAR_BELOW}")?;
    paint(out, head, text, size)
}

/// The lines that have room, with those that are broken counted as often as they take a row; then how many have none.
fn fitting(text: &str, size: Option<Size>) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let whole = || lines.iter().map(|line| (*line).to_owned()).collect();
    let Some((rows, columns)) = size else { return whole() };
    let takes = |line: &str| line.chars().count().div_ceil(columns).max(1);
    // The cursor stands in the row below the last line.
    let room = rows.saturating_sub(1);
    if lines.iter().map(|line| takes(line)).sum::<usize>() <= room {
        return whole();
    }
    let mut left = room.saturating_sub(1);
    let mut fitting = Vec::new();
    for line in &lines {
        match left.checked_sub(takes(line)) {
            Some(rest) => left = rest,
            None => break,
        }
        fitting.push((*line).to_owned());
    }
    let more = lines.len().saturating_sub(fitting.len());
    fitting.push(format!("... and {more} more lines: `coord status GROUP` shows one group"));
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_scrolls_away() {
        let text = "one\ntwo\nthree is longer\nfour\n";
        assert_eq!(fitting(text, Some((5, 80))).len(), 4);
        assert_eq!(fitting(text, None).len(), 4);
        let short = fitting(text, Some((4, 80)));
        assert_eq!(short[..2], ["one", "two"]);
        assert!(short[2].starts_with("... and 2 more lines"), "{short:?}");
        // The third line takes two rows.
        assert_eq!(fitting(text, Some((5, 8)))[..2], ["one", "two"]);
        assert!(fitting(text, Some((1, 1))).len() == 1);
    }

    #[test]
    fn each_line_clears_what_stood_there() {
        let mut out = Vec::new();
        paint(&mut out, "head", "one\n", Some((24, 80))).unwrap();
        let painted = String::from_utf8(out).unwrap();
        assert_eq!(painted, "\x1b[Hhead\x1b[K\r\n\x1b[K\r\none\x1b[K\r\n\x1b[J");
    }
}
