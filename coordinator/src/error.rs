//! How the command fails: exit codes, and the layout in which an error is printed.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use baton_proto::{Fault, RunId};
use serde_json::{Value, json};

/// The command's exit codes; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// A defect of Baton.
    Defect = 1,
    /// Wrong command line, configuration or identity.
    Usage = 2,
    /// A check failed before anything was changed.
    Preflight = 3,
    /// Going on could have lost data.
    Refused = 4,
    /// The group serves, and something is missing.
    Degraded = 5,
    RolledBack = 6,
    /// Stopped half-way.
    Halted = 7,
    /// Bytes are not what they should be.
    Mismatch = 8,
    /// Interrupted by the operator.
    Interrupted = 130,
}

/// From the worst to the best: what needs a hand first, then what was undone, refused, and done.
pub const BY_SEVERITY: [Exit; 10] = [
    Exit::Defect,
    Exit::Halted,
    Exit::Interrupted,
    Exit::Mismatch,
    Exit::RolledBack,
    Exit::Refused,
    Exit::Preflight,
    Exit::Usage,
    Exit::Degraded,
    Exit::Done,
];

impl Exit {
    /// The worst of several, by [`BY_SEVERITY`].
    pub fn worst(all: impl IntoIterator<Item = Exit>) -> Exit {
        let rank = |exit: &Exit| BY_SEVERITY.iter().position(|other| other == exit);
        all.into_iter().min_by_key(rank).unwrap_or(Exit::Done)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error as a person reads it: what failed, why, in which state every host is, and what to do.
#[derive(Debug)]
pub struct CoordError {
    pub exit: Exit,
    pub message: String,
    pub causes: Vec<String>,
    /// A sentence for each host involved.
    pub state: Vec<String>,
    pub hint: Option<String>,
    /// The run that it is about, if one was named.
    pub run: Option<Box<RunId>>,
    /// Whether programs have been told already how the run ended.
    pub told: bool,
}

impl CoordError {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { exit, message, causes: Vec::new(), state: Vec::new(), hint: None, run: None, told: false }
    }

    /// The error as a program reads it: the last line of a command that did not come to a result of its own.
    pub fn event(&self) -> Value {
        let outcome = match self.exit {
            Exit::Usage | Exit::Preflight | Exit::Refused => "refused",
            Exit::Interrupted => "interrupted",
            _ => "failed",
        };
        json!({
            "event": "result", "run": self.run, "outcome": outcome, "resync": "none", "error": self.message,
            "causes": self.causes, "hint": self.hint,
        })
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Takes over what an agent said.
    pub fn of_fault(exit: Exit, doing: impl fmt::Display, fault: &Fault) -> Self {
        let mut error = Self::new(exit, format!("{doing}: {}", fault.message));
        error.causes.clone_from(&fault.causes);
        error.hint.clone_from(&fault.hint);
        error
    }

    /// Prints the error in its layout.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "error: {}", self.message)?;
        for cause in &self.causes {
            writeln!(out, "caused by: {cause}")?;
        }
        for state in &self.state {
            writeln!(out, "state: {state}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "hint: {hint}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for CoordError {
    fn from(error: anyhow::Error) -> Self {
        let mut chain = error.chain();
        let message = chain.next().map(ToString::to_string).unwrap_or_default();
        let mut converted = Self::new(Exit::Defect, message);
        converted.causes = chain.map(ToString::to_string).collect();
        converted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_exit_codes_the_worst_counts() {
        assert_eq!(Exit::worst([]), Exit::Done);
        assert_eq!(Exit::worst([Exit::Done, Exit::Degraded, Exit::Done]), Exit::Degraded);
        assert_eq!(Exit::worst([Exit::Refused, Exit::RolledBack, Exit::Preflight]), Exit::RolledBack);
        assert_eq!(Exit::worst([Exit::Interrupted, Exit::Halted, Exit::Mismatch]), Exit::Halted);
        let codes = BY_SEVERITY.map(|exit| exit as u8);
        assert_eq!(codes, [1, 7, 130, 8, 6, 4, 3, 2, 5, 0], "the order that the manual tells");
    }

    #[test]
    fn the_layout_is_error_causes_state_hint() {
        let mut error = CoordError::new(Exit::RolledBack, "transfer to `machine-c`: digest mismatch")
            .because("chunk 412 at offset 1728053248 differs")
            .hint("run `coord failover machine-a --to machine-c` again");
        error.state.push("`machine-b` replica, frozen".into());
        let mut out = Vec::new();
        error.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "error: transfer to `machine-c`: digest mismatch\n\
             caused by: chunk 412 at offset 1728053248 differs\n\
             state: `machine-b` replica, frozen\n\
             hint: run `coord failover machine-a --to machine-c` again\n"
        );
    }
}
