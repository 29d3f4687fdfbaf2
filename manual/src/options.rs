//! A configuration file as a table of options, and what is made of it: a file in which every option stands commented, and a
//! reference in Markdown.

use std::fmt::Write;

/// A configuration file.
#[derive(Debug)]
pub struct File {
    pub name: &'static str,
    pub about: &'static str,
    pub tables: &'static [Table],
}

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// As it is written, such as `[[instance]]`; empty for the top of the file.
    pub header: &'static str,
    pub about: &'static str,
    pub options: &'static [Opt],
}

/// An option.
#[derive(Debug)]
pub struct Opt {
    pub name: &'static str,
    /// What is to be written, in a word or two.
    pub kind: &'static str,
    /// What holds without it; `None`: it must be given.
    pub default: Option<&'static str>,
    /// A value, as TOML.
    pub example: &'static str,
    pub about: &'static str,
}

impl Table {
    /// The names of the options, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.options.iter().map(|option| option.name).collect()
    }
}

/// Longest line of a comment: it fits a terminal of 80 columns.
const LINE_CHARS_MAX: usize = 78;

impl File {
    /// The file with every option in it, each commented out: remove a `#` that stands before no blank to set it.
    pub fn commented(&self) -> String {
        let mut out = String::new();
        comment(&mut out, self.about);
        comment(&mut out, "Remove the `#` right before an option to set it.");
        for table in self.tables {
            out.push('\n');
            comment(&mut out, table.about);
            if !table.header.is_empty() {
                out.push_str(&format!("#{}\n", table.header));
            }
            for option in table.options {
                out.push('\n');
                let default = match option.default {
                    Some(default) => format!("{} Default: {default}.", option.about),
                    None => format!("{} It must be given.", option.about),
                };
                comment(&mut out, &default);
                out.push_str(&format!("#{} = {}\n", option.name, option.example));
            }
        }
        out
    }

    /// The same with every option set to its example, to see that it can be read.
    pub fn set(&self) -> String {
        let set = |line: &str| match line.strip_prefix('#') {
            Some(option) if !option.is_empty() && !option.starts_with(' ') => format!("{option}\n"),
            _ => format!("{line}\n"),
        };
        self.commented().lines().map(set).collect()
    }

    /// The reference: a section of Markdown.
    pub fn reference(&self) -> String {
        let mut out = format!("## `{}`\n\n{}\n", self.name, self.about);
        for table in self.tables {
            let title = if table.header.is_empty() { "At the top".into() } else { format!("`{}`", table.header) };
            let _ = write!(out, "\n### {title}\n\n{}\n\n", table.about);
            out.push_str("| option | value | default | meaning |\n|---|---|---|---|\n");
            for option in table.options {
                let cell = |text: &str| text.replace('|', "\\|");
                let default = option.default.map_or("must be given".into(), cell);
                let (kind, about) = (cell(option.kind), cell(option.about));
                let _ = writeln!(
                    out,
                    "| `{}` | {kind}, as `{}` | {default} | {about} |",
                    option.name,
                    cell(option.example)
                );
            }
        }
        out
    }
}

/// Writes a text as lines of a comment.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: File = File {
        name: "x.toml",
        about: "What it is.",
        tables: &[Table {
            header: "[a]",
            about: "A table.",
            options: &[Opt { name: "b", kind: "a size", default: Some("1|2"), example: "3", about: "Means it." }],
        }],
    };

    #[test]
    fn only_options_have_no_blank_behind_their_sign() {
        let text = FILE.commented();
        let settings: Vec<&str> = text.lines().filter(|l| l.starts_with('#') && !l.starts_with("# ")).collect();
        assert_eq!(settings, ["#[a]", "#b = 3"]);
        assert!(text.contains("# Means it. Default: 1|2.\n"), "{text}");
    }

    #[test]
    fn a_cell_of_the_reference_cannot_end_early() {
        assert!(FILE.reference().contains("| `b` | a size, as `3` | 1\\|2 | Means it. |\n"));
    }
}
