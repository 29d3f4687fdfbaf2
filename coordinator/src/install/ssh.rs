//! The operator's own ssh: runs scripts on a host as root, and carries files there. One connection serves them all, so that
//! whoever types a password types it once.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{CoordError, Exit};

/// How long an idle shared connection is kept, in seconds: from one act to the next.
const PERSIST_SECONDS: u32 = 60;

/// A host as ssh knows it.
#[derive(Debug)]
pub struct Ssh {
    program: String,
    options: Vec<String>,
    destination: String,
}

impl Ssh {
    /// `command` is how ssh is called, such as `ssh -i KEY`.
    pub fn new(command: &str, destination: &str) -> Result<Ssh, CoordError> {
        if destination.is_empty() || destination.starts_with('-') {
            return Err(CoordError::usage(format!("`{destination}` is no host of ssh")));
        }
        let mut words = command.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or_else(|| CoordError::usage("`--ssh` names no program"))?;
        let mut options: Vec<String> = words.collect();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let control = runtime.join(format!("baton-{}-%C", std::process::id()));
        for option in [
            "ControlMaster=auto".to_owned(),
            format!("ControlPath={}", control.display()),
            format!("ControlPersist={PERSIST_SECONDS}"),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        Ok(Ssh { program, options, destination: destination.to_owned() })
    }

    /// The address or name that ssh would dial.
    pub fn address(&self) -> Option<String> {
        let out =
            Command::new(&self.program).args(&self.options).args(["-G", "--", &self.destination]).output().ok()?;
        let text = String::from_utf8_lossy(&out.stdout);
        text.lines().find_map(|line| line.strip_prefix("hostname ")).map(|name| name.trim().to_owned())
    }

    /// Runs a script on the host, as root, and yields what it prints. Its own complaints are shown as they come.
    pub fn run(&self, script: &str, args: &[&str]) -> Result<String, CoordError> {
        let words: Vec<String> = args.iter().map(|word| shell_quoted(word)).collect();
        let line = format!(
            "if [ \"$(id -u)\" = 0 ]; then exec sh -s -- {0}; else exec sudo -n sh -s -- {0}; fi",
            words.join(" ")
        );
        self.ask(&line, script.as_bytes())
    }

    /// The caller's SSH_CONNECTION, which sudo would hide.
    pub fn connection(&self) -> Result<String, CoordError> {
        Ok(self.ask("printf %s \"$SSH_CONNECTION\"", b"")?.trim().to_owned())
    }

    /// Puts a file on the host, in the place of what was there, in one step.
    pub fn put(&self, content: &[u8], path: &str, mode: &str, owner: &str) -> Result<(), CoordError> {
        let [path, mode, owner] = [path, mode, owner].map(shell_quoted);
        // umask first: a secret is never readable by others, not even for a moment.
        let script = format!(
            "set -e; umask 077; mkdir -p -m 755 \"$(dirname {path})\"; cat >{path}.new; chown {owner} {path}.new; \
             chmod {mode} {path}.new; mv -f {path}.new {path}"
        );
        let line = format!(
            "if [ \"$(id -u)\" = 0 ]; then exec sh -c {0}; else exec sudo -n sh -c {0}; fi",
            shell_quoted(&script)
        );
        self.ask(&line, content).map(drop)
    }

    fn ask(&self, line: &str, input: &[u8]) -> Result<String, CoordError> {
        let failed = |error: io::Error| {
            CoordError::new(Exit::Preflight, format!("run {} {}", self.program, self.destination)).because(error)
        };
        let mut command = Command::new(&self.program);
        command.args(&self.options).args(["--", &self.destination, line]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(failed)?;
        // A script prints a few lines only, so that its output waits in the pipe until its input is written.
        let fed = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
        let out = child.wait_with_output().map_err(failed)?;
        if !out.status.success() {
            let error = CoordError::new(Exit::Preflight, format!("{}: {}", self.destination, out.status));
            return Err(error.hint(format!(
                "see what it says above; `{} {} sudo -n true` must work, or log in as root@HOST",
                self.program, self.destination
            )));
        }
        fed.map_err(failed)?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

/// Ends the shared connection; nothing is left if that fails but a connection that ends by itself.
impl Drop for Ssh {
    fn drop(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.options).args(["-O", "exit", "--", &self.destination]);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Quotes a word for a POSIX shell.
fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_in_a_shell() {
        let word = "a 'b' $(c) \"d\"\\";
        let out = Command::new("sh").args(["-c", &format!("printf %s {}", shell_quoted(word))]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), word);
    }

    #[test]
    fn an_option_is_not_taken_for_a_host() {
        assert!(Ssh::new("ssh", "-oProxyCommand=x").is_err());
        assert!(Ssh::new(" ", "host").is_err());
    }
}
