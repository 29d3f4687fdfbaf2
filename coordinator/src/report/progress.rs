//! A run while it runs: a live line on a terminal, plain lines without one, events with `--json`.

mod tracks;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_proto::InstanceRef;
use baton_proto::control::{Outcome, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::drive::Watcher;
use crate::error::CoordError;
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
    /// What the run is called among others, and how wide that may be.
    label: Option<(String, usize)>,
    begun: Instant,
    state: Mutex<State>,
}

/// Shows many runs at once: each has a line on a terminal; without one, each line begins with its run's label.
pub struct Displays {
    console: Console,
    bars: MultiProgress,
    width: usize,
}

impl Displays {
    pub fn new<'a>(console: Console, labels: impl IntoIterator<Item = &'a str>) -> Self {
        let target = if console.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let width = labels.into_iter().map(|label| label.chars().count()).max().unwrap_or(0);
        Self { console, bars: MultiProgress::with_draw_target(target), width }
    }

    pub fn add(&self, run: &str, label: &str) -> Display {
        let bar = self.bars.add(ProgressBar::no_length());
        Display::with(self.console, bar, run, Some((label.to_owned(), self.width)))
    }
}

struct State {
    run: String,
    tracks: Tracks,
}

impl Display {
    /// On a terminal the bar is drawn on stderr; else it is hidden and lines are written.
    pub fn new(console: Console, run: &str) -> Self {
        let target = if console.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self::with(console, ProgressBar::with_draw_target(None, target), run, None)
    }

    fn with(console: Console, bar: ProgressBar, run: &str, label: Option<(String, usize)>) -> Self {
        // The template is a constant of ours; were it wrong, the bar would only look plain.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let state = State { run: run.into(), tracks: Tracks::new(Instant::now()) };
        Self { console, bar, label, begun: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Numbers for display only: a panic elsewhere cannot leave them worse than stale.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        if self.console.json {
            return;
        }
        let text = self.labelled(text);
        if self.bar.is_hidden() {
            self.console.note(|out| writeln!(out, "{text}"));
        } else {
            self.bar.println(text);
        }
    }

    fn labelled(&self, text: &str) -> String {
        match &self.label {
            Some((label, width)) => format!("{label:<width$} {text}"),
            None => text.into(),
        }
    }

    /// Tells of a step that is done. Where each of many runs has a line of its own, that line has told.
    fn done_line(&self, text: &str) {
        if self.label.is_none() || self.bar.is_hidden() {
            self.line(text);
        }
    }

    /// Tells how it stands: one of many in its own line, where it has one.
    fn stand(&self, text: &str) {
        if self.label.is_some() {
            self.message(text.trim_start());
        }
        self.done_line(text);
    }

    fn message(&self, text: &str) {
        self.bar.set_message(self.labelled(text));
        self.bar.tick();
    }

    /// Tells that the run waits until others have had their turn.
    pub fn on_waiting(&self) {
        self.stand(" waits for its turn");
    }

    /// Tells why one of many runs did not come to a good end.
    pub fn on_error(&self, error: &CoordError) {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = error.write(&mut text);
        String::from_utf8_lossy(&text).lines().for_each(|line| self.line(&format!(" {line}")));
    }

    /// Tells how one of many runs has ended, or that it did not begin.
    pub fn on_end(&self, word: &str) {
        let seconds = Seconds(self.begun.elapsed().as_secs_f64());
        if self.bar.is_hidden() {
            self.line(&format!(" {word} after {seconds}"));
        }
        self.bar.finish_with_message(self.labelled(&format!("{word} after {seconds}")));
    }

    fn step_event(&self, run: &Run, step: &str, state: &str, more: Value) {
        let mut event = json!({ "event": "step", "run": run.plan.run, "step": step, "state": state });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        self.event(event);
    }

    fn event(&self, mut event: Value) {
        if let Some((label, _)) = &self.label {
            event["group"] = json!(label);
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
                self.message(&format!("{:>2}/{total} {title}", index + 1));
            }
            Event::StepDone { index, step, seconds, learnt } => {
                self.step_event(run, step, "done", json!({ "seconds": seconds }));
                let title = run.step(*index).map(Step::title).unwrap_or_default();
                let begun = if is_begun_only(step, learnt) { ": begun" } else { "" };
                let seconds = Seconds(*seconds).to_string();
                self.done_line(&format!(" ok   {:>2}/{total} {seconds:>8}  {title}{begun}", index + 1));
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
                self.message(&format!("undo {step}"));
            }
            Event::Begun { .. } => {}
            Event::TakenUp { epoch, by, to, .. } => {
                self.event(json!({ "event": "taken-up", "run": run.plan.run, "epoch": epoch, "by": by, "to": to }));
                self.line(&format!(
                    " taken up by {by}, {}",
                    if *to == Aim::Abort { "to be undone" } else { "to go on" }
                ));
            }
            Event::Undone { step, .. } => {
                self.event(json!({ "event": "undo", "run": run.plan.run, "step": step, "state": "done" }));
                self.line(&format!(" undo {step}"));
            }
            Event::UndoFailed { step, fault, .. } => {
                let error = fault.to_string();
                self.event(
                    json!({ "event": "undo", "run": run.plan.run, "step": step, "state": "failed", "error": error }),
                );
                self.line(&format!(" FAIL undo {step}: {fault}"));
            }
            Event::Interrupted => self.stand(" interrupted; what an agent is doing it finishes by itself"),
            // Of many, each keeps its line; how it ended is told when that is known for good.
            Event::Ended { .. } if self.label.is_some() => {}
            Event::Ended { .. } => self.bar.finish_and_clear(),
        }
    }

    fn on_stopping(&self, step: &Step) {
        self.stand(&format!(" stopping after {}; once more, and it is left at once", step.name()));
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
            self.event(json!({
                "event": "step", "run": run, "step": step.name(), "state": "progress", "seconds": seconds,
                "on": on.to_string(), "doing": progress.doing, "bytes_done": progress.bytes_done,
                "bytes_total": progress.bytes_total, "bytes_wire": progress.bytes_wire,
                "bytes_per_second": due.bytes_per_second as u64,
            }));
        } else if self.bar.is_hidden() && tells {
            self.line(&format!("      {text}"));
        }
        self.message(&text);
    }
}
