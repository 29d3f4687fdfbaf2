//! A plan as text and as events.

use std::io::{self, Write};

use baton_proto::RunId;
use serde_json::{Value, json};

use crate::plan::{Check, Level, Plan, Resync};
use crate::report::units::Bytes;

/// Writes checks, steps, forecasts and the verdict.
pub fn write(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let failed = plan.failed.as_deref().map(|failed| format!(" of {failed}")).unwrap_or_default();
    writeln!(out, "{}{failed}: {}", plan.goal, plan.parts())?;
    for check in &plan.checks {
        writeln!(out, " {:<7} {:<16} {}", check.level, check.id, check.says)?;
        if let Some(remedy) = check.remedy.as_ref().filter(|_| check.level > Level::Ok) {
            writeln!(out, " {:<7} {:<16} -> {remedy}", "", "")?;
        }
    }
    for (number, step) in (1..).zip(&plan.steps) {
        writeln!(out, " {:<7} {number:>2} {}", "step", step.title())?;
    }
    for forecast in &plan.forecasts {
        let resync = match forecast.resync {
            Resync::Partial => format!("partial ({} to resend)", Bytes(forecast.bytes)),
            Resync::Full => format!("full ({} again)", Bytes(forecast.bytes)),
        };
        writeln!(out, " {:<7} {} joins {}: {resync}; {}", "resync", forecast.replica, forecast.to, forecast.why)?;
    }
    writeln!(out, "verdict: {}", verdict(plan))
}

fn verdict(plan: &Plan) -> String {
    let warnings = match plan.warnings() {
        0 => String::new(),
        1 => " (1 warning)".into(),
        more => format!(" ({more} warnings)"),
    };
    match plan.refusals().count() {
        0 => format!("ready{warnings}"),
        1 => format!("refused by 1 check{warnings}"),
        more => format!("refused by {more} checks{warnings}"),
    }
}

/// A check of a run's plan, or of one that cannot be made.
pub(super) fn check_event(run: Option<&RunId>, check: &Check) -> Value {
    json!({
        "event": "check", "run": run, "id": check.id, "level": check.level.to_string(),
        "says": check.says, "remedy": check.remedy,
    })
}

/// The plan as one event a check, and one for the whole.
pub fn events(plan: &Plan) -> Vec<Value> {
    let mut events: Vec<_> = plan.checks.iter().map(|check| check_event(Some(&plan.run), check)).collect();
    let forecasts: Vec<_> = plan
        .forecasts
        .iter()
        .map(|forecast| {
            json!({
                "replica": forecast.replica.to_string(), "to": forecast.to.to_string(),
                "resync": forecast.resync.to_string(), "bytes": forecast.bytes, "why": forecast.why,
            })
        })
        .collect();
    events.push(json!({
        "event": "plan", "run": plan.run, "goal": plan.goal.to_string(),
        "source": plan.source.to_string(), "target": plan.target.to_string(),
        "steps": plan.steps.iter().map(|step| step.name()).collect::<Vec<_>>(),
        "forecasts": forecasts, "expected": plan.expected, "ready": plan.level() < Level::Refuse, "warnings": plan.warnings(),
    }));
    events
}
