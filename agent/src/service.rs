//! Service control: how the server of an instance is started and stopped on this host.
//!
//! Three kinds, one file each: `exec` (the agent starts it), `command` (the operator's own commands) and `systemd`.
//! Whether a server runs is asked of the server, not of these: so one that other hands started is found.
//! Not here: what a started server must be like before it counts (`actions::start`), and how one is brought to stop
//! with or without its data saved (`actions::stop`).
//!
//! A new kind is a variant of `ServiceConfig`, a file here, and a branch in each function below.

mod command;
mod dropin;
mod exec;
mod log;
mod process;
mod program;
mod systemd;
mod version;

use baton_proto::report::ServiceFact;
use baton_proto::{Fault, FaultKind};

pub use self::log::LogMark;
pub use self::process::Process;
pub use self::version::binary_version;
use crate::config::ServiceConfig;
use crate::instance::Instance;

/// What others need to know of a service.
pub fn fact(service: &ServiceConfig) -> ServiceFact {
    let (kind, takes_arguments) = match service {
        ServiceConfig::Exec(_) => ("exec".to_owned(), true),
        ServiceConfig::Systemd(unit) => (format!("systemd {unit}"), true),
        ServiceConfig::Command { start, .. } => ("command".to_owned(), start.iter().any(|word| word == command::ARGS)),
    };
    ServiceFact { kind, takes_arguments }
}

/// A start that has been given, and is watched until the server answers.
#[derive(Debug)]
pub struct Started(Kind);

#[derive(Debug)]
enum Kind {
    Exec { program: String, child: exec::Child },
    Command(command::Starting),
    Systemd(systemd::Starting),
}

impl Started {
    /// Says how the server ended, if it has: then there is nothing to wait for.
    pub async fn ended(&mut self) -> Option<Fault> {
        match &mut self.0 {
            Kind::Exec { program, child } => {
                let status = child.exit_status()?;
                Some(Fault::new(FaultKind::Server, format!("{program} {} while starting", program::outcome(status))))
            }
            Kind::Command(starting) => starting.ended().await,
            Kind::Systemd(starting) => starting.ended().await,
        }
    }
}

/// Starts the service with arguments added to the server's own, on a dump of so many bytes. Arguments that the service
/// cannot pass on are refused.
pub async fn start(instance: &Instance, args: &[String], dump_bytes: u64) -> Result<Started, Fault> {
    let kind = match &instance.config().service {
        ServiceConfig::Exec(argv) => {
            // A server that went to the background by itself could not be watched.
            let ours = ["--daemonize".to_owned(), "no".to_owned()];
            let argv: Vec<String> = argv.iter().chain(args).chain(&ours).cloned().collect();
            let child = exec::spawn(&argv, instance.conf_dir(), &log::own_log(instance)).map_err(|error| {
                Fault::new(FaultKind::Host, format!("run `{}`", argv.join(" ")))
                    .because(error)
                    .hint("correct `service.exec` in agent.toml, or install the server")
            })?;
            Kind::Exec { program: argv.into_iter().next().unwrap_or_default(), child }
        }
        ServiceConfig::Command { start, status, .. } => {
            let argv = match command::with_args(start, args) {
                Some(argv) => argv,
                None if args.is_empty() => start.clone(),
                None => {
                    return Err(Fault::new(
                        FaultKind::Refused,
                        format!("the start command takes no arguments, and `{}` is needed", args.join(" ")),
                    )
                    .hint(format!("add the word `{}` to `service.command.start` in agent.toml", command::ARGS)));
                }
            };
            Kind::Command(command::start(instance, &argv, status)?)
        }
        ServiceConfig::Systemd(unit) => Kind::Systemd(systemd::Unit::new(unit).start(args, dump_bytes).await?),
    };
    Ok(Started(kind))
}

/// Watches a start that was given before this agent was started, where the service manager tells of it.
pub fn join(instance: &Instance) -> Option<Started> {
    match &instance.config().service {
        ServiceConfig::Systemd(unit) => {
            systemd::Unit::new(unit).join().map(|starting| Started(Kind::Systemd(starting)))
        }
        ServiceConfig::Exec(_) | ServiceConfig::Command { .. } => None,
    }
}

/// Whether a start that was given here goes on, as far as the service manager tells: then the server holds nothing yet but
/// what it was started on.
pub async fn is_loading(instance: &Instance) -> Result<bool, Fault> {
    match &instance.config().service {
        ServiceConfig::Systemd(unit) => systemd::Unit::new(unit).is_loading().await,
        ServiceConfig::Exec(_) | ServiceConfig::Command { .. } => Ok(false),
    }
}

/// What becomes of a stopped service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Its manager refuses everybody's start until it is started here, or settled. One that knows no such thing leaves it.
    Hold,
    Leave,
}

/// Has the service manager stop the server. None: there is none, and the server itself must be told.
pub async fn stop(instance: &Instance, then: Then) -> Option<Result<(), Fault>> {
    match &instance.config().service {
        ServiceConfig::Exec(_) => None,
        ServiceConfig::Command { stop, .. } => Some(command::stop(instance, stop).await),
        ServiceConfig::Systemd(unit) => Some(systemd::Unit::new(unit).stop(then == Then::Hold).await),
    }
}

/// Keeps a stopped service stopped, whoever starts it, until it is started here or settled.
pub async fn hold(instance: &Instance) -> Result<(), Fault> {
    match &instance.config().service {
        ServiceConfig::Systemd(unit) => systemd::Unit::new(unit).hold().await,
        ServiceConfig::Exec(_) | ServiceConfig::Command { .. } => Ok(()),
    }
}

/// Whether a start has left something with the service manager, so that [`clear_up`] is due.
pub fn is_left(instance: &Instance) -> bool {
    matches!(&instance.config().service, ServiceConfig::Systemd(unit) if systemd::Unit::new(unit).is_left())
}

/// Removes what a start has left with the service manager, if the start is over. What is held stays held: a run goes on.
pub async fn clear_up(instance: &Instance) -> Result<(), Fault> {
    match &instance.config().service {
        ServiceConfig::Systemd(unit) => systemd::Unit::new(unit).clear_up().await,
        ServiceConfig::Exec(_) | ServiceConfig::Command { .. } => Ok(()),
    }
}

/// Removes what a start left with the service manager, and what holds the service. Called after every start, and again by later actions in case a
/// crash came between.
pub async fn settle(instance: &Instance) -> Result<(), Fault> {
    match &instance.config().service {
        ServiceConfig::Systemd(unit) => systemd::Unit::new(unit).settle().await,
        ServiceConfig::Exec(_) | ServiceConfig::Command { .. } => Ok(()),
    }
}
