//! Who sees whom: which agent answers which other, and what everyone saw of a primary that is in doubt. The short proof
//! against "it is only my network".

use std::io::{self, Write};

use baton_proto::HostName;

use super::{one_line, plain, print};
use crate::topology::death::inquest;
use crate::topology::stand::Seen;
use crate::topology::{Door, Group, HostView, World};

/// Writes the matrix of the agents: a row for each that looks, a column for each that is looked at.
pub fn agents(out: &mut dyn Write, world: &World) -> io::Result<()> {
    writeln!(out, "who sees whose agent   (* answers, x does not, ? not tried)")?;
    let hosts: Vec<&HostName> = world.hosts.keys().collect();
    let mut table = plain([""].into_iter().chain(hosts.iter().map(|host| host.as_str())).collect());
    let coord = world.hosts.values().map(|host| match host.view {
        HostView::Answered { .. } => "*",
        HostView::Unreachable { .. } => "x",
    });
    table.add_row(["coord"].into_iter().chain(coord).collect::<Vec<_>>());
    for from in hosts.iter().filter(|host| world.report(host).is_some()) {
        let row = hosts.iter().map(|to| if from == to { "-" } else { mark(world, from, to) });
        table.add_row([from.as_str()].into_iter().chain(row).collect::<Vec<_>>());
    }
    print(out, &table)
}

fn mark(world: &World, from: &HostName, to: &HostName) -> &'static str {
    match world.knocks.iter().find(|knock| knock.from == *from && knock.to == *to).map(|knock| &knock.door) {
        Some(Door::Open) => "*",
        Some(Door::Shut(_)) => "x",
        Some(Door::Untried(_)) | None => "?",
    }
}

/// Writes what everyone saw of a group's primary, and what to give to act only on that.
pub fn primary(out: &mut dyn Write, group: &Group, world: &World) -> io::Result<()> {
    let heard = inquest(group, world);
    writeln!(out, "SEEN  primary {} at {}: {}", group.name, group.primary.address, heard.death)?;
    heard.testimony.iter().try_for_each(|line| writeln!(out, "  {}", one_line(line)))?;
    writeln!(out, "EXPECT  {}", expect(group).join(" "))
}

/// Options that refuse to act on a group which has changed since.
fn expect(group: &Group) -> Vec<String> {
    let lineage = group.stand().map(|stand| format!("--expect-lineage {}", Seen::of(&stand)));
    [format!("--expect-primary {}", group.primary.address)].into_iter().chain(lineage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixture::{host, lost_primary};
    use crate::topology::{Knock, Topology};

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_matrix_has_a_row_for_all_who_look_and_a_column_for_all_who_are_looked_at() {
        let mut world = lost_primary();
        let knock = |from, to, door| Knock { from: host(from), to: host(to), door };
        world.knocks = vec![
            knock("machine-b", "machine-a", Door::Shut("nobody".into())),
            knock("machine-b", "machine-c", Door::Open),
        ];
        let text = written(|out| agents(out, &world));
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["machine-a", "machine-b", "machine-c"]);
        assert_eq!(rows[1], ["coord", "x", "*", "*"]);
        assert_eq!(rows[2], ["machine-b", "x", "-", "*"]);
        assert_eq!(rows[3], ["machine-c", "?", "?", "-"]);
    }

    #[test]
    fn a_primary_is_told_of_with_what_to_expect() {
        let world = lost_primary();
        let text = written(|out| primary(out, &Topology::of(&world).groups[0], &world));
        assert!(text.starts_with("SEEN  primary machine-a at 10.0.0.1:6379: unreachable from here\n"), "{text}");
        assert!(text.ends_with("EXPECT  --expect-primary 10.0.0.1:6379 --expect-lineage aaaaaaaa:1000\n"), "{text}");
    }
}
