//! A run while it runs: a live line on a terminal, plain lines without one, events with `--json`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_proto::InstanceRef;
use baton_proto::control::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::drive::Watcher;
use crate::plan::Step;
use crate::report::console::Console;
use crate::report::units::{Bytes, Rate, Seconds, Span};
use crate::run::{Event, Run};

/// How often a long step says how far it is where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often it does as an event.
const EVENT_EVERY: Duration = Duration::from_millis(500);

/// Shows a run.
pub struct Display {
    console: Console,
    bar: ProgressBar,
    state: Mutex<State>,
}

struct State {
    run: String,
    step_since: Instant,
    told: Instant,
    last: (Instant, u64),
    rate: f64,
}

impl Display {
    /// On a terminal the bar is drawn on stderr; else it is hidden and lines are written.
    pub fn new(console: Console, run: &str) -> Self {
        let target = if console.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is a constant of ours; were it wrong, the bar would only look plain.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        let state = State { run: run.into(), step_since: now, told: now, last: (now, 0), rate: 0.0 };
        Self { console, bar, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Numbers for display only: a panic elsewhere cannot leave them worse than stale.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        if self.console.json {
            return;
        }
        if self.bar.is_hidden() {
            self.console.note(|out| writeln!(out, "{text}"));
        } else {
            self.bar.println(text);
        }
    }

    fn step_event(&self, run: &Run, step: &str, state: &str, more: Value) {
        let mut event = json!({ "event": "step", "run": run.plan.run, "step": step, "state": state });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        self.console.event(&event);
    }
}

impl Watcher for Display {
    fn on_event(&self, run: &Run, event: &Event) {
        let total = run.plan.steps.len();
        match event {
            Event::StepStarted { index, step } => {
                let now = Instant::now();
                let mut state = self.state();
                (state.step_since, state.told, state.last, state.rate) = (now, now, (now, 0), 0.0);
                drop(state);
                self.step_event(run, step, "started", json!({}));
                let title = run.step(*index).map(Step::title).unwrap_or_default();
                self.bar.set_message(format!("{:>2}/{total} {title}", index + 1));
                self.bar.tick();
            }
            Event::StepDone { index, step, seconds, .. } => {
                self.step_event(run, step, "done", json!({ "seconds": seconds }));
                let title = run.step(*index).map(Step::title).unwrap_or_default();
                self.line(&format!(" ok   {:>2}/{total} {:>8}  {title}", index + 1, Seconds(*seconds).to_string()));
            }
            Event::StepFailed { index, step, fault } => {
                self.step_event(run, step, "failed", json!({ "error": fault.to_string() }));
                self.line(&format!(" FAIL {:>2}/{total} {step}: {fault}", index + 1));
            }
            Event::UndoStarted { .. } | Event::Begun { .. } => {}
            Event::Undone { step, .. } => {
                self.console.event(&json!({ "event": "undo", "run": run.plan.run, "step": step, "state": "done" }));
                self.line(&format!(" undo {step}"));
            }
            Event::UndoFailed { step, fault, .. } => {
                let error = fault.to_string();
                self.console.event(
                    &json!({ "event": "undo", "run": run.plan.run, "step": step, "state": "failed", "error": error }),
                );
                self.line(&format!(" FAIL undo {step}: {fault}"));
            }
            Event::Interrupted => self.line(" interrupted; what an agent is doing it finishes by itself"),
            Event::Ended { .. } => self.bar.finish_and_clear(),
        }
    }

    fn on_progress(&self, step: &Step, on: &InstanceRef, progress: &Progress) {
        let now = Instant::now();
        let mut state = self.state();
        let elapsed = now.duration_since(state.last.0).as_secs_f64();
        if elapsed > 0.2 {
            let moved = progress.bytes_done.saturating_sub(state.last.1) as f64 / elapsed;
            // A moving average: steady enough to read, quick enough to show a stall.
            state.rate = if state.rate == 0.0 { moved } else { 0.7 * state.rate + 0.3 * moved };
            state.last = (now, progress.bytes_done);
        }
        let text = describe(step, on, progress, state.rate);
        let every = if self.console.json { EVENT_EVERY } else { LINE_EVERY };
        let due = now.duration_since(state.told) >= every;
        if due {
            state.told = now;
        }
        let (run, seconds, rate) = (state.run.clone(), now.duration_since(state.step_since).as_secs_f64(), state.rate);
        drop(state);
        if self.console.json && due {
            self.console.event(&json!({
                "event": "step", "run": run, "step": step.name(), "state": "progress", "seconds": seconds,
                "on": on.to_string(), "doing": progress.doing, "bytes_done": progress.bytes_done,
                "bytes_total": progress.bytes_total, "bytes_wire": progress.bytes_wire, "bytes_per_second": rate as u64,
            }));
        } else if self.bar.is_hidden() && due {
            self.line(&format!("      {text}"));
        }
        self.bar.set_message(text);
        self.bar.tick();
    }
}

fn describe(step: &Step, on: &InstanceRef, progress: &Progress, rate: f64) -> String {
    let mut text = format!("{} on {on}: {}", step.name(), progress.doing);
    let Some(total) = progress.bytes_total.filter(|total| *total > 0) else {
        if progress.bytes_done > 0 {
            text.push_str(&format!(" {}", Bytes(progress.bytes_done)));
        }
        return text;
    };
    text.push_str(&format!(" {} of {}", Bytes(progress.bytes_done), Bytes(total)));
    if rate > 0.0 {
        let left = total.saturating_sub(progress.bytes_done) as f64 / rate;
        text.push_str(&format!(", {}, {} left", Rate(rate), Span(left.ceil() as u64)));
    }
    if progress.bytes_wire > 0 {
        let ratio = progress.bytes_done as f64 / progress.bytes_wire as f64;
        text.push_str(&format!(", ratio {ratio:.2}"));
    }
    text
}
