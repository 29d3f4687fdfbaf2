//! Servers that commands of the operator's own start and stop.

use std::time::{Duration, Instant};

use baton_proto::{Fault, FaultKind};

use super::exec::{self, Child};
use super::{log, program};
use crate::instance::Instance;

/// The word in `start` that stands for the arguments of ours.
pub(super) const ARGS: &str = "{args}";

/// How long `stop` may take. What it has to do besides ending a server whose data is safe is not known here.
const STOP_TIMEOUT: Duration = Duration::from_secs(180);
/// How long `status` may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often `status` is asked while a server starts.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How often in a row `status` must deny that the server runs: right after `start` the first answers may be early.
const STATUS_DENIALS: u32 = 3;

/// Puts the arguments in their place. None: the command has no place for them.
pub(super) fn with_args(start: &[String], args: &[String]) -> Option<Vec<String>> {
    let place = start.iter().position(|word| word == ARGS)?;
    let words =
        start.iter().enumerate().flat_map(|(at, word)| if at == place { args } else { std::slice::from_ref(word) });
    Some(words.cloned().collect())
}

/// A start that is watched until the server answers.
#[derive(Debug)]
pub(super) struct Starting {
    child: Child,
    status: Vec<String>,
    asked: Instant,
    denials: u32,
}

pub(super) fn start(instance: &Instance, argv: &[String], status: &[String]) -> Result<Starting, Fault> {
    let child = exec::spawn(argv, instance.conf_dir(), &log::own_log(instance)).map_err(|error| {
        Fault::new(FaultKind::Host, format!("run `{}`", argv.join(" ")))
            .because(error)
            .hint("correct `service.command.start` in agent.toml")
    })?;
    Ok(Starting { child, status: status.to_vec(), asked: Instant::now(), denials: 0 })
}

impl Starting {
    /// Says how the start failed, if it has.
    pub(super) async fn ended(&mut self) -> Option<Fault> {
        let ended = self.child.exit_status()?;
        if !ended.success() {
            let said = program::outcome(ended);
            return Some(Fault::new(FaultKind::Server, format!("the start command {said}")));
        }
        if self.status.is_empty() || self.asked.elapsed() < STATUS_INTERVAL {
            return None;
        }
        self.asked = Instant::now();
        let denied = match program::run(&self.status, STATUS_TIMEOUT, None).await {
            Ok(finished) if finished.status.success() => return self.confirmed(),
            Ok(finished) => finished.complaint(),
            Err(fault) => fault.to_string(),
        };
        self.denials += 1;
        let fault = || Fault::new(FaultKind::Server, format!("the status command says that nothing runs: {denied}"));
        (self.denials >= STATUS_DENIALS).then(fault)
    }

    fn confirmed(&mut self) -> Option<Fault> {
        self.denials = 0;
        None
    }
}

pub(super) async fn stop(instance: &Instance, stop: &[String]) -> Result<(), Fault> {
    let path = log::own_log(instance);
    let output = exec::open_log(&path)
        .map_err(|error| Fault::new(FaultKind::Host, format!("open {}", path.display())).because(error))?;
    let mark = log::LogMark::now(instance, None).await;
    let finished = program::run(stop, STOP_TIMEOUT, Some(output)).await?;
    if finished.status.success() {
        return Ok(());
    }
    let said = program::outcome(finished.status);
    Err(mark.explain(Fault::new(FaultKind::Host, format!("the stop command {said}"))).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_take_the_place_of_their_word() {
        let start = words("ctl start {args} --wait");
        assert_eq!(with_args(&start, &words("--appendonly no")), Some(words("ctl start --appendonly no --wait")));
        assert_eq!(with_args(&start, &[]), Some(words("ctl start --wait")));
        assert_eq!(with_args(&words("ctl start"), &words("--appendonly no")), None);
    }
}
