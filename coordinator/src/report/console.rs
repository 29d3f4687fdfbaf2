//! The only place that writes to stdout and stderr. A reader that went away (`coord ... | head`) is not an error.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// Where results and progress go, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    pub json: bool,
    /// Whether to tell more: what was chosen, and why.
    pub verbose: bool,
}

impl Console {
    /// Whether a person can be asked.
    pub fn is_interactive(self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Writes a piece of the result for people; nothing with `--json`.
    pub fn result(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if !self.json {
            forgive(write(&mut io::stdout().lock()));
        }
    }

    /// Writes a line of the result for programs; nothing without `--json`.
    pub fn event(self, event: &Value) {
        if self.json {
            forgive(writeln!(io::stdout().lock(), "{event}"));
        }
    }

    /// Writes more of the result, and tells whether anybody reads on.
    pub fn tells(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> bool {
        let mut out = io::stdout().lock();
        write(&mut out).and_then(|()| out.flush()).is_ok()
    }

    /// Writes progress or an error.
    pub fn note(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        forgive(write(&mut io::stderr().lock()));
    }

    /// Asks like [`Self::confirms`], and can be left before there is an answer: the thread that waits for one ends with the
    /// process.
    pub async fn confirmed(self, question: &'static str) -> bool {
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || answer.send(self.confirms(question)));
        answered.await.unwrap_or(false)
    }

    /// Asks a yes-or-no question on the terminal; anything but yes is no.
    pub fn confirms(self, question: &str) -> bool {
        self.note(|out| {
            write!(out, "{question} [y/N] ")?;
            out.flush()
        });
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }
}

fn forgive(written: io::Result<()>) {
    // A closed pipe, or a full disk behind a redirection: the work does not depend on who reads about it.
    let _ = written;
}
