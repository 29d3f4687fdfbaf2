//! What the agent logs, a line each, to stderr: as text, or as JSON for those who collect logs of many hosts.
//!
//! ```text
//!   event ──┐
//!   spans ──┴──> Lines ──> Line (pure: text, JSON) ──> stderr
//! ```
//!
//! What is done for a run stands in a span that names it ([`task`], [`transfer`]), so that each line tells its run, whoever
//! wrote it. A line is written at once, so that those of several threads do not mix.

mod line;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::time::SystemTime;

use baton_proto::control::TaskId;
use baton_proto::{InstanceName, RunId};
use tracing::span::{Attributes, Id};
use tracing::{Event, Span, Subscriber, error_span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::line::{Fields, Line, Stamp};
use crate::config::LogFormat;

/// Spans of others, such as the transport's, are no part of a line.
const OWN: &str = "baton_";

/// Begins to log. `BATON_LOG` says how much; what is no filter counts as `info`.
pub fn begin(format: LogFormat) {
    let filter = EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let stamp = if is_journal() { Stamp::Journal } else { Stamp::Time };
    let lines = Lines { format, stamp, out: to_stderr };
    tracing_subscriber::registry().with(filter).with(lines).init();
    // A defect is a line as well: whoever reads JSON would stumble over the usual words.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!(%backtrace, "{panic}"),
            _ => tracing::error!("{panic}"),
        }
    }));
}

/// The span of a run's task.
pub fn task(task: &TaskId, instance: &InstanceName) -> Span {
    // At the level of errors, so that it is there however little is logged.
    error_span!("task", run = %task.run, task = task.name, %instance)
}

/// The span of what another agent asks for a run.
pub fn transfer(run: &RunId) -> Span {
    error_span!("transfer", %run)
}

/// Whether stderr is systemd's journal, which stamps each line by itself: systemd.exec(5) on `JOURNAL_STREAM`.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

struct Lines<Out> {
    format: LogFormat,
    stamp: Stamp,
    out: Out,
}

fn to_stderr(line: &str) {
    // There is nowhere to say that nothing can be said.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

impl<S, Out> Layer<S> for Lines<Out>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    Out: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|span| span.metadata().target().starts_with(OWN)) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.inherit(outer);
            }
        }
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let line = Line { time: SystemTime::now(), level, target, fields };
        let mut text = match self.format {
            LogFormat::Text => line.text(self.stamp),
            LogFormat::Json => line.json(self.stamp),
        };
        text.push('\n');
        (self.out)(&text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_is_said_in_a_task_names_its_run_and_what_others_are_in_does_not() {
        let kept = Arc::<Mutex<String>>::default();
        let sink = Arc::clone(&kept);
        let out = move |line: &str| sink.lock().unwrap().push_str(line);
        let lines = Lines { format: LogFormat::Json, stamp: Stamp::Journal, out };
        let id = TaskId { run: RunId::new("fo-test").unwrap(), name: "stop".into() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            task(&id, &InstanceName::new("default").unwrap()).in_scope(|| {
                error_span!(target: "quinn", "drive", id = 7).in_scope(|| tracing::warn!(bytes = 3, "slow"));
            });
            tracing::info!("alone");
        });
        let fields = r#""bytes":3,"run":"fo-test","task":"stop","instance":"default""#;
        let slow = format!(r#"{{"level":"warn","target":"{}","message":"slow",{fields}}}"#, module_path!());
        let alone = format!(r#"{{"level":"info","target":"{}","message":"alone"}}"#, module_path!());
        assert_eq!(*kept.lock().unwrap(), format!("{slow}\n{alone}\n"));
    }
}
