//! The status table: a group with its verdict, a row for each of its instances, what is wrong, and what to do next.
//!
//! Plain text without colours or borders, so that it can be read in a log, searched and pasted into a ticket. Its first
//! column marks what needs a look. Programs read `--json` instead.

pub mod hosts;
mod issues;
pub mod row;
pub mod sights;

use std::io::{self, Write};

use baton_proto::report::ServerState;
use baton_proto::{HostName, InstanceRef};
use comfy_table::{CellAlignment, Table, presets};

use crate::report::table::row::{Mark, Row, rows};
use crate::report::units::Bytes;
use crate::topology::fed::Fed;
use crate::topology::{Group, Host, Topology, World};

pub use issues::{issues, next};

/// What stands where a value is unknown or makes no sense, so that every row has all its columns.
pub(super) const NONE: &str = "-";

const HEADER: [&str; 11] =
    ["", "NODE", "ADDRESS", "ROLE", "FOLLOWS", "STATE", "LINK", "OFFSET", "LAG", "KEYS", "VERSION"];
/// Columns that hold numbers.
const NUMBERS: [usize; 3] = [7, 8, 9];

/// Writes a group: its name, lineage and verdict, its instances, issues and the next command.
pub fn group(out: &mut dyn Write, group: &Group, topology: &Topology, world: &World) -> io::Result<()> {
    let lineage = group.lineage.as_ref().map_or(NONE, |id| id.short());
    writeln!(out, "group {}  lineage {lineage}  verdict: {}", group.name, group.verdict)?;
    let mut table = plain(HEADER.to_vec());
    for column in NUMBERS {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows(group, world) {
        table.add_row(cells(&row).to_vec());
    }
    print(out, &table)?;
    lines(out, "ISSUES", &issues(group, world))?;
    lines(out, "NEXT", &next(group, topology, world))
}

fn lines(out: &mut dyn Write, title: &str, lines: &[String]) -> io::Result<()> {
    if !lines.is_empty() {
        writeln!(out, "{title}")?;
    }
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// Writes the instances that belong to no group.
pub fn spares(out: &mut dyn Write, spares: &[InstanceRef], world: &World) -> io::Result<()> {
    writeln!(out, "spares")?;
    let mut table = plain(vec!["", "NODE", "ADDRESS", "STATE", "DUMP", "FREE", "VERSION"]);
    for (name, report) in spares.iter().filter_map(|name| Some((name, world.instance(name)?))) {
        let stopped = matches!(report.server, ServerState::Stopped);
        let version = report.server.running().map(|running| running.version).or(report.binary);
        table.add_row(vec![
            if stopped { Mark::Stopped } else { Mark::Fine }.to_string(),
            name.to_string(),
            report.address.to_string(),
            if stopped { "stopped".into() } else { "empty".into() },
            or_none(report.files.dump_bytes.map(Bytes)),
            Bytes(report.files.free_bytes).to_string(),
            or_none(version),
        ]);
    }
    print(out, &table)
}

/// Writes the servers that runs fill by their agents.
pub fn fed(out: &mut dyn Write, fed: &[&Fed], world: &World) -> io::Result<()> {
    writeln!(out, "targets")?;
    let mut table = plain(vec!["", "NODE", "ADDRESS", "RUN", "BEGUN BY", "STATE", "VERSION"]);
    for (fed, report) in fed.iter().filter_map(|fed| Some((fed, world.instance(&fed.instance)?))) {
        table.add_row(vec![
            Mark::Fine.to_string(),
            fed.instance.to_string(),
            report.address.to_string(),
            fed.run.to_string(),
            or_none(report.claim.as_ref().map(|claim| one_line(&claim.by))),
            "fed by its own agent".into(),
            or_none(report.server.running().map(|running| running.version)),
        ]);
    }
    print(out, &table)
}

/// Writes what needs a look beside the groups, if anything does.
pub fn notes(out: &mut dyn Write, notes: &[String]) -> io::Result<()> {
    lines(out, "NOTES", notes)
}

/// Writes the hosts whose agents did not answer, and why.
pub fn unreachable(out: &mut dyn Write, hosts: &[(&HostName, &Host, &str)]) -> io::Result<()> {
    writeln!(out, "unreachable hosts")?;
    let mut table = plain(vec!["", "HOST", "AGENT", "ERROR"]);
    for (name, host, error) in hosts {
        let agent = host.agent.to_string();
        table.add_row(vec![Mark::Unseen.to_string(), name.to_string(), agent, one_line(error)]);
    }
    print(out, &table)
}

fn cells(row: &Row) -> [String; 11] {
    [
        row.mark.to_string(),
        row.node.clone().unwrap_or_else(|| NONE.into()),
        row.address.to_string(),
        row.role.into(),
        row.follows.clone().unwrap_or_else(|| NONE.into()),
        row.state.into(),
        or_none(row.link.as_ref()),
        or_none(row.lineage.as_ref().map(|lineage| lineage.offset)),
        or_none(row.lag.as_ref()),
        or_none(row.keys),
        or_none(row.version),
    ]
}

pub(super) fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.into(), |value| value.to_string())
}

pub(super) fn plain(header: Vec<&str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

pub(super) fn print(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    table.trim_fmt().lines().try_for_each(|line| writeln!(out, "{line}"))
}

/// Makes one line of what a server or an agent said, without control characters: it is printed on a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
