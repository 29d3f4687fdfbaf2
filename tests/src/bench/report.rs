//! What is printed: sections of tables, in Markdown that a terminal shows as well, and BENCHMARKS.md, in which a run
//! replaces the sections that it measured and leaves the others, each with its own date and machine.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::servers::ServerProgram;
use crate::sshd;

/// What one measurement yields.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub title: String,
    /// What was done, before the tables.
    pub text: String,
    pub tables: Vec<Table>,
    /// What went wrong or is to be known, after them.
    pub notes: Vec<String>,
}

/// Rows of cells below a head.
#[derive(Debug, Clone)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|cell| (*cell).to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.head.len()).map(|column| width(column).unwrap_or_default()).collect();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for (cell, width) in row.iter().zip(&widths) {
                // A bar within a cell would end it.
                write!(f, "| {:width$} ", cell.replace('|', "/"))?;
            }
            writeln!(f, "|")
        };
        line(f, &self.head)?;
        widths.iter().try_for_each(|width| write!(f, "|{}", "-".repeat(width + 2)))?;
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.title)?;
        if !self.text.is_empty() {
            writeln!(f, "{}\n", self.text)?;
        }
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))?;
        if self.notes.is_empty() { Ok(()) } else { writeln!(f) }
    }
}

/// A figure with so many digits, or `-`.
pub fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The machine, and what is compared on it, in one line.
pub fn machine(program: &ServerProgram) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let memory = memory.and_then(|kilobytes| kilobytes.parse::<f64>().ok()).map(|kilobytes| kilobytes / 1048576.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let tcp = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    let first_words = |program: &str, words: usize| -> String {
        let output = Command::new(program).arg("--version").output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let line = said.lines().next().unwrap_or_default().to_owned();
        line.split_whitespace().take(words).collect::<Vec<_>>().join(" ")
    };
    let revision = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let revision = revision.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let date = Command::new("date").arg("+%F").output();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "Measured {date} at {revision}: {cores} cores ({}), {} GB of memory, Linux {}, TCP {} unless said otherwise; {}, \
         {}, {}, {}. Both hosts, the link and all programs share these cores.",
        model.map_or("-", |(_, model)| model),
        figure(memory, 0),
        kernel.trim(),
        tcp.trim(),
        program.version,
        sshd::version().unwrap_or_else(|_| "-".to_owned()),
        first_words("rsync", 3),
        // The line of zstd holds its own banner first.
        first_words("zstd", 7).replace("*** ", "").trim_end_matches(',')
    )
}

const HEADER: &str = "# Benchmarks

Written by `tests/bench --write` (see `tests/bench --help`); do not edit by hand. A figure that was not measured is `-`.
Times of peers end when their programs end; Baton's include the handshake, the plan, the verification by hash, CRC and end mark,
and the file synced to disk and placed, which the peers leave out. What the time is spent on, and what was tried where a bar is not
reached: [docs/performance.md](docs/performance.md).

";

/// Puts sections into BENCHMARKS.md, in place of those with the same titles.
pub fn write(path: &Path, sections: &[Section], machine: &str) -> std::io::Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let mut parts: Vec<(String, String)> = old
        .split("\n## ")
        .skip(1)
        .map(|part| (part.lines().next().unwrap_or_default().to_owned(), format!("## {}\n", part.trim_end())))
        .collect();
    for section in sections {
        let text = format!("{}\n{machine}\n", section.to_string().trim_end());
        match parts.iter_mut().find(|(title, _)| *title == section.title) {
            Some((_, part)) => *part = text,
            None => parts.push((section.title.clone(), text)),
        }
    }
    let mut all = HEADER.to_owned();
    for (_, part) in parts {
        // Writing to a string does not fail.
        let _ = writeln!(all, "{part}");
    }
    fs::write(path, format!("{}\n", all.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_replaces_its_own_sections_and_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("BENCHMARKS.md");
        let section = |title: &str, text: &str| {
            let mut table = Table::new(&["a", "b"]);
            table.row([text.to_owned(), figure(None, 1)]);
            Section { title: title.to_owned(), text: text.to_owned(), tables: vec![table], notes: vec![] }
        };
        write(&path, &[section("One", "first"), section("Two", "second")], "machine").unwrap();
        write(&path, &[section("One", "third")], "machine").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Benchmarks\n"));
        assert_eq!(text.matches("\n## ").count(), 2, "{text}");
        assert!(text.contains("third") && text.contains("second") && !text.contains("first"), "{text}");
        assert!(text.contains("| third | - |"), "{text}");
    }
}
