//! PURE: a line of the log, as text or as JSON.
//!
//! What peers, servers and file names say stands in lines as well, so nothing in a text line can end it, or move a cursor.

use std::fmt::{Debug, Write};
use std::time::SystemTime;

use serde_json::Value;
use tracing::Level;
use tracing::field::{Field, Visit};

/// The name that a line's words have among its fields.
const MESSAGE: &str = "message";
/// What a line of JSON has of its own.
const RESERVED: [&str; 4] = ["time", "level", "target", MESSAGE];

/// What stands before a line of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// When it was written, and how much it matters.
    Time,
    /// The journal knows when; how much it matters it reads off a prefix: sd-daemon(3).
    Journal,
}

/// What an event or a span tells, by name.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Told)>);

#[derive(Debug, Clone, PartialEq)]
enum Told {
    /// A number or a yes or no.
    Plain(Value),
    /// A text, which is shown in quotes.
    Quoted(String),
    /// Something that shows itself.
    Shown(String),
}

impl Fields {
    /// Takes in what a surrounding span tells; the inner word stands.
    pub(super) fn inherit(&mut self, outer: &Fields) {
        for (name, told) in &outer.0 {
            if !self.0.iter().any(|(known, _)| known == name) {
                self.0.push((name, told.clone()));
            }
        }
    }

    fn message(&self) -> &str {
        let told = self.0.iter().find(|(name, _)| *name == MESSAGE).map(|(_, told)| told);
        match told {
            Some(Told::Quoted(text) | Told::Shown(text)) => text,
            Some(Told::Plain(_)) | None => "",
        }
    }

    fn others(&self) -> impl Iterator<Item = (&'static str, &Told)> {
        self.0.iter().filter(|(name, _)| *name != MESSAGE).map(|(name, told)| (*name, told))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), Told::Shown(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), Told::Quoted(value.to_owned())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), Told::Plain(value.into())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), Told::Plain(value.into())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), Told::Plain(value.into())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), Told::Plain(value.into())));
    }
}

/// What a line is made of.
pub(super) struct Line<'a> {
    pub(super) time: SystemTime,
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) fields: Fields,
}

impl Line<'_> {
    /// `2026-01-01T00:00:00.000Z  WARN baton_agent::serve: words name=value`; with `<4>` instead of time and level for the
    /// journal.
    pub(super) fn text(&self, stamp: Stamp) -> String {
        let mut text = match stamp {
            Stamp::Time => format!("{} {:>5} ", humantime::format_rfc3339_millis(self.time), self.level),
            Stamp::Journal => format!("<{}>", priority(self.level)),
        };
        let _ = write!(text, "{}: {}", self.target, Visible(self.fields.message()));
        for (name, told) in self.fields.others() {
            let _ = match told {
                Told::Plain(value) => write!(text, " {name}={value}"),
                Told::Quoted(value) => write!(text, " {name}={value:?}"),
                Told::Shown(value) => write!(text, " {name}={}", Visible(value)),
            };
        }
        text
    }

    /// `{"time":..,"level":"warn","target":..,"message":..,NAME:..}`. The journal has a time of its own.
    pub(super) fn json(&self, stamp: Stamp) -> String {
        let time = (stamp == Stamp::Time).then(|| humantime::format_rfc3339_millis(self.time).to_string());
        let level = self.level.as_str().to_ascii_lowercase();
        let own = [("level", level.as_str()), ("target", self.target), (MESSAGE, self.fields.message())];
        let own = time.as_deref().map(|time| ("time", time)).into_iter().chain(own);
        let mut members: Vec<String> = own.map(|(name, text)| member(name, &Value::from(text))).collect();
        members.extend(self.fields.others().map(|(name, told)| {
            let value = match told {
                Told::Plain(value) => value.clone(),
                Told::Quoted(text) | Told::Shown(text) => Value::from(text.as_str()),
            };
            // Twice the same name is read in different ways.
            if RESERVED.contains(&name) { member(&format!("{name}_"), &value) } else { member(name, &value) }
        }));
        format!("{{{}}}", members.join(","))
    }
}

fn member(name: &str, value: &Value) -> String {
    format!("{}:{value}", Value::from(name))
}

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// A text with its control characters spelled out.
struct Visible<'a>(&'a str);

impl std::fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(message: &str, fields: &[(&'static str, Told)]) -> Line<'static> {
        let told = std::iter::once((MESSAGE, Told::Shown(message.to_owned())));
        let fields = Fields(told.chain(fields.iter().cloned()).collect());
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_250);
        Line { time, level: Level::WARN, target: "baton_agent::serve", fields }
    }

    #[test]
    fn a_line_says_when_how_much_it_matters_what_and_the_rest_by_name() {
        let fields = [
            ("run", Told::Shown("fo-1".into())),
            ("by", Told::Quoted("bob".into())),
            ("bytes", Told::Plain(7.into())),
            ("level", Told::Shown("Zstd(3)".into())),
        ];
        let line = line("claimed", &fields);
        assert_eq!(
            line.text(Stamp::Time),
            "2026-01-01T00:00:00.250Z  WARN baton_agent::serve: claimed run=fo-1 by=\"bob\" bytes=7 level=Zstd(3)"
        );
        assert_eq!(
            line.text(Stamp::Journal),
            "<4>baton_agent::serve: claimed run=fo-1 by=\"bob\" bytes=7 level=Zstd(3)"
        );
        let json = r#""level":"warn","target":"baton_agent::serve","message":"claimed","run":"fo-1","by":"bob","bytes":7,"level_":"Zstd(3)"}"#;
        assert_eq!(line.json(Stamp::Journal), format!("{{{json}"));
        assert_eq!(line.json(Stamp::Time), format!("{{\"time\":\"2026-01-01T00:00:00.250Z\",{json}"));
    }

    #[test]
    fn nothing_that_is_said_ends_a_line_or_moves_the_cursor() {
        let evil = "x\n<0>baton_agent: all is lost\u{1b}[2J";
        let line = line(evil, &[("by", Told::Quoted(evil.into())), ("of", Told::Shown(evil.into()))]);
        for text in [line.text(Stamp::Journal), line.text(Stamp::Time), line.json(Stamp::Time)] {
            assert!(!text.chars().any(char::is_control), "{text}");
        }
        let read: Value = serde_json::from_str(&line.json(Stamp::Time)).unwrap();
        assert_eq!((&read["message"], &read["by"], &read["of"]), (&evil.into(), &evil.into(), &evil.into()));
    }

    #[test]
    fn the_inner_word_stands() {
        let fields = |fields: &[(&'static str, &str)]| {
            Fields(fields.iter().map(|(name, text)| (*name, Told::Shown((*text).to_owned()))).collect())
        };
        let mut inner = fields(&[("run", "fo-2")]);
        inner.inherit(&fields(&[("run", "fo-1"), ("task", "stop")]));
        assert_eq!(inner.0, fields(&[("run", "fo-2"), ("task", "stop")]).0);
    }
}
