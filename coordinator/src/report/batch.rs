//! Many runs of one command, as people and programs see them: a table of plans before, a table of results after.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use comfy_table::CellAlignment;
use serde_json::{Value, json};

use crate::batch::makespan;
use crate::batch::row::{Outcome, Row, exit_of};
use crate::plan::{Check, Goal, Mode};
use crate::rate::Limit;
use crate::report::table::{NONE, or_none, plain, print};
use crate::report::units::{Bytes, Seconds};

/// What all runs have in common.
pub struct Batch<'a> {
    /// The lost host.
    pub failed: &'a str,
    /// The host that takes its place, if one was named.
    pub to: Option<&'a str>,
    /// Of the groups of which data is moved.
    pub mode: Mode,
    pub jobs: usize,
    pub max_rate: Option<u64>,
}

impl fmt::Display for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (goal, failed) = (Goal::Failover(self.mode()), self.failed);
        match self.to {
            Some(to) => write!(f, "{goal} of {failed} -> {to}"),
            None => write!(f, "{goal} of {failed}"),
        }
    }
}

impl Batch<'_> {
    fn mode(&self) -> Mode {
        if self.to.is_some() { self.mode } else { Mode::InPlace }
    }

    /// Writes a row a group, why groups are refused, each kind of warning once, and the verdict.
    pub fn write_plans(&self, rows: &[Row], verbose: bool, out: &mut dyn Write) -> io::Result<()> {
        if verbose {
            for prospect in rows.iter().filter_map(Row::prospect) {
                super::plan::write(&prospect.plan, out)?;
                writeln!(out)?;
            }
        }
        writeln!(out, "{self}: {}", groups(rows.len()))?;
        let mut table = plain(vec!["", "GROUP", "SOURCE", "TARGET", "PAIRED BY", "LANDING", "DATA", "UP TO", "CHECKS"]);
        for column in [6, 7] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in rows {
            let prospect = row.prospect();
            table.add_row(vec![
                if row.refusal().is_some() { "!" } else { " " }.to_owned(),
                row.group.clone(),
                or_none(prospect.map(|prospect| &prospect.plan.source)),
                or_none(prospect.map(|prospect| &prospect.plan.target)),
                or_none(prospect.map(|prospect| prospect.by)),
                or_none(prospect.and_then(|prospect| prospect.way)),
                or_none(prospect.map(|prospect| Bytes(prospect.bytes))),
                or_none(prospect.and_then(|prospect| prospect.seconds).map(Seconds)),
                checked(row),
            ]);
        }
        print(out, &table)?;
        for row in rows {
            row.refusals().try_for_each(|check| said(check, &format!("{}: ", row.group), out))?;
        }
        // Seventeen groups would say the same seventeen times.
        for (check, others) in warnings(rows) {
            let more = if others > 0 { format!("(and {others} more: -v) ") } else { String::new() };
            said(check, &more, out)?;
        }
        writeln!(out, "verdict: {}", self.verdict(rows))
    }

    fn verdict(&self, rows: &[Row]) -> String {
        let ready: Vec<_> = rows.iter().filter(|row| row.refusal().is_none()).filter_map(Row::prospect).collect();
        let refused = match rows.len() - ready.len() {
            0 => String::new(),
            some => format!(", {some} refused"),
        };
        let bytes = ready.iter().map(|prospect| prospect.bytes).sum();
        let seconds = makespan(ready.iter().filter_map(|prospect| prospect.seconds), self.jobs);
        let rate = self.max_rate.map(|rate| format!(", {} together", Limit(Some(rate)))).unwrap_or_default();
        format!(
            "{} ready{refused}; {} in up to {}, {} at a time{rate}",
            ready.len(),
            Bytes(bytes),
            Seconds(seconds),
            self.jobs
        )
    }

    /// The plans as events: for each group those of a single plan, then one for all.
    pub fn plan_events(&self, rows: &[Row]) -> Vec<Value> {
        let mut events = Vec::new();
        for row in rows {
            let own = match row.prospect() {
                Some(prospect) => super::plan::events(&prospect.plan),
                None => row.checks().iter().map(|check| super::plan::check_event(None, check)).collect(),
            };
            events.extend(own.into_iter().map(|mut event| {
                event["group"] = json!(row.group);
                event
            }));
        }
        let planned: Vec<_> = rows
            .iter()
            .map(|row| {
                let prospect = row.prospect();
                json!({
                    "group": row.group, "ready": row.refusal().is_none(),
                    "run": prospect.map(|prospect| &prospect.plan.run),
                    "source": prospect.map(|prospect| prospect.plan.source.to_string()),
                    "target": prospect.map(|prospect| prospect.plan.target.to_string()),
                    "paired_by": prospect.map(|prospect| prospect.by.to_string()),
                    "landing": prospect.map(|prospect| prospect.way),
                    "bytes": prospect.map(|prospect| prospect.bytes),
                    "seconds": prospect.map(|prospect| prospect.seconds),
                })
            })
            .collect();
        events.push(json!({
            "event": "batch", "goal": Goal::Failover(self.mode()).to_string(), "failed": self.failed, "to": self.to, "jobs": self.jobs,
            "max_rate": self.max_rate, "groups": planned,
        }));
        events
    }
}

/// Writes a row a group: how it ended, how long it took, its run, what to do next; and how many ended how.
pub fn write_results(outcomes: &[Outcome], seconds: f64, out: &mut dyn Write) -> io::Result<()> {
    let mut table = plain(vec!["", "GROUP", "RESULT", "SECONDS", "SERVED AFTER", "RUN", "NEXT"]);
    for outcome in outcomes {
        let (fine, next) = (outcome.exit == crate::error::Exit::Done, outcome.next.as_deref());
        table.add_row(vec![
            if fine { " " } else { "!" }.to_owned(),
            outcome.group.clone(),
            outcome.word().to_owned(),
            Seconds(outcome.seconds).to_string(),
            or_none(outcome.service.map(Seconds)),
            or_none(outcome.run.as_ref()),
            next.unwrap_or(NONE).to_owned(),
        ]);
    }
    print(out, &table)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    outcomes.iter().for_each(|outcome| *counts.entry(outcome.word()).or_default() += 1);
    let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    writeln!(out, "{} in {}", counts.join(", "), Seconds(seconds))
}

/// The results as one event.
pub fn result_event(outcomes: &[Outcome], seconds: f64) -> Value {
    let groups: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "group": outcome.group, "run": outcome.run, "outcome": outcome.word(), "exit": outcome.exit as u8,
                "seconds": outcome.seconds, "service_seconds": outcome.service, "error": outcome.why,
                "next": outcome.next,
            })
        })
        .collect();
    json!({ "event": "batch-result", "exit": exit_of(outcomes) as u8, "seconds": seconds, "groups": groups })
}

pub fn groups(count: usize) -> String {
    if count == 1 { "1 group".into() } else { format!("{count} groups") }
}

fn checked(row: &Row) -> String {
    let warnings = match row.warnings().count() {
        0 => String::new(),
        1 => "1 warning".into(),
        more => format!("{more} warnings"),
    };
    match (row.refusals().count(), warnings.as_str()) {
        (0, "") => "ok".into(),
        (0, _) => warnings,
        (_, "") => "refused".into(),
        (_, _) => format!("refused, {warnings}"),
    }
}

/// The first of each kind of warning, and how many more there are.
fn warnings(rows: &[Row]) -> Vec<(&Check, usize)> {
    let mut kinds: Vec<(&Check, usize)> = Vec::new();
    for check in rows.iter().filter(|row| row.refusal().is_none()).flat_map(Row::warnings) {
        match kinds.iter_mut().find(|(first, _)| first.id == check.id) {
            Some((_, others)) => *others += 1,
            None => kinds.push((check, 0)),
        }
    }
    kinds
}

fn said(check: &Check, prefix: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, " {:<7} {:<16} {prefix}{}", check.level, check.id, check.says)?;
    match &check.remedy {
        Some(remedy) => writeln!(out, " {:<7} {:<16} -> {remedy}", "", ""),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::row::Outlook;
    use crate::error::Exit;
    use crate::plan::Level;
    use crate::run::End;

    fn outcome(group: &str, end: Option<End>, exit: Exit) -> Outcome {
        let (group, run) = (group.to_owned(), Some(baton_proto::RunId::new("fo-2345").unwrap()));
        let next = (exit == Exit::Halted).then(|| "coord resume fo-2345".to_owned());
        Outcome { group, run, end, exit, seconds: 2.0, service: Some(1.0), why: None, next }
    }

    #[test]
    fn the_last_table_tells_each_end_and_the_next_command_and_the_worst_exit_code() {
        let outcomes = [
            outcome("a:1", Some(End::Done), Exit::Done),
            outcome("a:2", Some(End::Failed), Exit::Halted),
            outcome("a:3", None, Exit::Refused),
        ];
        let mut out = Vec::new();
        write_results(&outcomes, 9.0, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().nth(2).unwrap().contains("coord resume fo-2345"), "{text}");
        assert!(text.ends_with("1 done, 1 failed, 1 refused in 9.0s\n"), "{text}");
        assert_eq!(result_event(&outcomes, 9.0)["exit"], 7);
    }

    #[test]
    fn why_a_group_is_refused_is_told_with_its_name() {
        let check =
            |level, id: &str| Check { id: id.into(), level, says: "it is so".into(), remedy: Some("mend it".into()) };
        let row = |group: &str, checks| Row { group: group.into(), outlook: Outlook::Without(checks) };
        let rows = [
            row("a:1", vec![check(Level::Refuse, "batch-target")]),
            row("a:2", vec![check(Level::Danger, "batch-alive")]),
        ];
        let batch = Batch { failed: "a", to: Some("c"), mode: Mode::Replace, jobs: 4, max_rate: Some(1_000_000) };
        let mut out = Vec::new();
        batch.write_plans(&rows, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("failover (replace) of a -> c: 2 groups\n"), "{text}");
        assert!(text.contains("batch-target     a:1: it is so\n") && text.contains("-> mend it"), "{text}");
        assert!(
            text.ends_with("verdict: 0 ready, 2 refused; 0 B in up to 0 ms, 4 at a time, 1.0 MB/s together\n"),
            "{text}"
        );
        let events = batch.plan_events(&rows);
        assert_eq!(events[0]["group"], "a:1");
        assert_eq!(events.last().unwrap()["groups"][1]["ready"], false);
    }
}
