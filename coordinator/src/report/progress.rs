//! A run while it runs: a live line on a terminal, plain lines without one, events with `--json`.

mod tracks;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_proto::InstanceRef;
use baton_proto::control::{Outcome, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::drive::Watcher;
use crate::plan::Step;
use crate::report::console::Console;
use crate::report::progress::tracks::Tracks;
use crate::report::summary;
use crate::report::units::Seconds;
use crate::run::{Aim, Event, Learnt, Run};

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
    tracks: Tracks,
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
        let state = State { run: run.into(), tracks: Tracks::new(Instant::now()) };
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

/// Whether a snapshot's step ended while the snapshot is still being written: the transfer learns what it comes to.
pub fn is_begun_only(step: &str, learnt: &[Learnt]) -> bool {
    step == "snapshot" && learnt.is_empty()
}

fn packing(learnt: &Learnt) -> Option<String> {
    match learnt {
        Learnt::Outcome { outcome: Outcome::Pulled(facts), .. } => Some(summary::packing(&facts.packing)),
        _ => None,
    }
}

impl Watcher for Display {
    fn on_event(&self, run: &Run, event: &Event) {
        let total = run.plan.steps.len();
        match event {
            Event::StepStarted { index, step } => {
                self.state().tracks = Tracks::new(Instant::now());
                self.step_event(run, step, "started", json!({}));
                let title = run.step(*index).map(Step::title).unwrap_or_default();
                self.bar.set_message(format!("{:>2}/{total} {title}", index + 1));
                self.bar.tick();
            }
            Event::StepDone { index, step, seconds, learnt } => {
                self.step_event(run, step, "done", json!({ "seconds": seconds }));
                let title = run.step(*index).map(Step::title).unwrap_or_default();
                let begun = if is_begun_only(step, learnt) { ": begun" } else { "" };
                let seconds = Seconds(*seconds).to_string();
                self.line(&format!(" ok   {:>2}/{total} {seconds:>8}  {title}{begun}", index + 1));
                if let Some(packing) = learnt.iter().find_map(packing).filter(|_| self.console.verbose) {
                    self.line(&format!("      packed: {packing}"));
                }
            }
            Event::StepFailed { index, step, fault } => {
                self.step_event(run, step, "failed", json!({ "error": fault.to_string() }));
                self.line(&format!(" FAIL {:>2}/{total} {step}: {fault}", index + 1));
            }
            Event::UndoStarted { step, .. } => {
                // It may have to wait for what an agent cannot leave off, such as a save.
                self.bar.set_message(format!("undo {step}"));
                self.bar.tick();
            }
            Event::Begun { .. } => {}
            Event::TakenUp { epoch, by, to, .. } => {
                self.console.event(&json!({
                    "event": "taken-up", "run": run.plan.run, "epoch": epoch, "by": by, "to": to,
                }));
                self.line(&format!(
                    " taken up by {by}, {}",
                    if *to == Aim::Abort { "to be undone" } else { "to go on" }
                ));
            }
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

    fn on_stopping(&self, step: &Step) {
        self.line(&format!(" stopping after {}; once more, and it is left at once", step.name()));
    }

    fn on_progress(&self, step: &Step, on: &InstanceRef, progress: &Progress) {
        let now = Instant::now();
        let every = if self.console.json { EVENT_EVERY } else { LINE_EVERY };
        let mut state = self.state();
        let due = state.tracks.take_in(now, every, step, on, progress);
        let text = state.tracks.line();
        let (run, seconds) = (state.run.clone(), now.duration_since(state.tracks.since).as_secs_f64());
        // A line tells of all instances, an event of one.
        let tells = due.is_due || (self.console.verbose && due.is_new);
        if tells && !self.console.json {
            state.tracks.told(now);
        }
        drop(state);
        if self.console.json && due.is_due {
            self.console.event(&json!({
                "event": "step", "run": run, "step": step.name(), "state": "progress", "seconds": seconds,
                "on": on.to_string(), "doing": progress.doing, "bytes_done": progress.bytes_done,
                "bytes_total": progress.bytes_total, "bytes_wire": progress.bytes_wire,
                "bytes_per_second": due.bytes_per_second as u64,
            }));
        } else if self.bar.is_hidden() && tells {
            self.line(&format!("      {text}"));
        }
        self.bar.set_message(text);
        self.bar.tick();
    }
}
