//! Durations, sizes and counts as people read them. Sizes are decimal, as networks and disks are sold.

use std::fmt;

/// Seconds as `12s`, `3m12s`, `2h05m`, `4d03h`: two units, so that the width stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, seconds) = (self.0 / 60, self.0 % 60);
        let (hours, days) = (minutes / 60, minutes / 60 / 24);
        f.pad(&match () {
            () if days > 0 => format!("{days}d{:02}h", hours % 24),
            () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
            () if minutes > 0 => format!("{minutes}m{seconds:02}s"),
            () => format!("{seconds}s"),
        })
    }
}

/// Measured seconds: `45 ms`, `1.4s`, `38.2s`, then as [`Span`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds(pub f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0);
        f.pad(&match seconds {
            s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
            s if s < 59.95 => format!("{s:.1}s"),
            // Saturates, and a NaN was made 0 above.
            s => Span(s.round() as u64).to_string(),
        })
    }
}

/// A size: `0 B`, `999 B`, `1.0 kB`, `525.4 MB`, `9.1 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

const SCALE: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in SCALE {
            // 999.95 would be shown as 1000.0 of the smaller unit.
            if value < 999.95 && unit != "B" {
                break;
            }
            value /= 1000.0;
            unit = next;
        }
        f.pad(&format!("{value:.1} {unit}"))
    }
}

/// Bytes in a second: `112.5 MB/s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Saturates; a rate that is not a number is shown as none.
        f.pad(&format!("{}/s", Bytes(self.0 as u64)))
    }
}

/// A count with its digits in groups of three: `2 104 331`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(' ');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_take_two_units() {
        let shown = |seconds: u64| Span(seconds).to_string();
        assert_eq!([0, 12, 59, 60, 192].map(shown), ["0s", "12s", "59s", "1m00s", "3m12s"]);
        assert_eq!([3600, 7500, 86_399, 86_400, 356_400].map(shown), ["1h00m", "2h05m", "23h59m", "1d00h", "4d03h"]);
        assert_eq!(shown(u64::MAX), "213503982334601d07h");
    }

    #[test]
    fn measured_seconds_keep_the_digits_that_matter() {
        let shown = |seconds: f64| Seconds(seconds).to_string();
        assert_eq!([0.0, 0.045, 0.9996, 1.44, 38.2].map(shown), ["0 ms", "45 ms", "1.0s", "1.4s", "38.2s"]);
        assert_eq!([59.96, 192.4].map(shown), ["1m00s", "3m12s"]);
        assert_eq!([-1.0, f64::NAN].map(shown), ["0 ms", "0 ms"]);
    }

    #[test]
    fn sizes_are_decimal_and_never_show_a_thousand() {
        let shown = |bytes: u64| Bytes(bytes).to_string();
        assert_eq!([0, 1, 999, 1000, 1049].map(shown), ["0 B", "1 B", "999 B", "1.0 kB", "1.0 kB"]);
        assert_eq!(
            [999_949, 999_950, 525_400_000, 9_100_000_000].map(shown),
            ["999.9 kB", "1.0 MB", "525.4 MB", "9.1 GB"]
        );
        assert_eq!(shown(u64::MAX), "18.4 EB");
        assert_eq!([112_500_000.0, -1.0, f64::NAN].map(|r| Rate(r).to_string()), ["112.5 MB/s", "0 B/s", "0 B/s"]);
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 2_104_331].map(|n| Count(n).to_string()), ["0", "999", "1 000", "2 104 331"]);
    }

    #[test]
    fn all_of_them_can_be_aligned() {
        assert_eq!(format!("[{:>8}][{:<8}][{:>6}]", Bytes(5), Span(5), Count(5)), "[     5 B][5s      ][     5]");
    }
}
