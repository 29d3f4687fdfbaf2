//! In which keys a deposed primary differed from its successor, in words and for programs.

use std::io::{self, Write};

use baton_proto::InstanceRef;
use baton_proto::compared::{Compared, Comparison, Differences, Example};
use serde_json::{Value, json};

use crate::report::units::{Count, Seconds};

pub(super) fn event(compared: &Compared) -> Value {
    match compared {
        Compared::NotMade { why } => json!({ "made": false, "why": why }),
        Compared::Made(comparison) => json!({
            "made": true,
            "with": comparison.with,
            "seconds": comparison.seconds,
            "stopped": comparison.stopped,
            "all": comparison.all,
            "databases": comparison.databases,
            "examples": comparison.examples,
        }),
    }
}

/// `between` names the deposed one and its successor.
pub(super) fn write(compared: &Compared, between: (&InstanceRef, &InstanceRef), out: &mut dyn Write) -> io::Result<()> {
    let comparison = match compared {
        Compared::NotMade { why } => return writeln!(out, "  differs   not compared: {why}"),
        Compared::Made(comparison) => comparison,
    };
    let (deposed, successor) = between;
    let Differences { seen, seen_successor, by_form, unread, .. } = comparison.all;
    writeln!(out, "  differs   {}", counts(&comparison.all, between))?;
    if comparison.databases.len() > 1 {
        for (db, found) in comparison.databases.iter().filter(|(_, found)| !found.none()) {
            writeln!(out, "  differs   database {db}: {}", counts(found, between))?;
        }
    }
    let Comparison { examples, all, .. } = &**comparison;
    for (what, names, of) in [
        (format!("only on {deposed}"), &examples.only_deposed, all.only_deposed),
        (format!("only on {successor}"), &examples.only_successor, all.only_successor),
        ("other values".to_owned(), &examples.differing, all.differing),
    ] {
        if !names.is_empty() {
            writeln!(out, "  differs   {what}: {}", listed(names, of))?;
        }
    }
    if by_form > 0 {
        let says = "streams or values of modules, told apart by DUMP alone: they may mean the same";
        writeln!(out, "  differs   {} of them are {says}", Count(by_form))?;
    }
    if unread > 0 {
        writeln!(out, "  differs   {} were too large to be compared", Count(unread))?;
    }
    let (seen, seen_successor, time) = (Count(seen), Count(seen_successor), Seconds(comparison.seconds));
    writeln!(out, "  compared  {seen} keys of {deposed}, {seen_successor} of {successor}, in {time}")?;
    if let Some(stopped) = &comparison.stopped {
        writeln!(out, "  compared  not all: {stopped}; there may be more differences")?;
    }
    Ok(())
}

fn counts(found: &Differences, (deposed, successor): (&InstanceRef, &InstanceRef)) -> String {
    if found.none() {
        return "no key differs".to_owned();
    }
    format!(
        "{} only on {deposed}, {} only on {successor}, {} with other values",
        Count(found.only_deposed),
        Count(found.only_successor),
        Count(found.differing),
    )
}

fn listed(names: &[Example], of: u64) -> String {
    let name = |example: &Example| {
        let db = if example.db == 0 { String::new() } else { format!(" in {}", example.db) };
        let types = example.types.as_ref().map(|[one, other]| format!(" ({one}, {other})")).unwrap_or_default();
        format!("\"{}\"{db}{types}", example.key)
    };
    let names: Vec<_> = names.iter().map(name).collect();
    let more = of.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(", and {} more", Count(more)) } else { String::new() };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use baton_proto::HostPort;
    use baton_proto::compared::Examples;

    use super::*;
    use crate::topology::fixture::named;

    fn text(compared: &Compared) -> String {
        let mut out = Vec::new();
        write(compared, (&named("a"), &named("c")), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn example(db: u32, key: &str, types: Option<[&str; 2]>) -> Example {
        Example { db, key: key.into(), types: types.map(|types| types.map(str::to_owned)) }
    }

    fn comparison() -> Comparison {
        let zero = Differences { seen: 9000, only_deposed: 21, differing: 1, by_form: 1, ..Differences::default() };
        let two = Differences { seen_successor: 3, only_successor: 1, unread: 2, ..Differences::default() };
        Comparison {
            with: HostPort::new("10.0.0.3", 6379),
            seconds: 1.5,
            stopped: None,
            all: Differences { seen_successor: 3, only_successor: 1, unread: 2, ..zero },
            databases: BTreeMap::from([(0, zero), (1, Differences::default()), (2, two)]),
            examples: Examples {
                only_deposed: vec![example(0, "one", None)],
                only_successor: vec![example(2, "two", None)],
                differing: vec![example(0, "three", Some(["list", "set"]))],
            },
        }
    }

    #[test]
    fn counts_and_names_are_told_in_all_and_for_each_database_that_differs() {
        assert_eq!(
            text(&Compared::Made(Box::new(comparison()))).lines().map(str::trim).collect::<Vec<_>>(),
            [
                "differs   21 only on a, 1 only on c, 1 with other values",
                "differs   database 0: 21 only on a, 0 only on c, 1 with other values",
                "differs   database 2: 0 only on a, 1 only on c, 0 with other values",
                "differs   only on a: \"one\", and 20 more",
                "differs   only on c: \"two\" in 2",
                "differs   other values: \"three\" (list, set)",
                "differs   1 of them are streams or values of modules, told apart by DUMP alone: they may mean the same",
                "differs   2 were too large to be compared",
                &format!("compared  {} keys of a, 3 of c, in 1.5s", Count(9000)),
            ]
        );
    }

    #[test]
    fn that_nothing_differs_is_told_and_so_is_that_not_all_was_looked_at() {
        let stopped = Some("stopped after 300 s, which was its limit".to_owned());
        let all = Differences { seen: 1, ..Differences::default() };
        let empty =
            Comparison { all, databases: BTreeMap::new(), examples: Examples::default(), stopped, ..comparison() };
        let compared = Compared::Made(Box::new(empty));
        let said = text(&compared);
        assert!(said.contains("differs   no key differs"), "{said}");
        assert!(said.contains("not all: stopped after 300 s"), "{said}");
        assert_eq!(event(&compared)["stopped"], "stopped after 300 s, which was its limit");
        assert_eq!((&event(&compared)["made"], &event(&compared)["all"]["seen"]), (&json!(true), &json!(1)));
    }

    #[test]
    fn why_nothing_was_compared_is_told() {
        let compared = Compared::NotMade { why: "c refuses SCAN: NOPERM".into() };
        assert_eq!(text(&compared), "  differs   not compared: c refuses SCAN: NOPERM\n");
        assert_eq!(event(&compared), json!({ "made": false, "why": "c refuses SCAN: NOPERM" }));
    }
}
