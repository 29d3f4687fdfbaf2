//! A process of this host, told apart from a later one with the same number by when it started.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that was alive when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    /// Clock ticks since boot.
    started: u64,
}

impl Process {
    /// Looks a process up. None: it is gone, or it is not visible from here, as with a server in a container.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        started(&stat).map(|started| Process { pid, started })
    }

    /// Tells whether it still runs. One that only waits to be reaped does not.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid) == Some(*self)
    }

    /// Asks it to end.
    pub fn terminate(&self) -> std::io::Result<()> {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        // The descriptor holds on to the process: checked after it was opened, the signal cannot reach another.
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        if !self.is_alive() {
            return Err(gone());
        }
        Ok(pidfd_send_signal(&handle, Signal::TERM)?)
    }
}

/// Reads the start time from `/proc/PID/stat`, unless the process has ended.
fn started(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // The start time is field 22; the state was field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_others_are_not_taken_for_it() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { started: own.started + 1, ..own }.is_alive());
        assert_eq!(Process::of(u32::MAX), None);
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = |state: &str| format!("7 (a) b (c) {state} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 4 0 123456 1 2 3");
        assert_eq!(started(&stat("S")), Some(123_456));
        assert_eq!(started(&stat("Z")), None, "ended, but not yet reaped");
        assert_eq!(started("7 (x"), None);
        assert_eq!(started("7 (x) S 1 2"), None);
    }

    #[test]
    fn a_process_that_waits_to_be_reaped_counts_as_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        process.terminate().unwrap();
        while process.is_alive() {
            std::thread::yield_now();
        }
        assert!(process.terminate().is_err());
        child.wait().unwrap();
    }
}
